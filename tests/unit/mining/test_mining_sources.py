from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from neural_sparse.errors import InputError
from neural_sparse.mining.sources import DenseSource, SparseSource, bm25_source, parse_source
from neural_sparse.search import BM25Index


@pytest.mark.parametrize("sparse", [False, True])
def test_search_and_pair_scores_equal_the_product(sparse: bool) -> None:
    rng = np.random.default_rng(0)
    queries, documents = rng.random((9, 20)).astype(np.float32), rng.random((40, 20)).astype(np.float32)
    if sparse:
        queries[queries < 0.7], documents[documents < 0.7] = 0, 0
        matrix = sp.csr_matrix(queries)
        source: DenseSource | SparseSource = SparseSource(
            "s", {}, lambda rows: matrix[rows], sp.csr_matrix(documents)
        )
    else:
        source = DenseSource("d", {}, lambda rows: queries[rows], documents)
    product = queries @ documents.T
    rows = np.array([3, 0, 8])
    found = source.search(rows, 5)
    np.testing.assert_array_equal(found, np.argsort(-product[rows], axis=1, kind="stable")[:, :5])
    pairs = rng.integers(-1, 40, (3, 30))
    scores = source.pair_scores(rows, pairs)
    expected = np.where(pairs < 0, np.nan, np.take_along_axis(product[rows], np.maximum(pairs, 0), 1))
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    # A pair's score is the same whatever is scored beside it, to the last bit.
    np.testing.assert_array_equal(source.pair_scores(rows[1:2], pairs[1:2, 4:9]), scores[1:2, 4:9])


def test_bm25_pair_scores_are_its_scores() -> None:
    documents = ["sort a list", "sort a tuple of files", "open a file", "list the files"]
    queries = ["list files", "sort sort tuple", "zebra"]
    source = bm25_source(queries, documents)
    index = BM25Index.build(documents, list("abcd"))
    hits = index.search_texts(queries, 4)
    scores = source.pair_scores(np.arange(3), np.where(hits.docs < 0, -1, hits.docs).astype(np.int64))
    np.testing.assert_allclose(scores[hits.docs >= 0], hits.scores[hits.docs >= 0], rtol=1e-6)
    np.testing.assert_array_equal(source.search(np.arange(3), 4), hits.docs)


def test_names_of_sources() -> None:
    assert parse_source("bm25") == ("bm25", None)
    assert parse_source("dense:BAAI/bge-small") == ("dense", "BAAI/bge-small")
    for bad in ("dens:a", "dense", "bm25:a", "cross-encoder:a"):
        with pytest.raises(InputError, match="write "):
            parse_source(bad)


def test_vectors_that_are_no_numbers_are_refused() -> None:
    documents = np.array([[1.0, np.nan]], np.float32)
    with pytest.raises(InputError, match="not a number"):
        DenseSource("d", {}, lambda rows: documents[rows], documents)
    with pytest.raises(InputError, match="finite"):
        SparseSource("s", {}, lambda rows: sp.csr_matrix(documents)[rows], sp.csr_matrix(documents))
