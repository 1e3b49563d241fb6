"""Exact search over dense vectors, for dense teachers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from neural_sparse.errors import InputError, refuse_one_string
from neural_sparse.search.doc_ids import DocumentIds
from neural_sparse.search.hits import Hits
from neural_sparse.search.topk import ROW_MASK, top_of_rows

MARGIN = 64


class DenseRetriever:
    """Dot products with all documents, block by block.

    The matrix product finds k + 64 candidates; their scores are then summed anew in float64, because a
    product of matrices may give equal documents scores that differ in the last bit, by their place in it.

    Args:
        vectors: float32 [documents, dimensions].
        doc_ids: One id per row.
        encode_queries: texts -> float32 [texts, dimensions]; without it only vectors are searched for.
        block: Documents per matrix product.

    Raises:
        InputError: vectors of a wrong shape or not finite, ids that do not fit.
    """

    def __init__(
        self,
        vectors: NDArray[np.float32],
        doc_ids: Sequence[str],
        encode_queries: Callable[[Sequence[str]], NDArray[np.float32]] | None = None,
        block: int = 65536,
    ) -> None:
        self.vectors = np.ascontiguousarray(_checked(vectors, "document vectors"))
        self.doc_ids: Sequence[str] = doc_ids if isinstance(doc_ids, DocumentIds) else DocumentIds.of(doc_ids)
        if len(self.doc_ids) != len(self.vectors):
            raise InputError(f"{len(self.doc_ids):,} document ids for {len(self.vectors):,} document vectors")
        self.encode_queries = encode_queries or _no_texts
        self.block = block

    def search_texts(self, texts: Sequence[str], k: int) -> Hits:
        refuse_one_string(texts)
        return self.search(self.encode_queries(texts), k)

    def search(self, queries: NDArray[np.float32], k: int) -> Hits:
        """The k best documents of each row of `queries` [queries, dimensions]; every document is a hit."""
        if k < 1:
            raise InputError(f"k must be at least 1, got {k}")
        queries = _checked(queries, "queries")
        if queries.shape[1] != self.vectors.shape[1]:
            raise InputError(
                f"the queries have {queries.shape[1]} dimensions and the documents {self.vectors.shape[1]}"
            )
        shape = len(queries), k
        hits = Hits(np.full(shape, -1, np.int32), np.zeros(shape, np.float32), self.doc_ids)
        depth = min(k + MARGIN, len(self.vectors))
        # As many queries at a time as keep a block of scores at 64 MB.
        step = max(1, (1 << 24) // max(1, min(self.block, len(self.vectors))))
        for first in range(0, len(queries), step):
            candidates = self._candidates(queries[first : first + step], depth)
            for query, rows in enumerate(candidates, start=first):
                self._rank(queries[query], np.sort(rows), k, hits.docs[query], hits.scores[query])
        return hits

    def _candidates(self, queries: NDArray[np.float32], depth: int) -> NDArray[np.int32]:
        """Rows of the `depth` best documents by matrix product, int32 [queries, depth]."""
        best = np.empty((len(queries), 0), np.int64)
        for base in range(0, len(self.vectors), self.block):
            block = queries @ self.vectors[base : base + self.block].T
            of_block = np.empty((len(queries), min(depth, block.shape[1])), np.int64)
            top_of_rows(block, base, of_block.shape[1], of_block)
            best = np.hstack([best, of_block])
            if best.shape[1] > depth:
                best = np.partition(best, best.shape[1] - depth, axis=1)[:, -depth:]
        return (ROW_MASK - (best & ROW_MASK)).astype(np.int32)

    def _rank(
        self,
        query: NDArray[np.float32],
        rows: NDArray[np.int32],
        k: int,
        docs: NDArray[np.int32],
        scores: NDArray[np.float32],
    ) -> None:
        exact = (self.vectors[rows].astype(np.float64) * query.astype(np.float64)).sum(1).astype(np.float32)
        order = np.argsort(-exact, kind="stable")[:k]
        docs[: len(order)], scores[: len(order)] = rows[order], exact[order]


def _checked(vectors: NDArray[np.float32], what: str) -> NDArray[np.float32]:
    vectors = np.asarray(vectors, dtype=np.float32)
    if vectors.ndim != 2:
        raise InputError(f"{what}: expected a matrix [texts, dimensions], got shape {vectors.shape}")
    if not np.isfinite(vectors).all():
        raise InputError(f"{what}: a value is infinite or not a number")
    return vectors


def _no_texts(texts: Sequence[str]) -> NDArray[np.float32]:
    raise InputError("this retriever is searched with vectors")
