"""Results as JSON values, and back, exactly equal.

Maps are compressed runs (`masks.runs`), masks COCO run lengths, segments lists of their fields.
"""

from typing import Any

import torch

from mask2former.masks.runs import decode_runs, encode_runs
from mask2former.tasks import Task
from mask2former.types import InstanceResult, PanopticResult, Result, Segment, SemanticResult


def encode_result(result: Result) -> dict[str, Any]:
    """What `decode_result` reads, of values that JSON has."""
    if isinstance(result, InstanceResult):
        size = [result.height, result.width]
        masks = [rle["counts"].decode() for rle in result.rles]
        return {"size": size, "masks": masks, "segments": _rows(result.segments)}
    if isinstance(result, PanopticResult):
        return {**_encode_map(result.segment_map), "segments": _rows(result.segments)}
    return _encode_map(result.label_map)


def decode_result(task: Task, content: dict[str, Any]) -> Result:
    """The result that was encoded.

    Args:
        task: That it is of.
        content: From `encode_result`, maybe through a JSON file.

    Raises:
        ValueError, KeyError, TypeError: The content is damaged.
    """
    height, width = content["size"]
    if task == "semantic":
        return SemanticResult(torch.from_numpy(decode_runs(content["map"], height, width)))
    segments = [
        Segment(id_, class_id, score, area, tuple(box))
        for id_, class_id, score, area, box in content["segments"]
    ]
    if task == "panoptic":
        ids = torch.from_numpy(decode_runs(content["map"], height, width))
        return PanopticResult(ids, segments)
    if task == "instance":
        rles = [{"size": [height, width], "counts": text.encode()} for text in content["masks"]]
        if len(rles) != len(segments):
            raise ValueError(f"there are {len(rles)} masks of {len(segments)} objects")
        return InstanceResult(height, width, rles, segments)
    raise ValueError(f"there is no task {task!r}")


def _encode_map(ids: torch.Tensor) -> dict[str, Any]:
    return {"size": list(ids.shape), "map": encode_runs(ids.cpu().numpy())}


def _rows(segments: list[Segment]) -> list[tuple[Any, ...]]:
    return [(s.id, s.class_id, s.score, s.area, s.box) for s in segments]
