"""Configurations as files and words: read, override, complete, write."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from pydantic import ValidationError

from mask2former.byte_sizes import parse_size
from mask2former.config import Run
from mask2former.config_errors import explain
from mask2former.files import replacing
from mask2former.presets import Preset, find_preset, published_backbone
from mask2former.tasks import TASKS, Task

Changes: TypeAlias = dict[str, Any]
"""What differs from a preset: nested keys of `config.Run`."""


class _Loader(yaml.SafeLoader):
    """YAML in which `1e-4` is a number and a key that comes twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            line = node.start_mark.line + 1
            raise ValueError(f"{', '.join(twice)} twice in the block of line {line}; keep one")
        return super().construct_mapping(node, deep)


# YAML 1.1 wants a dot in the mantissa and a sign in the exponent of every number.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


class _Dumper(yaml.SafeDumper):
    """Mappings as blocks, lists on one line."""


_Dumper.add_representer(
    list, lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, True)
)


def read_changes(path: Path) -> Changes:
    """Reads a user's YAML, or the complete `config.yaml` of a run.

    Raises:
        ValueError: The file is not a YAML mapping.
        FileNotFoundError: There is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no configuration at {path}; give a YAML file")
    changes = _load(path.read_text(encoding="utf-8"), str(path))
    if changes is None:
        return {}
    if not isinstance(changes, dict):
        raise ValueError(f"{path}: a {type(changes).__name__}; a configuration is `key: value`")
    return changes


def parse_overrides(pairs: Iterable[str]) -> Changes:
    """Reads `data.workers=2`: a dotted key and a YAML value. A later pair wins.

    Raises:
        ValueError: A pair is not of this form.
    """
    changes: Changes = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        names = key.strip().split(".")
        if not equals or not all(names):
            raise ValueError(f"{pair!r} is not key=value; write for example data.workers=2")
        value = _load(text, f"value of {key}")
        for name in reversed(names):
            value = {name: value}
        changes = merge(changes, value)
    return changes


def parse_batch(text: str | None, memory_limit: str | None) -> Changes:
    """The changes to `training` that `--batch` and `--memory-limit` mean.

    Args:
        text: A number of images, or "auto": the preset's batch, in passes that fit into memory.
        memory_limit: A size; with it passes are planned as well.

    Raises:
        ValueError: It is something else.
    """
    changes: Changes = {}
    if text is not None and text.lower() == "auto":
        changes["fit_memory"] = "auto"
    elif text is not None:
        if not text.isdecimal() or int(text) == 0:
            raise ValueError(f"--batch {text}: no number of images; give one such as 8, or auto")
        changes["batch_size"] = int(text)
    if memory_limit is not None:
        changes["fit_memory"] = parse_size(memory_limit)
    return changes


def without_plan(written: Mapping[str, Any], later: Iterable[Mapping[str, Any]]) -> Changes:
    """A run's own configuration, without what was planned where another plan is asked for.

    What a plan chose would otherwise bound the next one, though a larger machine can do with less.

    Args:
        written: Of the run, as `read_changes` gives it.
        later: Changes to it, of which one may ask with `training.fit_memory`.
    """
    part, *asked = (changes.get("training") for changes in (written, *later))
    if not isinstance(part, Mapping) or not any(
        isinstance(training, Mapping) and training.get("fit_memory") for training in asked
    ):
        return dict(written)
    planned = ("images_per_pass", "checkpoint_activations")
    kept = {name: value for name, value in part.items() if name not in planned}
    return {**written, "training": kept}


def merge(changes: Mapping[str, Any], later: Mapping[str, Any]) -> Changes:
    """Both, key by key; `later` wins.

    Some keys exclude others, so that naming one is enough: `steps` and `epochs` replace each
    other, and so do `path` and `paths`, its older and its newer name; a part of another `kind`
    replaces all of the earlier one.
    """
    merged = dict(changes)
    for key, value in later.items():
        earlier = merged.get(key)
        if isinstance(value, Mapping) and isinstance(earlier, Mapping):
            replaces = key == "augmentation" and value.get("kind") not in (
                None,
                earlier.get("kind"),
            )
            merged[key] = dict(value) if replaces else merge(earlier, value)
        else:
            merged[key] = value
    for length, other in (("steps", "epochs"), ("epochs", "steps")):
        if later.get(length) is not None and other not in later and other in merged:
            merged[other] = None
    for name, other in (("path", "paths"), ("paths", "path")):
        if name in later and other not in later:
            merged.pop(other, None)
    return merged


def without_none(changes: Mapping[str, Any]) -> Changes:
    """Without keys whose value is none, and without the parts that this leaves empty."""
    kept = {
        key: without_none(value) if isinstance(value, Mapping) else value
        for key, value in changes.items()
    }
    return {key: value for key, value in kept.items() if value is not None and value != {}}


def compose_run(changes: Mapping[str, Any], tasks_in_data: Callable[[], Sequence[Task]]) -> Run:
    """Completes changes to a run: preset first, then its backbone, then everything else.

    Without a preset, the general one of the task is meant; without a task, the preset's only one,
    or the natural one of the data.

    Args:
        changes: As read from a file or overrides, or both merged.
        tasks_in_data: Called only when the task cannot be known without the data.

    Raises:
        ValueError: All that is wrong, a line each.
    """
    preset, task = _choose_preset(changes, tasks_in_data)
    base = preset.run(task if task in preset.tasks else preset.tasks[0]).model_dump()
    name = _backbone_name(changes)
    if name is not None and name != base["model"]["backbone"]["name"]:
        base["model"]["backbone"] = published_backbone(name).model_dump()
    return parse_run(merge(base, {**changes, "preset": preset.name, "task": task}))


def parse_run(values: Mapping[str, Any]) -> Run:
    """Checks a complete configuration.

    Raises:
        ValueError: All that is wrong, a line each.
    """
    try:
        return Run.model_validate(values)
    except ValidationError as error:
        raise ValueError(explain(error, Run)) from error


def read_run(path: Path) -> Run:
    """Reads a complete configuration, such as `write_run` writes."""
    return parse_run(read_changes(path))


def format_run(run: Run) -> str:
    """The complete configuration as YAML."""
    return yaml.dump(run.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, width=100)


def write_run(run: Run, path: Path) -> None:
    """Writes every field; `read_run` gives back an equal run."""
    with replacing(path) as unfinished:
        unfinished.write_text(format_run(run), encoding="utf-8")


def _load(text: str, source: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a subclass of SafeLoader
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{source}: {' '.join(str(error).split())}") from error


def _choose_preset(
    changes: Mapping[str, Any], tasks_in_data: Callable[[], Sequence[Task]]
) -> tuple[Preset, Any]:
    """The preset and the task; a task that there is not is left for `parse_run` to name."""
    task = changes.get("task")
    if changes.get("preset") is None:
        task = task or tasks_in_data()[0]
        return find_preset(task if task in TASKS else TASKS[0]), task
    preset = find_preset(str(changes["preset"]))
    if task is None:
        task = preset.tasks[0] if len(preset.tasks) == 1 else tasks_in_data()[0]
    if task in TASKS and task not in preset.tasks:
        raise ValueError(
            f"preset {preset.name} trains {', '.join(preset.tasks)}, not {task}; "
            f"see `mask2former presets` for another"
        )
    return preset, task


def _backbone_name(changes: Mapping[str, Any]) -> str | None:
    part: Any = changes
    for key in ("model", "backbone", "name"):
        part = part.get(key) if isinstance(part, Mapping) else None
    return part if isinstance(part, str) else None
