"""Mask2Former in PyTorch: semantic, instance and panoptic segmentation.

The public names are imported when they are first used, so that `import mask2former` costs
nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mask2former.config import Run
    from mask2former.config_io import compose_run
    from mask2former.data.open import open_dataset
    from mask2former.evaluation.evaluate import evaluate
    from mask2former.inference.segmenter import Segmenter
    from mask2former.model.mask2former import Mask2Former
    from mask2former.presets import find_preset
    from mask2former.training.train import train
    from mask2former.types import Classes, MaskPrediction

_MODULES = {
    "Classes": "types",
    "Mask2Former": "model.mask2former",
    "MaskPrediction": "types",
    "Run": "config",
    "Segmenter": "inference.segmenter",
    "compose_run": "config_io",
    "evaluate": "evaluation.evaluate",
    "find_preset": "presets",
    "open_dataset": "data.open",
    "train": "training.train",
}

__all__ = [
    "Classes",
    "Mask2Former",
    "MaskPrediction",
    "Run",
    "Segmenter",
    "compose_run",
    "evaluate",
    "find_preset",
    "open_dataset",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("mask2former")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
