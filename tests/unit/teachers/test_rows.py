from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from neural_sparse.teachers.rows import StoredVectors, batches, concatenate, dot, pack


def random_sparse(rng: np.random.Generator, rows: int, width: int) -> csr_matrix:
    dense = rng.random((rows, width)).astype(np.float32) * (rng.random((rows, width)) < 0.3)
    return csr_matrix(dense)


@given(
    sizes=st.lists(st.integers(0, 5), min_size=1, max_size=4).filter(any),
    seed=st.integers(0, 1000),
    sparse=st.booleans(),
    piece=st.sampled_from([1, 3, 1 << 14]),
)
def test_gather_equals_indexing_the_whole(sizes: list[int], seed: int, sparse: bool, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neural_sparse.teachers.rows._PIECE", piece)
        check_gather(sizes, seed, sparse)


def check_gather(sizes: list[int], seed: int, sparse: bool) -> None:
    rng = np.random.default_rng(seed)
    matrices = [random_sparse(rng, size, 7) for size in sizes]
    whole = np.concatenate([matrix.toarray() for matrix in matrices])
    parts = tuple(pack(matrix if sparse else matrix.toarray()) for matrix in matrices)
    wanted = rng.integers(0, len(whole), rng.integers(0, 9))
    for rows in (StoredVectors(parts), StoredVectors((concatenate(parts),))):
        assert len(rows) == len(whole)
        gathered = rows.gather(wanted)
        assert gathered.dtype == np.float32
        if isinstance(gathered, csr_matrix):
            assert gathered.has_sorted_indices
            gathered = gathered.toarray()
        np.testing.assert_array_equal(gathered, whole[wanted])


def test_half_precision_is_widened() -> None:
    rows = StoredVectors.of(np.array([[0.1, 0.2]], dtype=np.float16))
    assert rows.gather(np.array([0])).dtype == np.float32


@pytest.mark.parametrize("sparse", [False, True])
def test_dot_is_the_dot_product(sparse: bool) -> None:
    rng = np.random.default_rng(0)
    queries, documents = random_sparse(rng, 3, 50), random_sparse(rng, 8, 50)
    expected = np.einsum("qt,dt->qd", queries.toarray(), documents.toarray())
    actual = dot(queries, documents) if sparse else dot(queries.toarray(), documents.toarray())
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_dot_of_texts_without_terms_is_zero() -> None:
    empty = csr_matrix((2, 5), dtype=np.float32)
    np.testing.assert_array_equal(dot(empty, empty), np.zeros((2, 2)))


def test_batches_cover_everything_once() -> None:
    assert [list(range(10))[piece] for piece in batches(10, 4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [list(range(8))[piece] for piece in batches(8, 4)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert batches(0, 4) == []
