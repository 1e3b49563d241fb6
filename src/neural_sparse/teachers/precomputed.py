"""Scores that somebody else computed, read from a file."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neural_sparse.errors import InputError
from neural_sparse.files import read_jsonl
from neural_sparse.teachers.cache import TeacherCache
from neural_sparse.teachers.pairs import PreparedPairs, first_row

logger = logging.getLogger(__name__)


class PrecomputedTeacher:
    """Scores from JSON lines {"query": text, "docs": [text, ...], "scores": [number or null, ...]}.

    Pairs that the file lacks, or scores with null, are unknown; the last score of a repeated pair counts.
    """

    in_batch = False

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.name = self.path.name

    def prepare(
        self,
        queries: Sequence[str],
        documents: Sequence[str],
        pairs: NDArray[np.int64] | None,
        cache: TeacherCache,
    ) -> PreparedPairs:
        """Pick the scores of these texts out of the file.

        Raises:
            InputError: a malformed line (file and line), or a file that knows none of the pairs.
        """
        _, query_row = first_row(queries)
        _, doc_row = first_row(documents)
        found: list[tuple[int, int]] = []
        scores: list[float] = []
        lines = 0
        for query, docs, values in self._lines():
            lines += 1
            if query in query_row:
                for doc, score in zip(docs, values, strict=True):
                    if doc in doc_row:
                        found.append((query_row[query], doc_row[doc]))
                        scores.append(math.nan if score is None else score)
        if not found:
            raise InputError(
                f"{self.path}: none of its {lines:,} lines has a query and a document of this training set "
                "(texts must match exactly)"
            )
        logger.info("%s: %d scores for %d queries", self.path, len(found), len({query for query, _ in found}))
        return PreparedPairs(
            self.name, queries, documents, np.array(found, dtype=np.int64), np.array(scores, dtype=np.float32)
        )

    def _lines(self) -> Iterator[tuple[str, list[str], list[float | None]]]:
        for number, row in enumerate(read_jsonl(self.path, required=("query", "docs", "scores")), start=1):
            query, docs, scores = row["query"], row["docs"], row["scores"]
            if not isinstance(docs, list) or not isinstance(scores, list) or len(docs) != len(scores):
                raise InputError(f"{self.path}, entry {number}: docs and scores must be lists of one length")
            if not isinstance(query, str) or not all(isinstance(doc, str) for doc in docs):
                raise InputError(f"{self.path}, entry {number}: query and docs must be texts")
            if not all(score is None or _is_number(score) for score in scores):
                raise InputError(f"{self.path}, entry {number}: scores must be finite numbers or null")
            yield query, docs, scores


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
