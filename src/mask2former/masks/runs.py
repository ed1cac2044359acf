"""Maps of whole numbers as short text: runs of equal pixels along the rows, compressed."""

import base64
import zlib

import numpy as np
from jaxtyping import Int64, Integer

TYPES = {code: np.dtype(f"<{code}") for code in ("u1", "u2", "u4", "i8")}
"""How numbers are stored; the first that holds them all."""


def encode_runs(ids: Integer[np.ndarray, "h w"]) -> str:
    """Text that `decode_runs` reads, in ASCII.

    It names the types of values and lengths, then has both one after the other, deflated, in
    base 64.
    """
    flat = ids.ravel()
    starts = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat.size:
        starts = np.concatenate(([0], starts))
    parts = [_narrow(flat[starts]), _narrow(np.diff(starts, append=flat.size))]
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
