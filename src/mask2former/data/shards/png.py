"""Encode maps as PNG, several times as fast as Pillow, which tries every filter on every row.

Maps repeat the row above nearly everywhere, so the difference to it is what compresses.

Source:
    PNG specification (W3C): signature, chunks, colour types 0 (grey) and 2 (RGB), filter 2 (up).
"""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB = 0, 2
UP = 2


def as_png(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    """Encode grey of 8 or 16 bits, (h, w), or RGB, (h, w, 3)."""
    height, width = pixels.shape[:2]
    color = GREY if pixels.ndim == 2 else RGB
    rows = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder(">")).view(np.uint8)
    rows = rows.reshape(height, -1)
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    is_bytes = rows.shape[1] == width
    level, strategy = (1, zlib.Z_RLE) if is_bytes else (6, zlib.Z_DEFAULT_STRATEGY)
    compressor = zlib.compressobj(level, strategy=strategy)
    content = compressor.compress(filtered.data) + compressor.flush()
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, color, 0, 0, 0)
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", content), _chunk(b"IEND", b""))
    return SIGNATURE + b"".join(chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(name))
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)
