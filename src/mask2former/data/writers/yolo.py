"""YOLO segmentation: `images/{split}`, `labels/{split}` and `data.yaml`.

A line is an object: its class, counted from 0, and one polygon, as shares of width and height.
Parts and holes are reached by a line there and back.
"""

from functools import partial
from pathlib import Path

import numpy as np
import yaml
from jaxtyping import Float64

from mask2former.data.annotations import Annotations, Instance
from mask2former.data.formats.yolo import SPLITS, label_path
from mask2former.data.writers.conversion import Conversion, Item, Layout
from mask2former.data.writers.losses import Losses
from mask2former.data.writers.names import file_names
from mask2former.data.writers.objects import as_objects, polygons_of
from mask2former.data.writers.split_names import found_names
from mask2former.data.writers.telling import (
    tell_areas,
    tell_ignored,
    tell_renumbering,
    tell_stuff,
)
from mask2former.masks.contours import join_polygons, mask_outlines
from mask2former.masks.polygons import mask_to_rle, polygons_to_rle
from mask2former.masks.rle import decode_rle
from mask2former.tasks import Task

TASKS: tuple[Task, ...] = ("instance", "panoptic")
GRID = 5
"""Parts of a pixel to which pycocotools rounds coordinates."""


def write(conversion: Conversion) -> None:
    """Write all splits; one alone with an unusual name is called train.

    Raises:
        ValueError: Several splits have names that `data.yaml` does not have.
    """
    classes = conversion.classes
    tell_stuff(classes, conversion.losses)
    tell_renumbering(classes, range(len(classes)), conversion.losses)
    splits = found_names(conversion.splits, conversion.losses, accepted=SPLITS, alone=SPLITS[0])
    folders = {split: f"images/{name}" for split, name in splits.items()}
    layout = Layout(
        names=file_names(conversion.splits, "nested"),
        image_folders=folders,
    )
    describe = partial(write_lines, folder=conversion.folder, image_folders=folders)
    for _ in conversion.each(layout, describe):
        pass
    content = {
        **{name: folders[split] for split, name in splits.items()},
        "names": dict(enumerate(classes.names)),
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    (conversion.folder / "data.yaml").write_text(text, encoding="utf-8")


def write_lines(
    item: Item,
    annotations: Annotations,
    losses: Losses,
    *,
    folder: Path,
    image_folders: dict[str, str],
) -> None:
    """Write the text file of an image; without objects it is empty."""
    objects = as_objects(annotations, losses)
    tell_areas(objects, losses)
    tell_ignored(objects, losses)
    height, width = objects.height, objects.width
    lines = []
    for one in objects.items:
        if one.is_crowd:
            losses.add("crowd flags", "crowds are left out: objects here are single ones")
            continue
        polygon = one_polygon(one, height, width, losses)
        if polygon is None:
            losses.add("empty masks", "objects without a pixel are left out")
            continue
        shares = as_shares(polygon, height, width).ravel().tolist()
        lines.append(" ".join([str(one.class_id), *map(repr, shares)]))
    path = label_path(folder / image_folders[item.split] / item.file_name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")


def one_polygon(
    item: Instance, height: int, width: int, losses: Losses
) -> Float64[np.ndarray, "n 2"] | None:
    """A line within the image that fills to the mask of the object; none for an empty mask."""
    rle = mask_to_rle(item.mask, height, width)
    polygons = polygons_of(item.mask)
    if not polygons:
        return None
    joined = join_polygons(polygons)
    if isinstance(item.mask, dict):
        losses.add("vertices", "masks are outlined along pixel edges, which fill to the same mask")
    elif not _fills_to(joined, rle, height, width):
        polygons = mask_outlines(decode_rle(rle))
        losses.add(
            "vertices",
            "objects that leave the image, or whose parts overlap, are outlined along pixel edges",
        )
        if not polygons:
            return None
        joined = join_polygons(polygons)
    parts = len(polygons) > 1
    losses.add("parts", "objects of several parts are joined to one polygon by lines", int(parts))
    return joined


def as_shares(
    points: Float64[np.ndarray, "n 2"], height: int, width: int
) -> Float64[np.ndarray, "n 2"]:
    """Points in pixels as shares of the size, so that multiplied again they fill the same pixels.

    A product may come out a last bit below a step of the grid that pycocotools rounds to; the
    share is then the next larger number.
    """
    size = np.array([width, height], np.float64)
    shares = points / size
    is_below = np.floor(GRID * (shares * size) + 0.5) < np.floor(GRID * points + 0.5)
    return np.where(is_below, np.nextafter(shares, np.inf), shares)


def _fills_to(points: np.ndarray, rle: dict, height: int, width: int) -> bool:
    if (points < 0).any() or (points > (width, height)).any():
        return False
    return np.array_equal(decode_rle(polygons_to_rle([points], height, width)), decode_rle(rle))
