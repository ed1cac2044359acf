"""TensorFlow's `tf.train.Example` without TensorFlow: named lists of bytes, floats or integers.

Source:
    Protocol Buffers wire format; tensorflow/core/example/{example,feature}.proto: Example.features
    = 1, Features.feature = 1 (a map: key = 1, value = 2), Feature.{bytes,float,int64}_list =
    1, 2, 3, each with value = 1.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Feature: TypeAlias = Sequence[bytes] | NDArray[np.float32] | NDArray[np.int64]
"""Bytes by byte string; floats and integers as an array."""
Span: TypeAlias = tuple[int, int]
"""(start, length) in bytes, in the buffer that was read."""
FeatureSpans: TypeAlias = list[Span] | NDArray[np.float32] | NDArray[np.int64]
"""As `Feature`, but byte strings by their place."""

VARINT, EIGHT_BYTES, DELIMITED, FOUR_BYTES = 0, 1, 2, 5
LONGEST_VARINT = 10
"""Bytes of a 64-bit number."""
BYTES_LIST, FLOAT_LIST, INT64_LIST = 1, 2, 3


def encode_example(features: Mapping[str, Feature]) -> bytes:
    """Serialise features, in order of their names as TensorFlow's deterministic writer does."""
    entries = [
        _delimited(1, _delimited(1, name.encode()), _delimited(2, *_encode_list(features[name])))
        for name in sorted(features)
    ]
    return _delimited(1, *entries)


def decode_example(content: bytes | memoryview) -> dict[str, FeatureSpans]:
    """Find the features; byte strings are not copied.

    Raises:
        ValueError: The bytes are no Example.
    """
    try:
        found = {}
        for _, features, end in _fields(content, 0, len(content), wanted=1):
            for _, entry, entry_end in _fields(content, features, end, wanted=1):
                name, feature = _decode_entry(content, entry, entry_end)
                found[name] = feature
        return found
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"these bytes are no tf.train.Example ({error})") from error


def take(content: bytes | memoryview, span: Span) -> bytes:
    """Copy one byte string out of the buffer."""
    start, length = span
    return bytes(content[start : start + length])


def _encode_list(feature: Feature) -> list[bytes]:
    if not isinstance(feature, np.ndarray):
        items = [_delimited(1, item) for item in feature]
        return [_delimited(BYTES_LIST, *items)]
    if feature.dtype == np.float32:
        packed = feature.astype("<f4").tobytes()
        return [_delimited(FLOAT_LIST, _delimited(1, packed) if packed else b"")]
    packed = b"".join(_varint(value & 0xFFFFFFFFFFFFFFFF) for value in feature.tolist())
    return [_delimited(INT64_LIST, _delimited(1, packed) if packed else b"")]


def _delimited(field: int, *parts: bytes) -> bytes:
    length = sum(len(part) for part in parts)
    return b"".join((bytes([field << 3 | DELIMITED]), _varint(length), *parts))


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def _decode_entry(content: bytes | memoryview, start: int, end: int) -> tuple[str, FeatureSpans]:
    """Name and value of one entry of the map."""
    name, feature = "", []
    for field, first, last in _fields(content, start, end):
        if field == 1:
            name = take(content, (first, last - first)).decode()
        elif field == 2:
            for kind, values, values_end in _fields(content, first, last):
                feature = _decode_list(content, kind, values, values_end)
    return name, feature


def _decode_list(content: bytes | memoryview, kind: int, start: int, end: int) -> FeatureSpans:
    if kind == BYTES_LIST:
        return [(first, last - first) for _, first, last in _fields(content, start, end, wanted=1)]
    if kind == FLOAT_LIST:
        # packed or one by one, a value is four bytes
        parts = [take(content, (a, b - a)) for _, a, b in _fields(content, start, end, wanted=1)]
        return np.frombuffer(b"".join(parts), "<f4").astype(np.float32)
    values: list[int] = []
    for _, first, last in _fields(content, start, end, wanted=1):
        while first < last:
            value, first = _read_varint(content, first)
            value &= (1 << 64) - 1
            values.append(value - (1 << 64) if value >> 63 else value)
    return np.array(values, np.int64)


def _fields(
    content: bytes | memoryview, start: int, end: int, *, wanted: int | None = None
) -> Iterator[tuple[int, int, int]]:
    """(field, start, end) of the value of each field of a message.

    Raises:
        ValueError: A field is of a kind that no Example has, or ends beyond the message.
    """
    while start < end:
        tag, start = _read_varint(content, start)
        kind = tag & 7
        if kind == VARINT:
            _, stop = _read_varint(content, start)
        elif kind == DELIMITED:
            length, start = _read_varint(content, start)
            stop = start + length
        elif kind in (FOUR_BYTES, EIGHT_BYTES):
            stop = start + (4 if kind == FOUR_BYTES else 8)
        else:
            raise ValueError(f"these bytes are no tf.train.Example (wire type {kind})")
        if stop > end:
            raise ValueError("these bytes are no tf.train.Example (a field ends beyond its end)")
        if wanted in (None, tag >> 3):
            yield tag >> 3, start, stop
        start = stop


def _read_varint(content: bytes | memoryview, start: int) -> tuple[int, int]:
    """The value, and where it ends."""
    value = 0
    for shift in range(0, LONGEST_VARINT * 7, 7):
        byte = content[start]
        start += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, start
    raise ValueError("these bytes are no tf.train.Example (a number has no end)")
