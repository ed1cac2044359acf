"""What counts as a lack of memory, what is said of it, and the next smaller step."""

import errno
from pathlib import Path

import numpy as np
import pytest
import torch

from mask2former.config import Run
from mask2former.config_io import compose_run, merge, parse_overrides
from mask2former.presets import find_preset, published_backbone
from mask2former.training.memory.knobs import (
    count_parameters,
    evaluation_knobs,
    image_knobs,
    worker_knobs,
)
from mask2former.training.memory.out_of_memory import (
    explain_out_of_memory,
    is_out_of_memory,
    smaller,
)


def tiny(**training: object) -> Run:
    run = find_preset("tiny").run("panoptic")
    return run.model_copy(update={"training": run.training.model_copy(update=training)})


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("HIP out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.02 GiB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        RuntimeError("std::bad_alloc"),
    ],
    ids=str,
)
def test_a_lack_of_memory_is_known_by_type_or_words(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize("allocate", [torch.empty, np.empty])
def test_what_the_libraries_really_raise_is_known(allocate) -> None:
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        allocate(2**55)
    assert is_out_of_memory(caught.value)


def test_an_error_that_came_of_it_counts_too() -> None:
    error = ValueError("step failed")
    assert not is_out_of_memory(error)
    error.__cause__ = MemoryError()
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        OSError(errno.ENOSPC, "No space left on device"),
        NotImplementedError("out of memory handling"),
        ValueError("learning to allocate memory is out of memory's reach"),
        KeyboardInterrupt(),
    ],
    ids=str,
)
def test_other_errors_do_not_count(error: BaseException) -> None:
    assert not is_out_of_memory(error)


def test_a_step_shrinks_by_halves_then_by_recomputing_then_not() -> None:
    run: Run | None = tiny()
    seen = []
    while (run := smaller(run, images=6)) is not None:
        seen.append((run.training.images_per_pass, run.training.checkpoint_activations))
    assert seen == [(3, False), (1, False), (1, True)]


def test_more_images_a_pass_than_there_are_do_not_delay_shrinking() -> None:
    less = smaller(tiny(images_per_pass=64), images=4)
    assert less is not None
    assert less.training.images_per_pass == 2


def test_what_cannot_be_compiled_is_not_proposed() -> None:
    # the tiny preset's batch norm learns
    assert smaller(tiny(images_per_pass=1, compile=True), images=1) is None


def test_the_knobs_are_told_in_order_with_values_and_a_command() -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nmore")
    run = tiny()
    told = explain_out_of_memory(
        error, run, output=Path("runs/a b"), images=4, where="step", step=7
    ).splitlines()
    assert told[0] == (
        "memory ran out in step 7 (CUDA out of memory. Tried to allocate 20.00 MiB.). In order of "
        "effect:"
    )
    names = [line.split(" is ")[0].strip() for line in told[1:-1]]
    assert names == [
        "training.images_per_pass", "training.checkpoint_activations", "data.augmentation.crop",
        "loss.num_points", "model.num_queries",
    ]  # fmt: skip
    assert told[3].startswith("  data.augmentation.crop is 128 x 128 px: --set data.augmentation")
    assert told[-1] == (
        "  go on with: mask2former train --output 'runs/a b' --resume "
        "--set training.images_per_pass=2"
    )


def test_an_evaluation_has_knobs_of_its_own() -> None:
    told = explain_out_of_memory(
        MemoryError(), tiny(), output=Path("r"), images=4, where="evaluation", step=3
    )
    assert "in an evaluation (MemoryError)" in told
    assert "data.test_size.short_side is 128 px: --set data.test_size.short_side=64" in told
    assert "images_per_pass" not in told


def with_workers(workers: int) -> Run:
    run = tiny()
    return run.model_copy(update={"data": run.data.model_copy(update={"workers": workers})})


@pytest.mark.parametrize(
    ("error", "first"),
    [
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "data.workers=2"),
        (torch.OutOfMemoryError("CUDA out of memory"), "training.images_per_pass=2"),
    ],
    ids=["of a process", "of a device"],
)
def test_what_happens_beside_steps_is_no_evaluation(error: Exception, first: str) -> None:
    run = with_workers(4)
    told = explain_out_of_memory(error, run, output=Path("r"), images=4, where="elsewhere")
    assert told.startswith("memory ran out outside of steps and evaluations (")
    assert "data.workers is 4: --set data.workers=2" in told
    assert "test_size" not in told
    assert told.endswith(f"--resume --set {first}")


def with_backbone(name: str) -> Run:
    run = tiny()
    model = run.model.model_copy(update={"backbone": published_backbone(name)})
    return run.model_copy(update={"model": model})


@pytest.mark.parametrize(
    ("name", "is_larger"),
    [("resnet10t", False), ("resnet50", False), ("resnet101", True), ("swin_large", True)],
)
def test_a_backbone_is_proposed_to_runs_with_a_larger_one(name: str, is_larger: bool) -> None:
    knobs = {knob.options: knob for knob in image_knobs(with_backbone(name))}
    assert ("--backbone resnet50" in knobs) == is_larger
    if is_larger:
        assert knobs["--backbone resnet50"].is_for_new_run


def test_parameters_are_those_that_are_known_of_a_backbone() -> None:
    # torchvision: 25 557 032 with a classifier of 1000 x 2048 weights and 1000 biases; frozen
    # norms have buffers instead of 2 x 26 560 parameters
    assert count_parameters("resnet50") == 25_557_032 - 1000 * 2049 - 2 * 26_560


def test_options_of_a_knob_make_the_run_that_it_says() -> None:
    run = with_workers(4)
    for knob in [*image_knobs(run), *worker_knobs(run), *evaluation_knobs(run)]:
        changes = parse_overrides([knob.options.removeprefix("--set ")])
        composed = compose_run(merge(run.model_dump(), changes), lambda: ("panoptic",))
        assert composed == knob.changed
        assert composed != run


def test_what_cannot_be_less_is_not_proposed() -> None:
    run = with_workers(0)
    augmentation = run.data.augmentation.model_copy(update={"crop": (32, 32)})
    least = run.model_copy(
        update={
            "data": run.data.model_copy(update={"augmentation": augmentation}),
            "loss": run.loss.model_copy(update={"num_points": 1}),
            "model": run.model.model_copy(update={"num_queries": 1}),
        }
    )
    assert [*image_knobs(least), *worker_knobs(least)] == []
