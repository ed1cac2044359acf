"""Which shapes of a LabelMe file are one object, and which are none."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from mask2former.data.formats.faults import Fault
from mask2former.data.formats.labelme_shapes import (
    BACKGROUND_LABEL,
    HOLE_FLAG,
    HOLE_LABEL,
    IGNORED_LABEL,
    SPECIAL_LABELS,
    WITHOUT_AREA,
    Part,
    read_region,
)


class Ignored(NamedTuple):
    """A region that nobody is to learn or score."""

    part: Part
    num_below: int
    """How many objects were begun before it; later ones lie above it."""


class Shapes(NamedTuple):
    """What one file holds."""

    objects: list[tuple[str, tuple[Part, ...]]]
    """(label, parts), in the order of their first shapes."""
    ignored: list[Ignored]
    faults: list[Fault]


def group_shapes(shapes: Sequence[dict[str, Any]], height: int, width: int) -> Shapes:
    """Put the shapes of one label and `group_id` together; a shape without group is an object.

    A shape is a hole of its group if it has the flag "hole" or the label "__hole__". Shapes
    labelled "_background_" cut what was drawn before them, "__ignore__" ones are no objects.

    Args:
        shapes: As in the file.
        height: Of the image in pixels.
        width: Of the image in pixels.

    Source:
        LabelMe's own converters: labels and groups, drawn in file order, and the two special
        names. LabelMe has no holes; the flag and the label are ours, and so is, for
        `object_mask`, the rule that a part inside another part is one.
    """
    objects: dict[tuple, list[Part]] = {}
    by_group: dict[Any, list[list[Part]]] = defaultdict(list)
    holes, ignored, faults = [], [], []
    for i, shape in enumerate(shapes):
        label, group = shape.get("label"), shape.get("group_id")
        region = read_region(shape, height, width)
        if isinstance(region, Fault):
            faults.append(region._replace(message=f"shape {i} ({label!r}) {region.message}"))
        elif label == IGNORED_LABEL:
            ignored.append(Ignored(Part(region), len(objects)))
        elif label == BACKGROUND_LABEL:
            drawn = [part for parts in objects.values() for part in parts]
            for part in (*drawn, *(one.part for one in ignored)):
                part.cuts.append(region)
        elif not isinstance(group, int | str | None):
            message = f"shape {i} ({label!r}) has the group_id {group!r}; give it a number or none"
            faults.append(Fault("unreadable annotation", message, True))
        elif label == HOLE_LABEL or _is_flagged(shape):
            holes.append((i, label, group, Part(region, is_hole=True)))
        elif not isinstance(label, str):
            faults.append(Fault("unknown class", f"shape {i} has no label; give it one", True))
        else:
            key = (label, i if group is None else None, group)
            if key not in objects:
                by_group[group].append(objects.setdefault(key, []))
            objects[key].append(Part(region))
    faults += _add_holes(holes, objects, by_group)
    by_label = [(label, tuple(parts)) for (label, *_), parts in objects.items()]
    return Shapes(by_label, ignored, faults)


def class_labels(shapes: Sequence[Any]) -> set[str]:
    """Labels of the shapes that can be objects."""
    drawn = [shape for shape in shapes if isinstance(shape, dict)]
    labels = [s.get("label") for s in drawn if s.get("shape_type") not in WITHOUT_AREA]
    return {label for label in labels if isinstance(label, str) and label not in SPECIAL_LABELS}


def _is_flagged(shape: dict[str, Any]) -> bool:
    """Whether it is marked as a hole."""
    flags = shape.get("flags")
    return isinstance(flags, dict) and bool(flags.get(HOLE_FLAG))


def _add_holes(
    holes: Sequence[tuple[int, Any, Any, Part]],
    objects: dict[tuple, list[Part]],
    by_group: dict[Any, list[list[Part]]],
) -> list[Fault]:
    """Give every hole to the object of its label and group, or to all of its group."""
    faults = []
    for i, label, group, part in holes:
        if label == HOLE_LABEL:
            owners = by_group.get(group, []) if group is not None else []
        else:
            owners = [objects[label, None, group]] if (label, None, group) in objects else []
        for parts in owners:
            parts.append(part)
        if not owners:
            message = (
                f"shape {i} ({label!r}) is a hole, but no object has its label and group_id "
                f"{group!r}; give both the same group_id"
            )
            faults.append(Fault("bad polygon", message, True))
    return faults
