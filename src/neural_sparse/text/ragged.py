"""Flat arrays with offsets: lists of rows per example, of which 10 million arrays or sets would be too many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


def offsets_of(lengths: npt.ArrayLike) -> Indices:
    """Where each segment of a flat array starts, and where the last one ends: int64 [segments + 1].

    >>> offsets_of([2, 0, 3]).tolist()
    [0, 2, 2, 5]
    """
    return np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))


def segment_ids(lengths: npt.NDArray[np.integer]) -> Indices:
    """The segment that each entry of the flat array is of, int64 [entries].

    >>> segment_ids(np.array([2, 0, 3])).tolist()
    [0, 0, 2, 2, 2]
    """
    return np.repeat(np.arange(len(lengths)), lengths)


def ranges(starts: Indices, lengths: Indices) -> Indices:
    """start, start + 1, ... start + length - 1 of each, one after another: flat[ranges(...)] takes whole segments.

    >>> ranges(np.array([7, 0, 3]), np.array([2, 0, 3])).tolist()
    [7, 8, 3, 4, 5]
    """
    offsets = offsets_of(lengths)
    return np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)


def locate(offsets: Indices, entries: Any) -> tuple[Any, Any]:
    """The segment of each entry, and its place there; of an array or a single number.

    >>> locate(np.array([0, 2, 2, 5]), 2)
    (np.int64(2), np.int64(0))
    """
    segments = np.searchsorted(offsets, entries, side="right") - 1
    return segments, entries - offsets[segments]


class RowLists(Sequence[np.ndarray]):
    """One array per example.

    Args:
        flat: all rows, one example after another.
        offsets: int64 [examples + 1].
    """

    def __init__(self, flat: np.ndarray, offsets: Indices) -> None:
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
    def of_lengths(cls, flat: np.ndarray, lengths: Indices) -> RowLists:
        return cls(flat, offsets_of(lengths))

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
            offsets_of(np.concatenate([part.lengths for part in parts])),
        )

    @property
    def lengths(self) -> Indices:
        """How many rows each example has, int64 [examples]."""
        return np.diff(self.offsets)

    @property
    def examples(self) -> Indices:
        """The example of each row of `flat`."""
        return segment_ids(self.lengths)

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
        offsets = offsets_of(lengths)
        return RowLists(np.concatenate([self.flat, lists.flat])[ranges(starts, lengths)], offsets)

    def where(self, keep: npt.NDArray[np.bool_]) -> RowLists:
        """Without the entries of `flat` that are not marked."""
        return RowLists(self.flat[keep], offsets_of(keep)[self.offsets])

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

    def __init__(self, query_rows: Indices, positives: Indices) -> None:
        self.query_rows = query_rows
        self.positives = positives
        self._rows = positives[np.argsort(query_rows, kind="stable")]
        self._offsets = offsets_of(np.bincount(query_rows))

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
