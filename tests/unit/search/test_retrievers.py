from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from search_reference import assert_same, ids_of, random_vectors

from neural_sparse.errors import InputError
from neural_sparse.search import DenseRetriever, Hits, Retriever, SparseIndex, SparseRetriever
from neural_sparse.search import retrievers as dense_retriever
from neural_sparse.search.exact import top_of_rows
from neural_sparse.search.retrievers import best_keys
from neural_sparse.teachers.rows import DenseVectors, StoredVectors


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


@settings(max_examples=60, deadline=None)
@given(
    documents=st.integers(1, 90),
    queries=st.integers(0, 6),
    width=st.integers(1, 5),
    k=st.integers(1, 120),
    block=st.integers(1, 100),
    kinds=st.integers(1, 3),
    kind=st.sampled_from(["float16 shards", "float32", "on the GPU's path"]),
    seed=st.integers(0, 1000),
)
def test_dense_search_block_by_block_equals_the_plain_result(
    documents: int, queries: int, width: int, k: int, block: int, kinds: int, kind: str, seed: int
) -> None:
    """Small whole numbers, whose products are exact in any order, and of which many tie, also beyond k + 64."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-kinds, kinds + 1, (documents, width)).astype(np.float32)
    asked = rng.integers(-kinds, kinds + 1, (queries, width)).astype(np.float32)
    stored: Any = vectors
    if (
        kind == "float16 shards"
    ):  # as the teacher cache has them: in an order of their own, over several files
        numbers = rng.permutation(documents)
        rows = np.empty_like(vectors, np.float16)
        rows[numbers] = vectors
        cut = documents // 2
        parts = tuple({"vectors": part} for part in (rows[:cut], rows[cut:]) if len(part))
        stored = DenseVectors(StoredVectors(parts), numbers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense_retriever, "MARGIN", 2)
        patch.setattr(dense_retriever, "_SCORES", 50)
        patch.setattr(dense_retriever, "_SUMMED", 50)
        if kind == "on the GPU's path":
            patch.setattr(dense_retriever, "_gpu", lambda: True)
            patch.setattr("torch.Tensor.cuda", lambda tensor: tensor)
        found = DenseRetriever(stored, ids_of(documents), block=block).search(asked, k)
    scores = asked @ vectors.T
    order = np.argsort(-scores, axis=1, kind="stable")
    best = np.take_along_axis(scores, order, 1)
    missing = ((0, 0), (0, max(0, k - documents)))
    docs = np.pad(order[:, :k].astype(np.int32), missing, constant_values=-1)
    assert_same(found, Hits(docs, np.pad(best[:, :k], missing)))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_keys_of_torch_are_those_of_numba(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    rng = np.random.default_rng(0)
    for k, width in ((1, 1), (3, 50), (64, 700)):
        scores = rng.standard_normal((4, width)).astype(np.float32)
        scores[1] = np.round(scores[1])  # ties
        scores[2] *= np.float32(0)  # zeros of both signs
        scores[3] *= 1e30
        expected = np.empty((4, k), np.int64)
        top_of_rows(scores, 70_000, k, expected)
        keys = best_keys(torch.from_numpy(scores).to(device), 70_000, k).cpu().numpy()
        np.testing.assert_array_equal(np.sort(keys, 1), np.sort(expected, 1))


def test_a_block_is_read_at_a_time() -> None:
    class Watched:
        shape = (1000, 4)
        read: list[int] = []  # noqa: RUF012

        def __len__(self) -> int:
            return 1000

        def __getitem__(self, rows: Any) -> np.ndarray:
            found = vectors[rows]
            self.read.append(len(found))
            return found

    vectors = np.random.default_rng(0).standard_normal((1000, 4)).astype(np.float16)
    retriever = DenseRetriever(Watched(), ids_of(1000), block=100)
    assert Watched.read == [100] * 10
    Watched.read.clear()
    retriever.search(vectors[:300].astype(np.float32), 3)
    assert Watched.read[:10] == [100] * 10  # once for all queries
    assert max(Watched.read) <= 1000


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
