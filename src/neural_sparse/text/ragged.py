"""Lists of rows per example, stored flat: what 10 million small arrays or sets would be too many for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


class RowLists(Sequence[np.ndarray]):
    """One array per example.

    Args:
        flat: all rows, one example after another.
        offsets: int64 [examples + 1].
    """

    def __init__(self, flat: np.ndarray, offsets: Rows) -> None:
        self.flat = flat
        self.offsets = offsets

    @classmethod
    def of(cls, lists: Sequence[np.ndarray]) -> RowLists:
        """The same in this form, as it is if it has it already."""
        if isinstance(lists, RowLists):
            return lists
        lengths = np.fromiter(map(len, lists), np.int64, len(lists))
        return cls.of_lengths(np.concatenate([np.empty(0, np.int64), *lists]), lengths)

    @classmethod
    def of_lengths(cls, flat: np.ndarray, lengths: Rows) -> RowLists:
        return cls(flat, _offsets(lengths))

    @classmethod
    def of_matrix(cls, matrix: np.ndarray) -> RowLists:
        """Of rows [examples, longest] that are filled up with -1."""
        present = matrix >= 0
        return cls.of_lengths(matrix[present], present.sum(1))

    @classmethod
    def empty(cls, count: int) -> RowLists:
        """No row for any of `count` examples."""
        return cls(np.empty(0, np.int64), np.zeros(count + 1, np.int64))

    @classmethod
    def join(cls, parts: Sequence[RowLists], starts: Sequence[int]) -> RowLists:
        """One after another, `starts` added to the rows of each."""
        return cls(
            np.concatenate([part.flat + start for part, start in zip(parts, starts, strict=True)]),
            _offsets(np.concatenate([part.lengths for part in parts])),
        )

    @property
    def lengths(self) -> Rows:
        """How many rows each example has, int64 [examples]."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> Rows:
        """The example of each row of `flat`."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def after(self, first: np.ndarray) -> RowLists:
        """The same lists, each behind a row of its own [examples]."""
        offsets = self.offsets + np.arange(len(self.offsets))
        flat = np.empty(len(self.flat) + len(self), np.int64)
        behind = np.ones(len(flat), bool)
        behind[offsets[:-1]] = False
        flat[offsets[:-1]] = first
        flat[behind] = self.flat
        return RowLists(flat, offsets)

    def matrix(self, start: int, stop: int) -> np.ndarray:
        """The lists of examples start:stop as rows [examples, longest], filled up with -1."""
        lengths = self.lengths[start:stop]
        filled = np.arange(lengths.max(initial=0)) < lengths[:, None]
        rows = np.full(filled.shape, -1, self.flat.dtype)
        rows[filled] = self.flat[self.offsets[start] : self.offsets[min(stop, len(self))]]
        return rows

    def filled(self, rows: np.ndarray, lists: RowLists) -> RowLists:
        """The same but for the examples `rows`, whose lists become `lists`, in that order."""
        lengths, starts = self.lengths, self.offsets[:-1].copy()
        lengths[rows] = lists.lengths
        starts[rows] = len(self.flat) + lists.offsets[:-1]
        offsets = _offsets(lengths)
        places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return RowLists(np.concatenate([self.flat, lists.flat])[places], offsets)

    def where(self, keep: npt.NDArray[np.bool_]) -> RowLists:
        """Without the entries of `flat` that are not marked."""
        kept = np.concatenate([[0], np.cumsum(keep)])
        return RowLists(self.flat[keep], kept[self.offsets])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, place: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, place: slice) -> list[np.ndarray]: ...
    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        place %= len(self)
        return self.flat[self.offsets[place] : self.offsets[place + 1]]


class RelevantRows(Sequence[frozenset[int]]):
    """Rows of all documents relevant to each example's query, the positives of the query's other examples too.

    Args:
        query_rows: int64 [examples], equal for examples of the same query.
        positives: int64 [examples].
    """

    def __init__(self, query_rows: Rows, positives: Rows) -> None:
        self.query_rows = query_rows
        self.positives = positives
        self._rows = positives[np.argsort(query_rows, kind="stable")]
        self._offsets = _offsets(np.bincount(query_rows))

    @classmethod
    def join(cls, parts: Sequence[RelevantRows], starts: Sequence[int]) -> RelevantRows:
        """One after another, each with queries of its own, `starts` added to the documents of each."""
        queries = np.cumsum([0, *(len(part._offsets) for part in parts)])
        return cls(
            np.concatenate([part.query_rows + at for part, at in zip(parts, queries, strict=False)]),
            np.concatenate([part.positives + start for part, start in zip(parts, starts, strict=True)]),
        )

    def __len__(self) -> int:
        return len(self.query_rows)

    @overload
    def __getitem__(self, place: int) -> frozenset[int]: ...
    @overload
    def __getitem__(self, place: slice) -> list[frozenset[int]]: ...
    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        query = self.query_rows[place]
        return frozenset(self._rows[self._offsets[query] : self._offsets[query + 1]].tolist())


def _offsets(lengths: Rows) -> Rows:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
