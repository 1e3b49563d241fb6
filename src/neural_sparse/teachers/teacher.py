"""What a teacher is: something that scores queries against documents, ahead of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from neural_sparse.teachers.cache import TeacherCache

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
