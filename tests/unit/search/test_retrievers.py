from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from search_reference import assert_same, ids_of, random_vectors

from neural_sparse.errors import InputError
from neural_sparse.search import DenseRetriever, Hits, Retriever, SparseIndex, SparseRetriever


@pytest.mark.parametrize("block", [7, 64, 65536])
@pytest.mark.parametrize("k", [1, 10, 300])
def test_dense_search_equals_the_sorted_product(block: int, k: int) -> None:
    rng = np.random.default_rng(k)
    vectors = rng.standard_normal((200, 16)).astype(np.float32)
    vectors[150:] = vectors[:50]  # ties
    queries = rng.standard_normal((5, 16)).astype(np.float32)
    retriever: Retriever = DenseRetriever(
        vectors, ids_of(200), lambda texts: queries[: len(texts)], block=block
    )
    found = retriever.search_texts(["text"] * 5, k)
    scores = (queries.astype(np.float64)[:, None] * vectors.astype(np.float64)).sum(2).astype(np.float32)
    order = np.argsort(-scores, axis=1, kind="stable")
    best = np.take_along_axis(scores, order, 1)
    missing = ((0, 0), (0, max(0, k - 200)))
    docs = np.pad(order[:, :k].astype(np.int32), missing, constant_values=-1)
    assert_same(found, Hits(docs, np.pad(best[:, :k], missing)))


def test_dense_input_is_checked() -> None:
    vectors = np.ones((2, 3), np.float32)
    with pytest.raises(InputError, match="2 dimensions and the documents 3"):
        DenseRetriever(vectors, ["a", "b"], lambda texts: np.ones((1, 2), np.float32)).search_texts(["x"], 1)
    with pytest.raises(InputError, match="1 document ids for 2"):
        DenseRetriever(vectors, ["a"], lambda texts: vectors)
    with pytest.raises(InputError, match="not a number"):
        DenseRetriever(vectors * np.float32(np.nan), ["a", "b"], lambda texts: vectors)
    with pytest.raises(InputError, match="expected a matrix"):
        DenseRetriever(vectors[0], ["a"], lambda texts: vectors)


def test_sparse_retriever_encodes_and_searches() -> None:
    docs = random_vectors(np.random.default_rng(0), 30, 8, 0.4)

    def encode(texts: list[str]) -> sp.csr_matrix:
        return sp.csr_matrix([[float(character in text) for character in "abcdefgh"] for text in texts])

    index = SparseIndex.build(docs, ids_of(30), vocabulary="one")
    retriever: Retriever = SparseRetriever(index, encode, vocabulary="one")  # type: ignore[arg-type]
    assert_same(retriever.search_texts(["ab", "h"], 4), index.search(encode(["ab", "h"]), 4))
    assert retriever.doc_ids[3] == "doc-3"
    with pytest.raises(InputError, match="vocabulary is not the one"):
        SparseRetriever(index, encode, vocabulary="other")  # type: ignore[arg-type]
