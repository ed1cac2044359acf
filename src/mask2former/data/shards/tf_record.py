"""TFRecord files: byte strings one after the other, each with its length and checksums.

Source:
    tensorflow/core/lib/io/record_writer.h: length (8 bytes, little-endian), masked CRC-32C of the
    length, the bytes, masked CRC-32C of the bytes.
"""

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

from mask2former.data.shards.crc32c import crc32c

HEADER = struct.Struct("<QI")
FOOTER = struct.Struct("<I")
MASK_DELTA = 0xA282EAD8
COMPRESSED_STARTS = (b"\x1f\x8b", b"\x78\x9c", b"\x78\x01", b"\x78\xda")
"""Of gzip and zlib, with which TensorFlow may write."""


def frame(content: bytes) -> bytes:
    """One record, ready to be written."""
    length = struct.pack("<Q", len(content))
    return b"".join((length, _masked(length), content, _masked(content)))


def is_record_file(path: Path) -> bool:
    """Whether a file starts with a record."""
    with path.open("rb") as file:
        return _is_header(file.read(HEADER.size))


def records_of(path: Path, *, check: bool = False) -> Iterator[tuple[int, memoryview]]:
    """(offset, bytes) of each record; only what is looked at is read from the disk.

    Args:
        path: Of the file.
        check: Compare the checksum of the bytes too, which reads all of them.

    Raises:
        ValueError: The file is compressed, cut off, or damaged.
    """
    if path.stat().st_size == 0:
        return  # nothing to map
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as content,
    ):
        start = 0
        while start < len(content):
            end = _end_of_record(path, content, start)
            first = start + HEADER.size
            with content[first : end - FOOTER.size] as record:
                if check and _masked(bytes(record)) != content[end - FOOTER.size : end]:
                    raise ValueError(
                        f"{path}: the record at byte {start} does not have its checksum; the "
                        f"file is damaged: restore it or write it again"
                    )
                yield first, record
            start = end


def _end_of_record(path: Path, content: memoryview, start: int) -> int:
    header = bytes(content[start : start + HEADER.size])
    if start == 0 and header.startswith(COMPRESSED_STARTS) and not _is_header(header):
        raise ValueError(
            f"{path} is compressed as a whole, which leaves no place to start reading; write it "
            f"again without compression"
        )
    if len(header) == HEADER.size and not _is_header(header):
        raise ValueError(
            f"{path}: the length of the record at byte {start} does not have its checksum; the "
            f"file is damaged or no TFRecord file: restore it or write it again"
        )
    end = start + HEADER.size + FOOTER.size
    if len(header) == HEADER.size:
        end += HEADER.unpack(header)[0]
    if end > len(content):
        raise ValueError(
            f"{path} ends inside the record at byte {start} ({len(content)} of {end} bytes); it "
            f"is cut off: restore it or write it again"
        )
    return end


def _is_header(header: bytes) -> bool:
    return len(header) == HEADER.size and _masked(header[:8]) == header[8:]


def _masked(content: bytes) -> bytes:
    crc = crc32c(content)
    return FOOTER.pack(((crc >> 15 | crc << 17) + MASK_DELTA) & 0xFFFFFFFF)
