"""Weights & Biases and MLflow; this file is imported where one of them is asked for."""

import math
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mask2former.config import Run
from mask2former.files import replacing

PROJECT = "mask2former"
"""Of runs whose project or experiment nobody named in the environment."""
MLFLOW_DATABASE = "mlflow.db"
MLFLOW_PICTURES = "mlflow_artifacts"
MOST_PARAMETERS = 100
"""That MLflow takes at once."""


class Wandb:
    """A run at Weights & Biases.

    Its own variables say the rest: WANDB_PROJECT, WANDB_ENTITY, WANDB_MODE=offline.
    """

    def __init__(self, output: Path) -> None:
        """Start, or go on with the run that this folder began.

        Args:
            output: The run's folder.
        """
        import wandb  # pyrefly: ignore[missing-import] - optional

        self._picture = wandb.Image
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=output.resolve().name,
            id=_remembered_id(output / "wandb_id.txt", secrets.token_hex(4)),
            resume="allow",
            dir=output,
        )
        # W&B's own steps cannot go back, as those of a resumed run do.
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        known = {name: value for name, value in values.items() if not math.isnan(value)}
        self._run.log({**known, "step": step})

    def log_picture(self, name: str, step: int, path: Path) -> None:
        self._run.log({name: self._picture(str(path)), "step": step})

    def log_config(self, run: Run) -> None:
        self._run.config.update(run.model_dump(mode="json"), allow_val_change=True)

    def close(self) -> None:
        self._run.finish()


class Mlflow:
    """A run of MLflow: at MLFLOW_TRACKING_URI, or else in a database in the run's folder.

    The experiment is MLFLOW_EXPERIMENT_NAME, or else the package's name.
    """

    def __init__(self, output: Path) -> None:
        """Start, or go on with the run that this folder began.

        Args:
            output: The run's folder.
        """
        from mlflow import MlflowClient  # pyrefly: ignore[missing-import] - optional
        from mlflow.entities import Metric, Param  # pyrefly: ignore[missing-import] - likewise

        self._metric, self._parameter = Metric, Param
        folder = output.resolve()
        remote = os.environ.get("MLFLOW_TRACKING_URI")
        self._client = MlflowClient(remote or f"sqlite:///{folder / MLFLOW_DATABASE}")
        experiment = _experiment(self._client, None if remote else folder / MLFLOW_PICTURES)
        remembered = output / "mlflow_id.txt"
        self._is_new = not remembered.is_file()
        if self._is_new:
            made = self._client.create_run(experiment, run_name=folder.name).info.run_id
            self._id = _remembered_id(remembered, made)
        else:
            self._id = remembered.read_text(encoding="utf-8").strip()
            self._client.update_run(self._id, status="RUNNING")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        now = time.time_ns() // 1_000_000
        metrics = [self._metric(n, v, now, step) for n, v in values.items() if not math.isnan(v)]
        self._client.log_batch(self._id, metrics=metrics)

    def log_picture(self, name: str, step: int, path: Path) -> None:
        """As a file under the picture's name; its own name should tell the step."""
        self._client.log_artifact(self._id, str(path), f"{name}/step_{step:07d}")

    def log_config(self, run: Run) -> None:
        """Parameters by dotted key; those of a run that goes on cannot change."""
        if not self._is_new:
            return
        known = [
            self._parameter(key, str(value)) for key, value in _flat(run.model_dump(mode="json"))
        ]
        for start in range(0, len(known), MOST_PARAMETERS):
            self._client.log_batch(self._id, params=known[start : start + MOST_PARAMETERS])

    def close(self) -> None:
        self._client.set_terminated(self._id)


def _experiment(client: Any, pictures: Path | None) -> str:
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
    known = client.get_experiment_by_name(name)
    if known is not None:
        return known.experiment_id
    return client.create_experiment(name, None if pictures is None else pictures.as_uri())


def _remembered_id(path: Path, new: str) -> str:
    """The id in a file, or a new one that is written there."""
    if path.is_file():
        return path.read_text(encoding="utf-8").strip()
    with replacing(path) as unfinished:
        unfinished.write_text(new + "\n", encoding="utf-8")
    return new


def _flat(tree: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value
