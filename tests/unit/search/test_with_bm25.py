"""A model and BM25 in one index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import scipy.sparse as sp

from neural_sparse.search import BM25Index, SparseIndex
from neural_sparse.search.with_bm25 import WithBM25


@pytest.mark.parametrize("weight", [0.5, 8.0])
def test_scores_are_added_up(texts: list[str], weight: float) -> None:
    rng = np.random.default_rng(0)
    vectors = sp.csr_matrix(
        rng.random((len(texts), 20)) * (rng.random((len(texts), 20)) < 0.3), dtype=np.float32
    )
    asked = ["sort a list", "open a file", "☃"]
    queries = sp.csr_matrix(rng.random((len(asked), 20)), dtype=np.float32)

    def encode(wanted: Sequence[str]) -> sp.csr_matrix:
        return queries[[asked.index(text) for text in wanted]]

    bm25 = BM25Index.build(texts, list(map(str, range(len(texts)))))
    both = WithBM25(encode, bm25, weight)
    found = both.encode_queries(asked) @ both.documents(vectors).T
    expected = queries @ vectors.T + weight * (bm25.encode_queries(asked) @ bm25.document_weights().T)
    np.testing.assert_allclose(found.toarray(), expected.toarray(), rtol=1e-5)
    hits = SparseIndex.build(both.documents(vectors), bm25.doc_ids).search(both.encode_queries(asked), 3)
    best = np.sort(expected.toarray(), axis=1)[:, ::-1][:, :3]
    np.testing.assert_allclose(np.maximum(hits.scores, 0), best, rtol=1e-5)
    assert len(both.words) == both.documents(vectors).shape[1] - 20
    column = 20 + both.words.index("sort (BM25)")
    assert both.encode_queries(asked)[0, column] == weight
