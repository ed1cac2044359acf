"""What a run leaves of a step that was not finite, so that it can be looked at again elsewhere.

`python -m mask2former.training.guards.evidence RUN/evidence/step_12` repeats the step and shows
what was not finite in it.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image

from mask2former.config import Run
from mask2former.config_io import parse_run
from mask2former.files import replacing
from mask2former.inference.device import find_device
from mask2former.inference.draw import draw_target
from mask2former.model.mask2former import Mask2Former
from mask2former.training.determinism import make_deterministic
from mask2former.training.guards.diagnosis import (
    Findings,
    ImageLosses,
    Work,
    describe_output,
    diagnose,
    faults_of,
)
from mask2former.training.log.pictures import side_by_side
from mask2former.training.model_options import apply_model_options
from mask2former.training.passes import Normalizers, make_criterion
from mask2former.training.states.state import write_state
from mask2former.types import Batch, Classes, Target
from mask2former.weights.build import build_model, fill

FORMAT = 1
"""Counts up when older files can no longer be read."""
FILE = "batch.pt"
BACKWARD_SHOWN = 20
"""Gradients that a report names."""


class EvidenceFolder(NamedTuple):
    """Where a run leaves its evidence."""

    path: Path
    """It need not be there yet."""
    run: Run
    classes: Classes

    def of_step(self, step: int, rank: int, world_size: int) -> Path:
        """The folder of one rank's share of a step."""
        name = f"step_{step}" if world_size == 1 else f"step_{step}_rank{rank}"
        return self.path / name


class Kept(NamedTuple):
    """What `batch.pt` holds."""

    step: int
    """As the run logs it, from 1; it was not finished."""
    rank: int
    run: Run
    classes: Classes
    model: Mask2Former
    """In training mode, with the weights of the step."""
    work: Work


