"""The records of a data set that are made when they are asked for."""

import pickle
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np
from numpy.typing import ArrayLike

from mask2former.data.dataset import Record


class LazyRecords(Sequence[Record]):
    """Records that are made when they are asked for."""

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        if isinstance(index, slice):
            return SelectedRecords(self, range(len(self))[index])
        if not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        return self.make(index % len(self))

    @abstractmethod
    def make(self, index: int) -> Record:
        """The record at an index from 0."""


class PackedRecords(LazyRecords):
    """Records, each pickled into one shared buffer and unpickled when asked for.

    A list of a hundred thousand records is millions of Python objects, and every loader process
    ends up with its own copy of them, because reading an object writes its reference count. The
    buffer stays shared.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        pickles = [pickle.dumps(record, pickle.HIGHEST_PROTOCOL) for record in records]
        self._ends = np.cumsum([len(pickled) for pickled in pickles], dtype=np.int64)
        self._buffer = np.frombuffer(b"".join(pickles), np.uint8)

    def __len__(self) -> int:
        return len(self._ends)

    def make(self, index: int) -> Record:
        start = self._ends[index - 1] if index else 0
        return pickle.loads(self._buffer[start : self._ends[index]].data)  # noqa: S301 our own bytes


class SelectedRecords(Sequence[Record]):
    """Some records of another sequence, in the given order."""

    def __init__(self, records: Sequence[Record], indices: ArrayLike) -> None:
        self._records = records
        self._indices = np.asarray(indices, np.int64)

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        if isinstance(index, slice):
            return SelectedRecords(self._records, self._indices[index])
        return self._records[int(self._indices[index])]
