"""TFRecord files: ours with an index, and those of TensorFlow's converters.

Ours (`mask2former data shard --to tfrecord`) are read by `index.json`, or without it by looking
through the shards once. Others are read in the layouts of `shards/foreign_records.py`; names of
classes come from the records, `label_map.pbtxt` or a class list.
"""

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from mask2former.data.dataset import Dataset
from mask2former.data.formats.format import WHOLE, Format, Found, Reading
from mask2former.data.formats.listing import files_by_folder, files_named, is_folder
from mask2former.data.formats.splits import SYNONYMS
from mask2former.data.records import PackedRecords
from mask2former.data.shards.class_maps import (
    IGNORED,
    Listed,
    choose_divisor,
    listed_classes,
    make_classes,
    numbered,
)
from mask2former.data.shards.distinct_ids import distinct_ids
from mask2former.data.shards.folder import (
    check_unfinished,
    describe_shard,
    read_indexed,
    read_scanned,
)
from mask2former.data.shards.foreign_records import (
    PAIR_DIVISOR,
    ExampleDecoder,
    FileScan,
    Layout,
    find_layout,
    scan_file,
)
from mask2former.data.shards.index import ROWS_FOLDER, known_index, read_description, read_index
from mask2former.data.shards.tf_record import is_record_file
from mask2former.data.shards.tf_shard import scan_records
from mask2former.data.sources import forget_open_files
from mask2former.tasks import Task
from mask2former.types import Classes

logger = logging.getLogger(__name__)

NAMED = re.compile(r"[^.].*(\.(tfrecords?|tfrec|record)|record-.*-of-.*)")
TASKS_OF: dict[Layout, tuple[Task, ...]] = {
    "objects": ("instance", "panoptic", "semantic"),
    "boxes": ("instance",),
    "pairs": ("panoptic", "semantic", "instance"),
    "raw": ("panoptic", "semantic", "instance"),
    "semantic": ("semantic",),
}


def find(folder: Path) -> Found | None:
    """The files of each split, in the folder or in one folder a split."""
    splits = _files(folder)
    index = known_index(folder) if splits or is_folder(folder / ROWS_FOLDER) else None
    if index is not None:
        if index.description.kind != FORMAT.name:
            return None
        return Found(index.description.tasks, {name: splits.get(name, []) for name in index.splits})
    for path in (path for paths in splits.values() for path in paths):
        try:
            if not is_record_file(path):
                continue
            known = describe_shard(path, scan_records)
            if known is not None:
                return Found(read_description(known, path).tasks, splits)
            layout = find_layout(path)
        except (ValueError, OSError):
            continue  # what is wrong with it is told when it is read
        return None if layout is None else Found(TASKS_OF[layout], splits)
    return None


def read(folder: Path, split: str, found: Found, reading: Reading) -> Dataset:
    """Read one split.

    Args:
        folder: Of the data set.
        split: A key of `found.splits`.
        found: From `find`.
        reading: Conventions, and what becomes of faults.

    Raises:
        FileNotFoundError: A shard is missing.
        ValueError: A file is cut off, damaged, of another data set, or has no masks.
    """
    present = [path for paths in _files(folder).values() for path in paths]
    index = read_index(folder)
    if index is not None:
        return read_indexed(folder, split, index, present)
    check_unfinished(folder)
    paths: Sequence[Path] = found.splits[split]
    if describe_shard(paths[0], scan_records) is not None:
        return read_scanned(folder, split, paths, scan_records)
    return _read_foreign(folder, split, found.splits, reading)


def _read_foreign(
    folder: Path, split: str, splits: Mapping[str, Sequence[Path]], reading: Reading
) -> Dataset:
    forget_open_files()
    layout = find_layout(splits[split][0])
    if layout is None or layout == "boxes":
        raise ValueError(
            f"{splits[split][0]} has {'only boxes' if layout else 'no annotations'}; write masks "
            f"as well (--include_masks of the converters), since they cannot be learnt from boxes"
        )
    listed = listed_classes(folder)
    with_values = layout in ("pairs", "raw") or (layout == "semantic" and listed is None)
    logger.info("%s: looking through the records of %d splits", folder, len(splits))
    scans = {
        name: [scan_file(path, layout, with_values=with_values) for path in paths]
        for name, paths in splits.items()
    }
    every = [scan for each in scans.values() for scan in each]
    classes, decode, notes = _understand(layout, every, listed, reading, folder)
    of_split = (record for scan in scans[split] for record in scan.records)
    records, repeated = distinct_ids(of_split, reading.problems)
    packed, told = PackedRecords(records), (*notes, *repeated)
    return Dataset(FORMAT.name, folder, split, classes, TASKS_OF[layout], packed, decode, told)


