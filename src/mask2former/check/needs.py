"""What a data set asks of a configuration: the few numbers that proposals rest on."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from mask2former.check.facts import ImageFacts
from mask2former.check.survey import TRAINVAL, Split, trained_on
from mask2former.config import Run
from mask2former.data.formats.splits import means
from mask2former.data.partition import AUTOMATIC
from mask2former.tasks import Task

LISTED = 4
"""Values of a list that are all shown."""


@dataclass(frozen=True)
class Proposal:
    """Another value for a key of the configuration, and why."""

    key: str
    """Dotted, as `--set` takes it."""
    value: Any
    now: Any
    """The preset's."""
    reason: str
    """One sentence with the numbers that it rests on."""

    @property
    def override(self) -> str:
        """As `--set` takes it."""
        return f"{self.key}={as_word(self.value)}"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Needs:
    """Of the split that is trained on, where nothing else is said."""

    num_images: int
    """That a run would train on."""
    short_sides: Int64[np.ndarray, " images"]
    """Of the images, in pixels."""
    relative_sides: Float64[np.ndarray, " objects"]
    """Roots of the areas of the objects, as shares of the short sides of their images."""
    counts: Int64[np.ndarray, " all"]
    """Objects of each image, those of all splits."""
    num_things: int
    """Objects of countable classes."""
    class_shares: Float64[np.ndarray, " used"]
    """Share of the images that show each class, of the classes that any shows; in (0, 1]."""


def measure(splits: Mapping[str, Split], task: Task) -> Needs:
    """Read off a survey what it asks of a configuration; crowds do not count."""
    split = trained_on(splits)
    shown = [image for image in split.images if image.size is not None and image.is_annotated]
    if task == "instance":
        shown = [image for image in shown if image.num_objects]  # training leaves the others out
    tables = [(image, image.objects[~image.objects["is_crowd"]]) for image in shown]
    relative = [np.sqrt(table["area"]) / _short_side(image) for image, table in tables]
    present = [np.unique(table["class_id"]) for _, table in tables]
    num_classes = len(split.dataset.classes)
    occurrences = np.bincount(np.concatenate([np.zeros(0, np.int64), *present]).astype(np.int64))
    is_thing = np.array(split.dataset.classes.is_thing, bool)
    objects = np.bincount(
        np.concatenate([np.zeros(0, np.int64), *(table["class_id"] for _, table in tables)]),
        minlength=num_classes,
    )
    sides = np.concatenate([np.zeros(0), *relative])
    return Needs(
        num_images=_num_trained_on(split, len(shown)),
        short_sides=np.array([_short_side(image) for image in shown], np.int64),
        relative_sides=sides[sides > 0],
        counts=np.concatenate([one.counts for one in splits.values()]),
        num_things=int(objects[is_thing].sum()),
        class_shares=occurrences[occurrences > 0] / max(1, len(shown)),
    )


def value_of(run: Run, key: str) -> Any:
    """What stands at a dotted key; none where a part on the way to it is none."""
    value: Any = run.model_dump(mode="json")
    for name in key.split("."):
        value = None if value is None else value[name]
    return value


def as_word(value: Any) -> str:
    """A value as `--set` takes it, without spaces."""
    return json.dumps(value, separators=(",", ":"))


def shown(value: Any) -> str:
    """A value for people, a long list without its middle."""
    is_long = isinstance(value, list) and len(value) > LISTED
    return f"[{value[0]},{value[1]},...,{value[-1]}]" if is_long else as_word(value)


def _short_side(image: ImageFacts) -> int:
    assert image.size is not None
    return min(image.size)


def _num_trained_on(split: Split, count: int) -> int:
    """Of the images of a split those that a run does not hold out to validate."""
    if means(split.name, "train") or split.name == TRAINVAL or count < 2:
        return count
    return max(1, round(AUTOMATIC[0] * count))
