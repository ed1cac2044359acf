"""Which data set lies in a folder: its format is found by looking, or named."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mask2former.data.formats import (
    ade20k,
    ade20k_full,
    cityscapes,
    coco_instance,
    coco_panoptic,
    coco_stuff,
    davis,
    huggingface,
    instance_png,
    labelme,
    mapillary,
    png_masks,
    tfrecord,
    voc,
    webdataset,
    yolo,
    youtube_vis,
)
from mask2former.data.formats.format import WHOLE, Format, Found
from mask2former.data.formats.splits import find_split_lists
from mask2former.suggestions import did_you_mean
from mask2former.tasks import Task

UNMISTAKABLE: tuple[Format, ...] = (
    webdataset.FORMAT,
    tfrecord.FORMAT,
    huggingface.FORMAT,
    cityscapes.FORMAT,
    *mapillary.FORMATS,
    ade20k_full.FORMAT,
    ade20k.FORMAT,
)
"""Layouts of one data set, or ours: their PNGs are not to be taken for those of `GENERAL`."""
GENERAL: tuple[Format, ...] = (
    youtube_vis.FORMAT,
    coco_panoptic.FORMAT,
    coco_stuff.FORMAT,
    coco_instance.FORMAT,
    voc.FORMAT,
    davis.FORMAT,
    yolo.FORMAT,
    labelme.FORMAT,
    instance_png.FORMAT,
    png_masks.FORMAT,
)
"""Layouts that anybody may use, several in one folder too."""
FORMATS: tuple[Format, ...] = (*UNMISTAKABLE, *GENERAL)
"""In order of preference."""
FIRST_FEW = 10


class Located(NamedTuple):
    """A data set, not yet read."""

    folder: Path
    """Where it lies: the folder asked for, or its only sub folder that is a data set."""
    format: Format
    found: Found

    @property
    def is_unsplit(self) -> bool:
        """Neither the format nor lists in the folder divide it."""
        return set(self.found.splits) == {WHOLE} and self.is_dividable

    @property
    def is_dividable(self) -> bool:
        """It has one split alone, and no lists divide that."""
        return len(self.found.splits) == 1 and not self.lists

    @property
    def lists(self) -> dict[str, Path]:
        """Text files that divide a data set without splits of its own."""
        return find_split_lists(self.folder) if set(self.found.splits) == {WHOLE} else {}


def find_format(
    folder: Path,
    *,
    task: Task | None = None,
    format: str | None = None,  # noqa: A002 as the option is called
) -> Located:
    """The format that reads a folder, and where in it the data set lies; nothing is read.

    Arguments as of `open_dataset`.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: The folder is of no known format, or of another than the one named, or holds
            several data sets.
    """
    if not folder.exists():
        raise FileNotFoundError(f"no data set folder at {folder}; correct the path")
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; give the folder of the data set (unpack archives)")
    formats = FORMATS if format is None else (_named(format),)
    here = _look(folder, formats, task, is_forced=format is not None)
    if here is not None:
        return here
    inner = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    located = [_look(path, formats, task, is_forced=format is not None) for path in inner]
    held = [one for one in located if one is not None]
    if len(held) == 1:
        return held[0]
    if held:
        names = ", ".join(f"{one.folder} ({one.format.name})" for one in held[:FIRST_FEW])
        more = ", ..." if len(held) > FIRST_FEW else ""
        raise ValueError(f"{folder} holds {len(held)} data sets: {names}{more}; give one of them")
    raise ValueError(_nothing_found(folder, formats))


def _look(
    folder: Path, formats: Sequence[Format], task: Task | None, *, is_forced: bool
) -> Located | None:
    located = []
    for one in formats:
        find = one.find_forced if is_forced and one.find_forced is not None else one.find
        found = find(folder)
        if found is not None:
            located.append(Located(folder, one, found))
    able = [one for one in located if task is None or task in one.found.tasks]
    own = [one for one in able if one.format in UNMISTAKABLE]
    natural = [one for one in able if one.found.tasks[:1] == (task,)]
    return next(iter(own or natural or able or located), None)


def _named(name: str) -> Format:
    by_name = {one.name: one for one in FORMATS}
    plain = name.replace("_", "-").lower()
    if plain not in by_name:
        raise ValueError(f"no format {name}; {did_you_mean(name, by_name)}")
    return by_name[plain]


def _nothing_found(folder: Path, formats: Sequence[Format]) -> str:
    looked_for = [f"  {one.name}: {' or '.join(one.layouts)}" for one in formats]
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    there = ", ".join(names[:FIRST_FEW]) + (", ..." if len(names) > FIRST_FEW else "")
    wanted = "a known format" if len(formats) > 1 else f"the format {formats[0].name}"
    return "\n".join(
        [
            f"no data set of {wanted} in {folder}, which holds {there or 'nothing'}; arrange the "
            f"files in one of these layouts:",
            *looked_for,
        ]
    )
