"""Which entry of a result file is of which image of a data set."""

import re
from itertools import takewhile
from pathlib import PurePosixPath

from mask2former.data.dataset import Record
from mask2former.data.formats.listing import first_few
from mask2former.data.images import IMAGE_SUFFIXES

ENDINGS = ("_pred", "_leftImg8bit", "_gtFine_labelIds", "_gtFine_labelTrainIds")
"""What tools put behind the name of an image, besides the suffix.

Source:
    cityscapesScripts, and detectron2's evaluator for Cityscapes.
"""

CANONICAL = re.compile(r"0|[1-9][0-9]{0,17}")
"""How numbers are written."""


class GivenImages:
    """The images that a result file has entries of, and those that were asked for.

    An entry is found by its image id, which may be a number in one file and text in the other, or
    by the name of its image. Where an entry has both, the name must agree: ids of images that were
    numbered anew mean other images. Files without ids, such as PNGs, go by name first.
    """

    def __init__(self, where: str) -> None:
        """Begin with no images.

        Args:
            where: Names the results in messages.
        """
        self.where = where
        self._ids: dict[int | str, str] = {}
        self._image_names: dict[str, str] = {}
        self._by_name: dict[str, list[str]] = {}
        self._by_short_name: dict[str, list[str]] = {}
        self._entries: dict[str, None] = {}
        self._asked_by: dict[str, str] = {}

    def add_id(self, image_id: int | str, file_name: str | None = None) -> str:
        """Add an image by its id.

        Args:
            image_id: As in the result file.
            file_name: Of the image itself, where the result file has it.

        Returns:
            What `find` gives for this image.
        """
        number = as_number(image_id)
        entry = f"image id {image_id}"
        if number not in self._ids:
            self._ids[number] = entry
            self._entries[entry] = None
            if file_name is not None:
                self._image_names[entry] = stem(file_name)
                self.add_alias(entry, stem(file_name))
            elif isinstance(number, str):  # many tools take the name of the image for its id
                self.add_alias(entry, _without_image_suffix(number))
        return self._ids[number]

    def add_alias(self, entry: str, name: str) -> None:
        """Find an entry by a name that may be its image's, too."""
        self._by_name.setdefault(name, []).append(entry)

    def add_name(self, name: str) -> str:
        """Add an image by its name alone: a path without the suffix, with `/`."""
        self._entries[name] = None
        last = name.rpartition("/")[2]
        self.add_alias(name, last)
        if last != name:
            self.add_alias(name, name)
        for ending in ENDINGS:
            if last.endswith(ending):
                self._by_short_name.setdefault(last.removesuffix(ending), []).append(name)
        return name

    def find(self, record: Record) -> str | None:
        """The entry of an image; none if there is none.

        Raises:
            ValueError: Several entries may be meant, or it is that of another image, too.
        """
        entry = self._find(record)
        if entry is None:
            return None
        asking = f"{record.image} (id {record.image_id!r})"
        before = self._asked_by.setdefault(entry, asking)
        if before != asking:
            raise ValueError(
                f"{entry} of {self.where} fits two images of the data set, {before} and {asking}; "
                f"name the results by the image ids of the data set"
            )
        return entry

    def unused(self) -> list[str]:
        """The entries that were found for no image."""
        return [entry for entry in self._entries if entry not in self._asked_by]

    def require(self, record: Record) -> str:
        """The entry of an image.

        Raises:
            ValueError: There is none, or several may be meant, or it is another image's, too.
        """
        entry = self.find(record)
        if entry is None:
            raise ValueError(
                f"{self.where} has no result for image {record.image} (id {record.image_id!r}), "
                f"only for {first_few(list(self._entries))}; add it, or score another split"
            )
        return entry

    def _find(self, record: Record) -> str | None:
        by_id = self._ids.get(as_number(record.image_id))
        name = stem(record.image.name)
        if by_id is not None and self._image_names.get(by_id, name) == name:
            return by_id
        names = [name]
        if not self._ids:
            id_name = str(record.image_id)
            names = [id_name, name] if isinstance(record.image_id, str) else [name, id_name]
        for table in (self._by_name, self._by_short_name):
            for candidate in names:
                found = _nearest(table.get(candidate, []), record)
                if len(found) > 1:
                    raise ValueError(
                        f"{first_few(found)} of {self.where} may all be of image {record.image} "
                        f"(id {record.image_id!r}); keep one of them, or name it by the image id"
                    )
                if found:
                    return found[0]
        return None if isinstance(record.image_id, int) else self._find_number(name)

    def _find_number(self, name: str) -> str | None:
        """The id that a name of digits is: COCO's `000000000139.jpg` is image 139."""
        entry = self._ids.get(int(name)) if name.isascii() and name.isdecimal() else None
        return entry if entry and self._image_names.get(entry, name) == name else None


def _without_image_suffix(name: str) -> str:
    return stem(name) if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES else name


def _nearest(names: list[str], record: Record) -> list[str]:
    """Of names that end alike, those whose last folders are those of the image, too."""
    if len(names) < 2:
        return names
    folders = PurePosixPath(str(record.image).replace("\\", "/")).parts[-2::-1]
    shared = []
    for name in names:
        pairs = zip(PurePosixPath(name).parts[-2::-1], folders, strict=False)
        shared.append(len(list(takewhile(lambda pair: pair[0] == pair[1], pairs))))
    return [name for name, count in zip(names, shared, strict=True) if count == max(shared)]


def name_of(file_name: str) -> str:
    """The path of a file of any system, with `/` and without its suffix."""
    folder = file_name.replace("\\", "/").rpartition("/")[0]
    return f"{folder}/{stem(file_name)}" if folder else stem(file_name)


def as_number(image_id: int | str) -> int | str:
    """The number that a text is, written as numbers are; other texts stay."""
    is_number = isinstance(image_id, str) and CANONICAL.fullmatch(image_id)
    return int(image_id) if is_number else image_id


def stem(file_name: str) -> str:
    """The name of a file without folders, of any system, and without its suffix."""
    return PurePosixPath(file_name.replace("\\", "/")).stem
