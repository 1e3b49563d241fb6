"""Scores that somebody else computed, read from a file or from prepared data."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neural_sparse.data.prepared import PreparedSet, is_prepared
from neural_sparse.errors import InputError
from neural_sparse.teachers.cache import TeacherCache
from neural_sparse.teachers.score_files import read_scores
from neural_sparse.teachers.teacher import PreparedPairs
from neural_sparse.text.keys import KeyIndex, first_occurrence, text_keys

logger = logging.getLogger(__name__)

LINES = 1000  # read at a time
Block = tuple[
    NDArray[np.int64], NDArray[np.float32]
]  # (query, document) rows [pairs, 2], -1: not here; scores


class PrecomputedTeacher:
    """Scores from JSON lines {"query": text, "docs": [text, ...], "scores": [number or null, ...]}, or from a
    folder that `neural-sparse data prepare` made of such lines.

    Pairs that it lacks, or scores with null, are unknown; the last score of a repeated pair counts.
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
            InputError: a malformed line (file and line), a folder without scores, or none of these pairs.
        """
        query_keys, doc_keys = text_keys(queries), text_keys(documents)
        here = KeyIndex(query_keys), KeyIndex(doc_keys)
        blocks = list(self._folder(*here) if is_prepared(self.path) else self._blocks(*here))
        found = np.concatenate([np.empty((0, 2), np.int64), *(block for block, _ in blocks)])
        scores = np.concatenate([np.empty(0, np.float32), *(block for _, block in blocks)])
        known = (found >= 0).all(1)
        if not known.any():
            raise InputError(
                f"{self.path}: none of its {len(found):,} pairs has a query and a document of this training set "
                "(texts must match exactly)"
            )
        logger.info("%s: %d scores of pairs of this training set", self.path, known.sum())
        firsts = first_occurrence(query_keys), first_occurrence(doc_keys)
        return PreparedPairs(self.name, *firsts, found[known], scores[known])

    def _folder(self, queries: KeyIndex, documents: KeyIndex) -> Iterator[Block]:
        data = PreparedSet.load(self.path)
        scored = data.scores.lengths > 0
        if not scored.any():
            raise InputError(
                f"{self.path} holds no scores; prepare lines of {{query, docs, scores}}, or name their file"
            )
        candidates = data.negatives.after(data.positives)
        examples = candidates.examples
        asked = scored[examples]
        examples, rows = examples[asked], candidates.flat[asked]
        query_rows = queries.find(text_keys(data.queries))[data.query_rows]
        doc_rows = documents.find(text_keys(data.documents))
        yield np.column_stack((query_rows[examples], doc_rows[rows])), data.scores.flat

    def _blocks(self, queries: KeyIndex, documents: KeyIndex) -> Iterator[Block]:
        lines = self._lines()
        while block := list(islice(lines, LINES)):
            rows = queries.find(text_keys(query for query, _, _ in block))
            query_rows = np.repeat(rows, [len(docs) for _, docs, _ in block])
            found = documents.find(text_keys(doc for _, docs, _ in block for doc in docs))
            scores = [score for _, _, values in block for score in values]
            yield np.column_stack((query_rows, found)), np.array(scores, np.float32)

    def _lines(self) -> Iterator[tuple[str, list[str], list[float]]]:
        for row in read_scores(self.path):
            if not row.texts:
                raise InputError(
                    f"{self.path}: holds ids, and a teacher is asked by texts; turn it into texts with "
                    "`neural-sparse teach convert ... --collection FOLDER`"
                )
            yield row.query, row.docs, row.scores
