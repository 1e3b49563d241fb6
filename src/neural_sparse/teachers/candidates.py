"""Candidates to re-rank, and teachers' scores of them, as matrices [queries, candidates]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neural_sparse.errors import InputError
from neural_sparse.search import DenseRetriever, Hits, SparseIndex
from neural_sparse.search.doc_ids import DocumentIds
from neural_sparse.teachers.bi_encoder import PreparedVectors
from neural_sparse.teachers.teacher import PreparedTeacher


def merged(found: Sequence[NDArray[np.integer]]) -> NDArray[np.int64]:
    """Every retriever's documents, once each, in the order of their rows; -1 in front.

    By row, so that equal scores do not inherit the order of the first stage.
    """
    rows = np.sort(np.concatenate(found, axis=1), axis=1)
    rows[:, 1:][rows[:, 1:] == rows[:, :-1]] = -1
    rows = np.sort(rows, axis=1)
    return rows[:, (rows >= 0).any(0)]


def best_documents(prepared: PreparedVectors, depth: int, queries: int | None = None) -> Hits:
    """The `depth` documents that a teacher with vectors scores best.

    Args:
        queries: look at so many of the first only.
    """
    asked, dense = prepared.query_vectors()[:queries], prepared.dense_documents()
    if dense is not None:
        return DenseRetriever(dense, DocumentIds.numbers(len(dense))).search(np.asarray(asked), depth)
    documents = prepared.document_vectors()
    ids = DocumentIds.numbers(documents.shape[0])
    return SparseIndex.build(documents, ids).search(asked, depth)  # type: ignore[arg-type]


def candidate_scores(prepared: PreparedTeacher, candidates: NDArray[np.int64]) -> NDArray[np.float32]:
    """A teacher's scores [queries, candidates], NaN where it does not know them."""
    result = np.full(candidates.shape, np.nan, np.float32)
    for first in range(0, len(candidates), 32):
        rows = np.arange(first, min(first + 32, len(candidates)))
        here = candidates[rows]
        documents = np.unique(here[here >= 0])
        if not len(documents):
            continue
        at = np.searchsorted(documents, np.maximum(here, documents[0]))
        own = np.zeros((len(rows), len(documents)), np.bool_)
        np.put_along_axis(own, at, True, 1)
        scores, known = prepared.scores(rows, documents, own)
        if np.isnan(scores[known]).any():
            raise InputError(f"teacher {prepared.name} gave a score that is not a number")
        values = np.where(known, scores, np.float32(np.nan))
        result[rows] = np.where(here >= 0, np.take_along_axis(values, at, 1), np.float32(np.nan))
    if np.isnan(result).all():
        raise InputError(f"teacher {prepared.name} knows none of the candidates of this collection")
    return result
