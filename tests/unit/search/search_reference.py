"""The plain formulas the fast paths are held to."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from neural_sparse.search import Hits


def random_vectors(
    rng: np.random.Generator, rows: int, width: int, density: float, levels: int = 0
) -> sp.csr_matrix:
    """Random non-negative vectors; with `levels`, few distinct weights, so that many scores tie."""
    mask = rng.random((rows, width)) < density
    values = rng.integers(1, levels + 1, (rows, width)) / 4 if levels else rng.gamma(2, 0.5, (rows, width))
    return sp.csr_matrix((mask * values).astype(np.float32))


def plain_search(
    vectors: sp.csr_matrix, queries: sp.csr_matrix, k: int, allowed: np.ndarray | None = None
) -> Hits:
    """Dense float64 product, rounded once; sorted by score, then row; zeros left out."""
    scores = (queries.toarray().astype(np.float64) @ vectors.toarray().astype(np.float64).T).astype(
        np.float32
    )
    if allowed is not None:
        scores[:, ~allowed] = 0
    docs = np.full((scores.shape[0], k), -1, np.int32)
    best = np.zeros((scores.shape[0], k), np.float32)
    for row, one in enumerate(scores):
        order = np.argsort(-one, kind="stable")[:k]
        order = order[one[order] > 0]
        docs[row, : len(order)] = order
        best[row, : len(order)] = one[order]
    return Hits(docs, best)


def ids_of(rows: int) -> list[str]:
    return [f"doc-{row}" for row in range(rows)]


def assert_same(found: Hits, expected: Hits) -> None:
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-6)
    np.testing.assert_array_equal(found.docs, expected.docs)