def save_evidence(
    folder: Path, place: EvidenceFolder, model: Mask2Former, work: Work, *, step: int, rank: int
) -> None:
    """Write `batch.pt`, which alone is enough for `reproduce`, and pictures of the images.

    Args:
        folder: To write to.
        place: Of the run.
        model: With the weights of the step.
        work: What the rank did in it.
        step: As the run logs it.
        rank: Of this process.

    Raises:
        OSError: The disk is full, or the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "format": FORMAT,
        "step": step,
        "rank": rank,
        "run": place.run.model_dump_json(),
        "classes": json.dumps(asdict(place.classes)),
        "model": {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()},
        "images": [image.cpu() for image in work.batch.images],
        "targets": [[part.cpu() for part in target] for target in work.batch.targets],
        "image_ids": list(work.batch.image_ids),
        "seeds": list(work.batch.seeds),
        "normalizers": [float(number) for number in work.normalizers],
        "step_seed": work.step_seed,
        "images_per_pass": work.images_per_pass,
        "precision": work.precision,
        "scale": work.scale,
        "device": work.normalizers.num_masks.device.type,
    }
    with replacing(folder / FILE) as unfinished:
        write_state(content, unfinished)
    for number, (image, target) in enumerate(
        zip(work.batch.images, work.batch.targets, strict=True)
    ):
        pixels = image.permute(1, 2, 0).contiguous().cpu().numpy()
        on_cpu = Target(*(part.cpu() for part in target))
        pair = [Image.fromarray(pixels), draw_target(pixels, on_cpu, place.classes)]
        side_by_side(pair).save(folder / f"{number}.png")


def load_evidence(path: Path, device: str | None = None) -> Kept:
    """Read what `save_evidence` wrote, and build the model anew.

    Args:
        path: The folder of a step, or the file in it.
        device: As PyTorch names it; none: that of the run where there is one of its kind, else the
            CPU. On another kind random points differ.

    Raises:
        FileNotFoundError: Nothing lies there.
        ValueError: It is something else, or the device is not available.
    """
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(
            f"no evidence at {path}; give a folder such as RUN/evidence/step_12, or its {FILE}"
        )
    content = _read(file)
    where = find_device(_device_for(content["device"]) if device is None else device)
    run = parse_run(json.loads(content["run"]))
    lists = {name: tuple(values) for name, values in json.loads(content["classes"]).items()}
    classes = Classes(**lists)
    model = build_model(run.model, len(classes))
    fill(model, content["model"], str(file))
    eager = run.model_copy(update={"training": run.training.model_copy(update={"compile": False})})
    apply_model_options(model, eager, where.type, 1)
    work = _work(content, where)
    return Kept(content["step"], content["rank"], run, classes, model.to(where).train(), work)


def reproduce(path: Path, device: str | None = None) -> Findings:
    """Repeat a step that was not finite: forward, losses and backward.

    Seeds the generators of PyTorch as the step did.

    Args:
        path: The folder of the step, or the file in it.
        device: See `load_evidence`.

    Raises:
        FileNotFoundError: Nothing lies there.
        ValueError: It is something else, or the device is not available.
    """
    return _repeat(load_evidence(path, device))


def _repeat(kept: Kept) -> Findings:
    return diagnose(kept.model, make_criterion(kept.run), kept.work)


def report(findings: Findings, step: int) -> str:
    """All findings, as lines of text.

    Args:
        findings: Of one rank.
        step: As the run logs it.
    """
    first = findings.first_output
    weights, gradients = findings.bad_weights, findings.bad_gradients
    lines = [
        f"step {step}: " + ("all numbers are finite" if findings.is_clean else "not finite"),
        f"first output that is not finite: {describe_output(first) if first else 'none'}",
        f"weights that are not finite: {', '.join(weights) or 'none'}",
        f"gradients that are not finite, from the losses on: {len(gradients) or 'none'}",
        *(f"  {name}" for name in gradients[:BACKWARD_SHOWN]),
    ]
    if len(gradients) > BACKWARD_SHOWN:
        lines.append(f"  and {len(gradients) - BACKWARD_SHOWN} more")
    norm = f"norm of the gradients: {findings.gradient_norm:.5g}"
    lines.append(f"{norm}; the largest: {findings.largest_gradient or 'none'}")
    lines += ["", f"{'image':<24}{'layer':>6}{'class':>12}{'mask':>12}{'dice':>12}"]
    for image in findings.images:
        lines += _rows(image)
    return "\n".join(lines) + "\n"


def _rows(image: ImageLosses) -> list[str]:
    layers = zip(image.classification, image.mask, image.dice, strict=True)
    rows = [
        f"{image.image_id!s:<24}{layer:>6}" + "".join(f"{value:>12.5g}" for value in losses)
        for layer, losses in enumerate(layers)
    ]
    return rows + [f"  {fault}" for fault in faults_of(image)]


def _read(file: Path) -> dict[str, Any]:
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes fail in as many ways as there are readers of them
        raise ValueError(
            f"{file} cannot be read ({str(error).partition(chr(10))[0][:200]}); give the {FILE} "
            "that a run left"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(
            f"{file} is no evidence of format {FORMAT}; give the {FILE} that a run of this version "
            "left"
        )
    return content


def _device_for(kind: str) -> str:
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return kind if accelerator is not None and accelerator.type == kind else "cpu"


def _work(content: dict[str, Any], device: torch.device) -> Work:
    targets = [Target(*(part.to(device) for part in parts)) for parts in content["targets"]]
    images = [image.to(device) for image in content["images"]]
    numbers = [torch.tensor(number, device=device) for number in content["normalizers"]]
    return Work(
        Batch(images, targets, content["image_ids"], content["seeds"]),
        Normalizers(*numbers),
        content["step_seed"],
        content["images_per_pass"],
        content["precision"],
        content["scale"],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code is 0 where the step was repeated, whatever it gave."""
    parser = argparse.ArgumentParser(
        prog="python -m mask2former.training.guards.evidence",
        description="Repeat a step that was not finite and show what was not.",
    )
    parser.add_argument("path", type=Path, help="RUN/evidence/step_N, or the batch.pt in it")
    parser.add_argument("--device", help="cpu, cuda, ...; default: as the run, or else the CPU")
    options = parser.parse_args(arguments)
    try:
        kept = load_evidence(options.path, options.device)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if kept.run.training.deterministic:
        make_deterministic()
    sys.stdout.write(report(_repeat(kept), kept.step))
    return 0


if __name__ == "__main__":
    sys.exit(main())