def _understand(
    layout: Layout, scans: Sequence[FileScan], listed: Listed | None, reading: Reading, folder: Path
) -> tuple[Classes, ExampleDecoder, list[str]]:
    values = set().union(*(scan.values for scan in scans))
    if layout == "objects":
        names = dict(listed.names) if listed else _names_of(scans)
        classes = make_classes(names, names)
        return classes, ExampleDecoder(layout, classes.category_ids, classes.names), []
    if layout == "semantic":
        ignored = {reading.ignore_index}
        if listed is not None and listed.ignored is not None:
            ignored.add(listed.ignored)
        names = listed.names if listed else numbered(values - ignored)
        classes = make_classes(names, listed.things if listed else ())
        decode = ExampleDecoder(
            layout, classes.category_ids, classes.names, ignored=frozenset(ignored)
        )
        note = f"Pixel value {' and '.join(map(str, sorted(ignored)))} is ignored."
        return classes, decode, [note]
    divisor, note = PAIR_DIVISOR, "Values of no class are unlabelled; 0 and 255 always are."
    if layout == "raw":
        if listed is None:
            raise ValueError(
                f"{folder} has panoptic values class x divisor + object and no class list, so that "
                f"the divisor is unknown; write label_map.pbtxt with the ids and names"
            )
        divisor = choose_divisor(values, listed.names, folder)
        note = f"Panoptic values are class x {divisor} + object, as the listed classes show."
    found = {value // divisor for value in values}
    names = listed.names if listed else numbered(found - IGNORED)
    things = listed.things if listed and listed.things else _numbered_things(values, divisor)
    classes = make_classes(names, things)
    decode = ExampleDecoder(
        layout, classes.category_ids, classes.names, things=frozenset(things), divisor=divisor
    )
    return classes, decode, [note, "A thing without number is a crowd."]


def _names_of(scans: Sequence[FileScan]) -> dict[int, str]:
    """Classes of objects as the records name them."""
    names: dict[int, str] = {}
    for scan in scans:
        for label, text in scan.names.items():
            if text and names.get(label, text) != text and not names[label].startswith("class "):
                raise ValueError(
                    f"class {label} is called {names[label]!r} in one record and {text!r} in "
                    f"another; write label_map.pbtxt with the right names"
                )
            names[label] = text or names.get(label, f"class {label}")
    texts = sorted(set().union(*(scan.texts for scan in scans)))
    return names or dict(enumerate(texts, start=1))


def _numbered_things(values: Collection[int], divisor: int) -> set[int]:
    return {value // divisor for value in values if value % divisor} - IGNORED


def _files(folder: Path) -> dict[str, list[Path]]:
    splits: dict[str, list[Path]] = {}
    for path in files_named(folder, NAMED):
        splits.setdefault(_split_of(path), []).append(path)
    return splits or files_by_folder(folder, NAMED)


def _split_of(path: Path) -> str:
    """`coco_train2017.record-00000-of-00100` is of the split train."""
    stem = re.split(r"-\d{5}-of-\d{5}", path.name)[0]
    stem = re.sub(r"\.(tfrecords?|tfrec|record)$", "", stem)
    usual = {name for synonyms in SYNONYMS for name in synonyms}
    words = [re.sub(r"\d+$", "", word) for word in re.split(r"[-_.]", stem)]
    named = [word for word in words if word.lower() in usual]
    return named[0] if named else stem or WHOLE


FORMAT = Format(
    name="tfrecord",
    layouts=("{split}-00000-of-00010.tfrecord, ...", "{split}.record-00000-of-00010, ..."),
    find=find,
    read=read,
)
