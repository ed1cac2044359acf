"""Read shards again, and see whether they still are what was written."""

from collections.abc import Callable, Iterable
from pathlib import Path

from mask2former.data.shards.hashed import hash_of
from mask2former.data.shards.index import INDEX_NAME, read_index


def verify(
    folder: Path, progress: Callable[[Iterable[str], int], Iterable[str]] | None = None
) -> list[str]:
    """Compare every shard with the hash in the index.

    Args:
        folder: Of the shards.
        progress: Passes on the names of the shards; knows how many will come.

    Returns:
        A sentence for each shard that is missing or has changed.

    Raises:
        ValueError: The folder has no index.
    """
    index = read_index(folder)
    if index is None:
        raise ValueError(
            f"{folder} has no {INDEX_NAME}, so that nothing says what its shards were; pack the "
            f"data set again"
        )
    hashes = {s.name: s.sha256 for split in index.splits.values() for s in split.shards}
    names = iter(hashes) if progress is None else progress(hashes, len(hashes))
    faults = []
    for name in names:
        path = folder / name
        if not path.is_file():
            faults.append(f"{path} is missing; restore it, or pack the data set again")
        elif hash_of(path) != hashes[name]:
            faults.append(f"{path} has changed; restore it, or delete it and pack again")
    return faults
