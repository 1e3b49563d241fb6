"""What a teacher is: it scores queries against documents, a batch or single pairs, ahead of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, overload

import numpy as np
from numpy.typing import NDArray

from neural_sparse.teachers.cache import EncodingJob, TeacherCache
from neural_sparse.text.keys import first_rows

Scores = NDArray[np.float32]
Known = NDArray[np.bool_]


class PreparedTeacher(Protocol):
    """A teacher that has seen fixed lists of queries and documents; both are row numbers from here on."""

    name: str
    in_batch: bool
    """Whether it scores every query against every document of a batch, or its own candidates only."""

    def scores(
        self, query_rows: NDArray[np.int64], doc_rows: NDArray[np.int64], own: Known
    ) -> tuple[Scores, Known]:
        """Raw scores [B, M] of query rows [B] against document rows [M], and which of them are known.

        `own` [B, M] marks each query's own candidates: teachers that score pairs look at nothing else.
        """
        ...


class Teacher(Protocol):
    """Prepares itself for lists of texts; slow work (encoding, fitting) happens here and is cached."""

    name: str
    in_batch: bool

    def prepare(
        self,
        queries: Sequence[str],
        documents: Sequence[str],
        pairs: NDArray[np.int64] | None,
        cache: TeacherCache,
    ) -> PreparedTeacher:
        """`pairs` [P, 2]: the (query row, document row) pairs that will be asked for, where that is known."""
        ...


class PairTexts(Sequence[tuple[str, str]]):
    """The texts of (query row, document row) pairs [P, 2], looked up when asked for."""

    def __init__(self, queries: Sequence[str], documents: Sequence[str], pairs: NDArray[np.int64]) -> None:
        self._queries, self._documents, self._pairs = queries, documents, pairs

    def __len__(self) -> int:
        return len(self._pairs)

    @overload
    def __getitem__(self, place: int) -> tuple[str, str]: ...

    @overload
    def __getitem__(self, place: slice) -> PairTexts: ...

    def __getitem__(self, place: int | slice) -> tuple[str, str] | PairTexts:
        if isinstance(place, slice):
            return PairTexts(self._queries, self._documents, self._pairs[place])
        query, document = self._pairs[place].tolist()
        return self._queries[query], self._documents[document]


class PreparedPairs:
    """A lookup table of pair scores; pairs it lacks are unknown.

    Args:
        name: Of the teacher.
        query_rows, doc_rows: int64 per row, the first row of the same text (`first_rows`): equal texts share
            their scores.
        pairs: int64 [P, 2] row numbers of queries and documents; the last of equal pairs counts.
        scores: float32 [P]; NaN is unknown.
    """

    in_batch = False

    def __init__(
        self,
        name: str,
        query_rows: NDArray[np.int64],
        doc_rows: NDArray[np.int64],
        pairs: NDArray[np.int64],
        scores: Scores,
    ) -> None:
        self.name = name
        self._query_rows = query_rows
        self._doc_rows = doc_rows
        codes = self._codes(self._query_rows[pairs[:, 0]], self._doc_rows[pairs[:, 1]])
        self._sorted, last = np.unique(codes[::-1], return_index=True)
        self._scores = np.asarray(scores, dtype=np.float32)[::-1][last]

    @classmethod
    def cached(
        cls,
        name: str,
        job: EncodingJob,
        *,
        cache: TeacherCache,
        queries: Sequence[str],
        documents: Sequence[str],
        pairs: NDArray[np.int64],
    ) -> PreparedPairs:
        """Of what the cache holds of `job`, which has a row per pair; what it lacks is scored now."""
        stored, rows = cache.rows(job)
        scores = (
            np.asarray(stored.gather(rows), np.float32).reshape(-1) if len(rows) else np.empty(0, np.float32)
        )
        return cls(name, first_rows(queries), doc_rows=first_rows(documents), pairs=pairs, scores=scores)

    def scores(
        self, query_rows: NDArray[np.int64], doc_rows: NDArray[np.int64], own: Known
    ) -> tuple[Scores, Known]:
        scores = np.full(own.shape, np.nan, dtype=np.float32)
        queries, documents = np.nonzero(own)
        if len(self._sorted) and len(queries):
            codes = self._codes(self._query_rows[query_rows[queries]], self._doc_rows[doc_rows[documents]])
            at = np.minimum(np.searchsorted(self._sorted, codes), len(self._sorted) - 1)
            scores[queries, documents] = np.where(self._sorted[at] == codes, self._scores[at], np.nan)
        return scores, ~np.isnan(scores)

    def _codes(self, query_rows: NDArray[np.int64], doc_rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return query_rows * len(self._doc_rows) + doc_rows
