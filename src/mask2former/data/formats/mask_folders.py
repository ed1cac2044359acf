"""Folders of images and of masks under the many names that people give them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mask2former.data.formats.format import WHOLE
from mask2former.data.formats.listing import (
    DEEPEST,
    files_below,
    first_file,
    folders_in,
    is_file,
)
from mask2former.data.formats.pairs import (
    files_by_name,
    shorten_names,
    tell_bare,
    warn_spare,
)
from mask2former.data.images import IMAGE_SUFFIXES
from mask2former.data.problems import Problems

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "img_dir")
MASK_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".bmp"})
MASK_ENDINGS = (
    "_mask",
    "_masks",
    "_label",
    "_labels",
    "_labelIds",
    "_labelTrainIds",
    "_instanceIds",
    "_seg",
    "_segmentation",
    "_annotation",
    "_gt",
    "_L",
)
"""Of a mask's name, where its image has none or one of `IMAGE_ENDINGS`."""
IMAGE_ENDINGS = ("_image", "_img", "_sat", "_rgb")


@dataclass(frozen=True)
class Place:
    """Where one split lies."""

    images: Path
    masks: Path
    """The same as `images` where masks lie among them, told by the ends of their names."""


def find_places(folder: Path, mask_folders: Sequence[str]) -> dict[str, Place]:
    """The folders of each split.

    Args:
        folder: Of the data set.
        mask_folders: Names that a folder of masks may have; case does not matter.

    Returns:
        Without splits, one pair of folders by the name `WHOLE`; empty where there is none.
    """
    splits: dict[str, Place] = {}
    for split, place in _candidates(folder, mask_folders):
        if split not in splits and _holds_pair(place):
            splits[split] = place
    if splits:
        return splits
    children = _folders_by_name(folder)
    images = [children[name] for name in IMAGE_FOLDERS if name in children]
    masks = [children[name] for name in mask_folders if name in children]
    whole = (Place(i, m) for i in images for m in masks)
    return next(({WHOLE: place} for place in whole if _holds_pair(place, depth=1)), {})


def pair_files(place: Place, problems: Problems) -> dict[str, tuple[Path, Path]]:
    """Image and mask by the name of the image, which is relative and without suffix.

    Files pair by name, then without the usual endings (`a.jpg` with `a_mask.png`). What stays
    alone, or shares a name, is told and left out.
    """
    images, masks = _list_files(place, problems)
    pairs = {name: (path, masks[name]) for name, path in images.items() if name in masks}
    lone_images = {name: path for name, path in images.items() if name not in pairs}
    lone_masks = {name: path for name, path in masks.items() if name not in pairs}
    bare = shorten_names(lone_images, IMAGE_ENDINGS, problems)
    spare = shorten_names(lone_masks, MASK_ENDINGS, problems)
    for name in [name for name in bare if name in spare]:
        image_name, image = bare.pop(name)
        pairs[image_name] = (image, spare.pop(name)[1])
    tell_bare(dict(bare.values()), len(images), place.masks, problems)
    warn_spare([path for _, path in spare.values()], len(masks), place.masks, problems)
    return dict(sorted(pairs.items()))


def list_masks(place: Place) -> list[Path]:
    """All masks of a split, paired or not."""
    masks = files_below(place.masks, MASK_SUFFIXES)
    if place.images != place.masks:
        return masks
    return [path for path in masks if path.stem.endswith(MASK_ENDINGS[0])]


def _candidates(folder: Path, mask_folders: Sequence[str]) -> Iterator[tuple[str, Place]]:
    """Every pair of folders with the right names, whatever they hold."""
    children = _folders_by_name(folder)
    for name, child in children.items():
        below = _folders_by_name(child)
        for masks in mask_folders:
            for images in (below[name] for name in IMAGE_FOLDERS if name in below):
                if masks in below:
                    yield child.name, Place(images, below[masks])
            for together in (f"{name}{masks}", f"{name}_{masks}"):
                if together in children:
                    yield child.name, Place(child, children[together])
        if is_file(child / "_classes.csv"):
            yield child.name, Place(child, child)
    for images in (children[name] for name in IMAGE_FOLDERS if name in children):
        for masks in (children[name] for name in mask_folders if name in children):
            theirs = _folders_by_name(masks)
            for name, child in _folders_by_name(images).items():
                if name in theirs:
                    yield child.name, Place(child, theirs[name])


def _folders_by_name(folder: Path) -> dict[str, Path]:
    """By name in lower case."""
    return {path.name.lower(): path for path in folders_in(folder)}


def _holds_pair(place: Place, depth: int = DEEPEST) -> bool:
    ending = MASK_ENDINGS[0] if place.images == place.masks else ""
    image = first_file(place.images, IMAGE_SUFFIXES, depth=depth)
    mask = first_file(place.masks, MASK_SUFFIXES, ending=ending, depth=depth)
    return image is not None and mask is not None


def _list_files(place: Place, problems: Problems) -> tuple[dict[str, Path], dict[str, Path]]:
    """Images and masks by name."""
    if place.images != place.masks:
        images = files_by_name(place.images, IMAGE_SUFFIXES, problems)
        return images, files_by_name(place.masks, MASK_SUFFIXES, problems)
    files = files_by_name(place.images, IMAGE_SUFFIXES, problems)
    masks = {name: path for name, path in files.items() if name.endswith(MASK_ENDINGS[0])}
    return {name: path for name, path in files.items() if name not in masks}, masks
