"""What counts as a lack of memory, what is said of it, and the next smaller step."""

import errno
from pathlib import Path

import numpy as np
import pytest
import torch

from mask2former.config import Run
from mask2former.presets import find_preset
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
    told = explain_out_of_memory(error, run, Path("runs/a b"), images=4, step=7).splitlines()
    assert told[0] == (
        "memory ran out in step 7 (CUDA out of memory. Tried to allocate 20.00 MiB.). In order of "
        "effect:"
    )
    names = [line.split(" is ")[0].strip() for line in told[1:-1]]
    assert names == [
        "training.images_per_pass", "training.checkpoint_activations", "data.augmentation.crop",
        "model.backbone.name", "loss.num_points", "model.num_queries",
    ]  # fmt: skip
    assert told[3].startswith("  data.augmentation.crop is 128 x 128 px: --set data.augmentation")
    assert told[-1] == (
        "  go on with: mask2former train --output 'runs/a b' --resume "
        "--set training.images_per_pass=2"
    )


def test_an_evaluation_has_knobs_of_its_own() -> None:
    told = explain_out_of_memory(MemoryError(), tiny(), Path("r"), images=4)
    assert "in an evaluation (MemoryError)" in told
    assert "data.test_size.short_side is 128 px: --set data.test_size.short_side=64" in told
    assert "images_per_pass" not in told
