"""WebDataset shards of other writers: `{key}.jpg` with a map of classes, or with COCO's objects.

- `{key}.seg.png`, `{key}.mask.png` or `{key}.png` beside a `{key}.jpg`: category id per pixel
- `{key}.json` with `annotations` as COCO has them: `segmentation`, `category_id`, and if wanted
  `category` (its name), `iscrowd`, `area`, `track_id`

Keys that occur in several shards of a split get the name of the shard before them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mask2former.data.annotations import Instances, SegmentMap
from mask2former.data.dataset import Dataset, Record
from mask2former.data.formats.format import Reading
from mask2former.data.images import read_image_size, read_label_map
from mask2former.data.records import PackedRecords
from mask2former.data.shards.class_maps import (
    listed_classes,
    make_classes,
    numbered,
    semantic_segments,
)
from mask2former.data.shards.distinct_ids import distinct_ids
from mask2former.data.shards.samples import IMAGE, JSON, SEG, read_annotations
from mask2former.data.shards.tar import Scanned, scan_samples
from mask2former.data.sources import FileSlice, Source, forget_open_files
from mask2former.tasks import Task

INSTANCE: tuple[Task, ...] = ("instance", "panoptic", "semantic")
SEMANTIC: tuple[Task, ...] = ("semantic",)


def foreign_tasks(path: Path) -> tuple[Task, ...] | None:
    """What a shard serves, by its first sample; none if it is no shard of samples.

    Raises:
        ValueError: The file is no tar file, or is cut off.
    """
    forget_open_files()
    first = next(scan_samples(path), None)
    return None if first is None else _tasks_of(path, first)


def read_foreign(
    folder: Path, split: str, splits: Mapping[str, Sequence[Path]], reading: Reading
) -> Dataset:
    """Open a split; samples without annotations are reported and left out.

    Raises:
        ValueError: A shard is damaged, or no class is known.
    """
    forget_open_files()
    samples = {
        name: [(p, s) for p in paths for s in scan_samples(p)] for name, paths in splits.items()
    }
    path, first = samples[split][0]
    tasks = _tasks_of(path, first)
    if tasks == SEMANTIC:
        return _read_maps(folder, split, samples, reading)
    return _read_objects(folder, split, samples, reading)


@dataclass(frozen=True)
class MapDecoder:
    """Reads a map of category ids."""

    category_ids: tuple[int, ...]
    ignored: frozenset[int]

    def __call__(self, record: Record) -> SegmentMap:
        class_ids = {category_id: i for i, category_id in enumerate(self.category_ids)}
        values = read_label_map(record.annotation)
        return semantic_segments(values, class_ids, self.ignored, f"mask {record.annotation}")


@dataclass(frozen=True)
class ObjectDecoder:
    """Reads COCO's objects."""

    category_ids: tuple[int, ...]

    def __call__(self, record: Record) -> Instances:
        class_ids = {category_id: i for i, category_id in enumerate(self.category_ids)}
        content = _read_json(record.annotation)
        content |= {"height": record.height, "width": record.width}
        objects = read_annotations(content, {}, class_ids, str(record.annotation))
        assert isinstance(objects, Instances), "there are no maps"
        return objects


Samples = dict[str, list[tuple[Path, Scanned]]]


def _read_maps(folder: Path, split: str, samples: Samples, reading: Reading) -> Dataset:
    listed = listed_classes(folder)
    ignored = {reading.ignore_index}
    if listed is None:
        every = [_slice(p, s, SEG) for each in samples.values() for p, s in each if SEG in s.parts]
        values = {
            value for source in every for value in set(read_label_map(source).ravel().tolist())
        }
        names = numbered(values - ignored)
    else:
        names = listed.names
        ignored |= set() if listed.ignored is None else {listed.ignored}
        names = {value: name for value, name in names.items() if value not in ignored}
    records = []
    for path, sample in samples[split]:
        if SEG in sample.parts:
            records.append(_record(path, sample, SEG))
        else:
            _tell_bare(path, sample, reading)
    records, notes = distinct_ids(records, reading.problems)
    note = f"Pixel value {' and '.join(map(str, sorted(ignored)))} is ignored."
    classes = make_classes(names, () if listed is None else listed.things)
    decode = MapDecoder(classes.category_ids, frozenset(ignored))
    packed, notes = PackedRecords(records), (note, *notes)
    return Dataset("webdataset", folder, split, classes, SEMANTIC, packed, decode, notes)


def _read_objects(folder: Path, split: str, samples: Samples, reading: Reading) -> Dataset:
    listed = listed_classes(folder)
    names = {} if listed is None else dict(listed.names)
    records = []
    for name, each in samples.items():
        for path, sample in each:
            content = _read_json(_slice(path, sample, JSON)) if JSON in sample.parts else {}
            if not isinstance(content.get("annotations"), list):
                if name == split:
                    _tell_bare(path, sample, reading)
                continue
            if listed is None:
                names |= {
                    _category(a): str(a.get("category", f"class {_category(a)}"))
                    for a in content["annotations"]
                }
            if name == split:
                records.append(_sized(_record(path, sample, JSON), content))
    classes = make_classes(names, names)
    decode = ObjectDecoder(classes.category_ids)
    records, notes = distinct_ids(records, reading.problems)
    packed = PackedRecords(records)
    return Dataset("webdataset", folder, split, classes, INSTANCE, packed, decode, notes)


def _tasks_of(path: Path, sample: Scanned) -> tuple[Task, ...] | None:
    if SEG in sample.parts:
        return SEMANTIC
    if JSON in sample.parts and "annotations" in _read_json(_slice(path, sample, JSON)):
        return INSTANCE
    return None


def _record(path: Path, sample: Scanned, annotation: str) -> Record:
    name = sample.image_name.rpartition("/")[2]
    image = FileSlice(path, *sample.parts[IMAGE], name)
    return Record(sample.key, image, _slice(path, sample, annotation))


def _sized(record: Record, content: dict[str, Any]) -> Record:
    height, width = content.get("height"), content.get("width")
    if not (isinstance(height, int) and isinstance(width, int)):
        height, width = read_image_size(record.image)
    count = sum(not a.get("iscrowd", 0) for a in content["annotations"])
    image_id = content.get("image_id", record.image_id)
    return Record(image_id, record.image, record.annotation, height, width, count)


def _category(annotation: dict[str, Any]) -> int:
    return int(annotation.get("category_id", 0))


def _slice(path: Path, sample: Scanned, part: str) -> FileSlice:
    return FileSlice(path, *sample.parts[part], f"{part} of {sample.key}")


def _read_json(source: Source) -> dict[str, Any]:
    try:
        content = json.loads(source.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{source} is not valid JSON ({error}); write the shard again") from error
    return content if isinstance(content, dict) else {}


def _tell_bare(path: Path, sample: Scanned, reading: Reading) -> None:
    reading.problems.error(
        "image without annotation",
        f"{path}: sample {sample.key} has neither a map of classes ({sample.key}.seg.png) nor "
        f"'annotations' in {sample.key}.json; annotate it or take it out",
        file=path,
        image_id=sample.key,
    )
