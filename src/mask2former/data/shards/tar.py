"""Shards as WebDataset reads them: plain tar files whose members share a name up to the first dot.

A sample is `{key}.jpg` (or whatever the image was), `{key}.json`, and `{key}.seg.png` and
`{key}.sem.png` where it has id maps. The first member, `__dataset__`, describes the data set;
WebDataset skips members named so.
"""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from mask2former.data.images import IMAGE_SUFFIXES
from mask2former.data.shards.hashed import HashedFile
from mask2former.data.shards.samples import DATASET, IMAGE, JSON, SEG, SEM, Part, Sample, to_json
from mask2former.data.sources import FileSlice

DESCRIPTION = "__dataset__"
SUFFIXES = {JSON: ".json", SEG: ".seg.png", SEM: ".sem.png"}
FOREIGN_SUFFIXES = {".mask.png": SEG, ".segmentation.png": SEG}
"""What others call a map of class ids."""
MODE = 0o644


class TarShard:
    """Writes samples one after the other; equal samples give equal files."""

    def __init__(self, file: HashedFile, description: dict[str, Any]) -> None:
        # without seeking or reading, tarfile needs no more than `write` and `tell`
        self._tar = tarfile.open(  # noqa: SIM115 `finish` closes it
            fileobj=cast("IO[bytes]", file), mode="w", format=tarfile.PAX_FORMAT
        )
        self._add(DESCRIPTION, to_json(description))

    def add(self, sample: Sample) -> dict[str, Part]:
        """Write a sample; where each of its parts lies in the file."""
        parts = {IMAGE: self._add(sample.key + sample.suffix, sample.image)}
        parts[JSON] = self._add(sample.key + SUFFIXES[JSON], sample.json)
        for part, png in sample.maps.items():
            parts[part] = self._add(sample.key + SUFFIXES[part], png)
        return parts

    def finish(self) -> None:
        """Write the end mark."""
        self._tar.close()

    def _add(self, name: str, content: bytes) -> Part:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        member.mode = MODE
        self._tar.addfile(member, io.BytesIO(content))
        blocks = -(-len(content) // tarfile.BLOCKSIZE)
        return self._tar.offset - blocks * tarfile.BLOCKSIZE, len(content)


class Scanned(NamedTuple):
    """A sample as the headers show it."""

    key: str
    image_name: str
    parts: dict[str, Part]


def scan_tar(path: Path) -> Iterator[dict[str, Part]]:
    """Where the parts of each sample lie, by the headers of the members."""
    for sample in scan_samples(path):
        yield sample.parts


def scan_samples(path: Path) -> Iterator[Scanned]:
    """Samples by the headers of their members; nothing else is read.

    Raises:
        ValueError: The file is no tar file, or is cut off.
    """
    key, name = "", ""
    parts: dict[str, Part] = {}
    for member, part in _members(path):
        if member == DESCRIPTION:
            parts[DATASET] = part
            continue
        folder, slash, rest = member.rpartition("/")
        stem, dot, suffix = rest.partition(".")
        if folder + slash + stem != key:
            if IMAGE in parts:
                yield Scanned(key, name, parts)
                parts = {}
            key = folder + slash + stem
            parts = {DATASET: parts[DATASET]} if DATASET in parts else {}
        kind = _kind_of(dot + suffix.lower())
        if kind == IMAGE and IMAGE in parts:
            kind = SEG if suffix.lower() == "png" else kind
        if kind is not None:
            parts.setdefault(kind, part)
            name = member if kind == IMAGE else name
    if IMAGE in parts:
        yield Scanned(key, name, parts)


def _members(path: Path) -> Iterator[tuple[str, Part]]:
    """Name and place of each file in a tar file."""
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.isfile():
                    yield member.name, (member.offset_data, member.size)
            end = tar.offset
        # tarfile takes a cut between two members for the end
        FileSlice(path, end, tarfile.BLOCKSIZE, "the end mark").read_bytes()
    except tarfile.TarError as error:
        raise ValueError(
            f"{path} is no complete, uncompressed tar file ({error}); restore it or write it again"
        ) from error


def _kind_of(suffix: str) -> str | None:
    """The part that a suffix stands for; none is none of ours."""
    if suffix in IMAGE_SUFFIXES:
        return IMAGE
    kinds = {own: part for part, own in SUFFIXES.items()} | FOREIGN_SUFFIXES
    return kinds.get(suffix)
