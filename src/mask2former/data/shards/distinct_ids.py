"""Image ids of shards whose writers count anew in each."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from mask2former.data.dataset import Record
from mask2former.data.problems import Problems
from mask2former.data.sources import FileSlice


def distinct_ids(
    records: Iterable[Record], problems: Problems
) -> tuple[list[Record], tuple[str, ...]]:
    """Put the name of the shard before each id that occurs several times.

    Args:
        records: All of a split, whose images are slices of shards.
        problems: Is told of ids that occur several times in one shard; the first image is kept.

    Returns:
        The records in their order, and what to tell of them.
    """
    found = list(records)
    counts = Counter(record.image_id for record in found)
    kept: dict[int | str, Record] = {}
    num_renamed = 0
    for record in found:
        if counts[record.image_id] > 1:
            assert isinstance(record.image, FileSlice), "images of shards are slices"
            shard = record.image.path
            record = replace(record, image_id=f"{shard.name}/{record.image_id}")
            num_renamed += 1
        if record.image_id in kept:
            problems.error(
                "duplicate id",
                f"image id {record.image_id!r} occurs twice, as {kept[record.image_id].image} and "
                f"as {record.image}; give each image of a shard its own",
                file=record.image,
                image_id=record.image_id,
            )
            continue
        kept[record.image_id] = record
    note = (
        f"{num_renamed} of {len(found)} images have an id that occurs several times; the name of "
        f"their shard stands before it"
    )
    return list(kept.values()), (note,) if num_renamed else ()
