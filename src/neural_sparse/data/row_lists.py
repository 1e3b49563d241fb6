"""Lists of rows per example, stored flat: what 10 million small arrays would be too many for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


class RowLists(Sequence[np.ndarray]):
    """One int64 array per example.

    Args:
        flat: all rows, one example after another; offsets: int64 [examples + 1].
    """

    def __init__(self, flat: Rows, offsets: Rows) -> None:
        self.flat = flat
        self.offsets = offsets

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
        order = np.argsort(query_rows, kind="stable")
        self._rows = positives[order]
        self._offsets = np.concatenate(
            [[0], np.cumsum(np.bincount(query_rows, minlength=query_rows.max(initial=-1) + 1))]
        )
        self._queries = query_rows

    def __len__(self) -> int:
        return len(self._queries)

    @overload
    def __getitem__(self, place: int) -> frozenset[int]: ...
    @overload
    def __getitem__(self, place: slice) -> list[frozenset[int]]: ...
    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        query = self._queries[place]
        return frozenset(self._rows[self._offsets[query] : self._offsets[query + 1]].tolist())
