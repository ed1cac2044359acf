"""Results as JSON values, and back, exactly equal.

Maps are runs of equal pixels as compressed text, masks COCO run lengths, segments lists of their
fields.
"""

import base64
import zlib
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, Integer

from mask2former.masks.runs import find_runs
from mask2former.tasks import Task
from mask2former.types import InstanceResult, PanopticResult, Result, Segment, SemanticResult

TYPES = {code: np.dtype(f"<{code}") for code in ("u1", "u2", "u4", "i8")}
"""How the numbers of runs are stored; the first that holds them all."""


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


def encode_runs(ids: Integer[np.ndarray, "h w"]) -> str:
    """A map of whole numbers as text that `decode_runs` reads, in ASCII.

    Runs go along the rows. The text names the types of values and lengths, then has both one after
    the other, deflated, in base 64.
    """
    flat = ids.ravel()
    starts, lengths = find_runs(flat)
    parts = [_narrow(flat[starts]), _narrow(lengths)]
    types = "".join(part.dtype.str[1:] for part in parts)
    packed = zlib.compress(b"".join(part.tobytes() for part in parts))
    return types + base64.b64encode(packed).decode()


def decode_runs(text: str, height: int, width: int) -> Int64[np.ndarray, "h w"]:
    """The map that was encoded.

    Args:
        text: From `encode_runs`.
        height: Of the map in pixels.
        width: Of the map in pixels.

    Raises:
        ValueError: The text is damaged, or of a map of another size.
    """
    try:
        value_type, length_type = TYPES[text[:2]], TYPES[text[2:4]]
        packed = zlib.decompress(base64.b64decode(text[4:], validate=True))
    except (KeyError, ValueError, zlib.error) as error:
        raise ValueError(
            f"cannot read the runs {text[:20]!r}... ({type(error).__name__}: {error}); they are "
            f"damaged"
        ) from error
    count, rest = divmod(len(packed), value_type.itemsize + length_type.itemsize)
    values = np.frombuffer(packed, value_type, count).astype(np.int64)
    lengths = np.frombuffer(packed, length_type, count, count * value_type.itemsize)
    if rest or (lengths < 0).any() or lengths.sum(dtype=np.int64) != height * width:
        raise ValueError(
            f"the runs cover {lengths.sum(dtype=np.int64)} pixels, not {height} x {width} = "
            f"{height * width}; they are damaged or of another map"
        )
    return np.repeat(values, lengths.astype(np.int64)).reshape(height, width)


def _narrow(numbers: Integer[np.ndarray, " n"]) -> Integer[np.ndarray, " n"]:
    low, high = int(numbers.min(initial=0)), int(numbers.max(initial=0))
    fitting = (t for t in TYPES.values() if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
    return numbers.astype(next(fitting))
