"""Search with bounds finds what search without them finds: documents, order and scores, bit by bit."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from search_reference import assert_same, ids_of, plain_search, random_vectors

from neural_sparse.search import SparseIndex, block_max, index
from neural_sparse.search.block_max import BLOCK, FIRST, FREQUENT, SPANS, WINDOW, BlockMaxima
from neural_sparse.search.hits import BLOCK_MAXIMA, EVERY_POSTING, Hits


def both(
    monkeypatch: pytest.MonkeyPatch, built: SparseIndex, queries: sp.csr_matrix, k: int, **how: Any
) -> Hits:
    """Search with bounds, compared with search without."""
    monkeypatch.setattr(index, "DOCUMENTS_PER_HIT", 0)
    found = built.search(queries, k, **how)
    monkeypatch.setattr(index, "DOCUMENTS_PER_HIT", 1 << 40)
    right = built.search(queries, k, **how)
    np.testing.assert_array_equal(found.docs, right.docs)
    np.testing.assert_array_equal(found.scores, right.scores)
    return found


def zipf_vectors(
    rng: np.random.Generator, rows: int, width: int, terms: int, levels: int = 0
) -> sp.csr_matrix:
    """Frequent and rare terms, some documents without any."""
    chance = np.minimum(0.9, terms * (1 / (np.arange(width) + 3)) / np.sum(1 / (np.arange(width) + 3)))
    mask = rng.random((rows, width)) < chance
    mask[rng.random(rows) < 0.1] = False
    values = rng.integers(1, levels + 1, (rows, width)) / 4 if levels else rng.gamma(2, 0.5, (rows, width))
    return sp.csr_matrix((mask * values).astype(np.float32))


@pytest.mark.parametrize("seed", range(16))
def test_random_indexes(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = int(rng.choice([1, BLOCK, WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW + 17]))
    width = int(rng.integers(1, 40))
    if seed % 4 == 0:  # more spans than blocks that are searched first
        rows, width = (FIRST // SPANS + 1) * WINDOW + 5, 12
    levels = int(rng.choice([0, 0, 1, 3]))
    docs = zipf_vectors(rng, rows, width, int(rng.integers(1, 9)), levels)
    if rng.random() < 0.3:  # sorted by similarity: lists do not lie evenly
        docs = docs[np.argsort(docs.argmax(axis=1).A1, kind="stable")]
    queries = sp.vstack(
        [random_vectors(rng, 6, width, 0.4, levels), sp.csr_matrix((1, width), dtype=np.float32)]
    )
    queries = sp.csr_matrix(queries)
    built = SparseIndex.build(docs, ids_of(rows))
    for k in (1, 10, int(rng.choice([100, 3000]))):
        found = both(monkeypatch, built, queries, k, threads=int(rng.integers(1, 3)))
        if rows <= WINDOW:
            assert_same(found, plain_search(docs, queries, k))
        both(monkeypatch, built.quantized(), queries, k)
    some = [f"doc-{row}" for row in rng.permutation(rows)[: rows // 3 + 1]]
    both(monkeypatch, built, queries, 10, only=some)
    both(monkeypatch, built, queries, 10, without=some)
    if rows > len(some):
        built.delete(some)
        both(monkeypatch, built, queries, 10)


@pytest.mark.parametrize("k", [1, 10, 1500])
def test_ties_go_to_the_first_documents(monkeypatch: pytest.MonkeyPatch, k: int) -> None:
    """Though the last window promises most and is searched first."""
    weights = np.ones((20 * WINDOW, 2), np.float32)
    weights[:, 1] = 0
    weights[-1, 1] = 1e-9  # raises the bound of its block, and rounds away in the score
    built = SparseIndex.build(sp.csr_matrix(weights), ids_of(len(weights)))
    found = both(monkeypatch, built, sp.csr_matrix(np.array([[1, 1]], np.float32)), k)
    assert found.docs[0].tolist() == list(range(k))


def test_nearly_equal_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of scores in one bucket of the histogram: only selections raise the threshold."""
    weights = (1 + np.arange(6 * WINDOW) * 2.0**-22).astype(np.float32)[:, None]
    for docs in (weights, weights[::-1], np.random.default_rng(0).permutation(weights)):
        built = SparseIndex.build(sp.csr_matrix(docs), ids_of(len(docs)))
        for k in (1, 10, 3000):
            both(monkeypatch, built, sp.csr_matrix(np.array([[1]], np.float32)), k)


@pytest.mark.parametrize("size", [1e-42, 1e-25, 1e-18, 1.0, 1e17, 1e18])
def test_very_small_and_very_great_weights(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    rng = np.random.default_rng(1)
    docs = zipf_vectors(rng, 6 * WINDOW, 40, 5)
    docs.data *= np.where(rng.random(docs.nnz) < 0.5, np.float32(size), np.float32(1))
    queries = random_vectors(rng, 6, 40, 0.3)
    queries.data *= np.float32(size)
    both(monkeypatch, SparseIndex.build(docs, ids_of(docs.shape[0])), queries, 10)


def test_only_rows_that_are_asked_for_are_made() -> None:
    docs = zipf_vectors(np.random.default_rng(0), 3 * WINDOW, 200, 8)
    built = SparseIndex.build(docs, ids_of(docs.shape[0]))
    maxima = BlockMaxima(built.postings)
    lengths = built.posting_lengths
    np.testing.assert_array_equal(maxima.row_of >= 0, lengths * FREQUENT >= len(built))
    assert maxima.nbytes == 0
    rare = int(np.flatnonzero(maxima.row_of < 0)[0])
    maxima.make(np.array([0, rare, 0], np.int32))
    assert maxima.nbytes == 3 * WINDOW // BLOCK + 8 * 4
    blocks = docs[:, 0].toarray().reshape(-1, BLOCK).max(axis=1)
    steps = np.ceil(blocks.astype(np.float64) / (np.float64(blocks.max()) / 255)).clip(max=255)
    np.testing.assert_array_equal(maxima.maxima[maxima.row_of[0]], steps)
    assert copy.copy(maxima).nbytes == 0  # as another process gets it


def test_a_row_counts_as_made_when_it_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may ask for the term while its row is being made."""
    rng = np.random.default_rng(0)
    maxima = BlockMaxima(SparseIndex.build(zipf_vectors(rng, 2 * WINDOW, 5, 3), ids_of(2 * WINDOW)).postings)
    make = block_max._make_rows

    def seen(*arguments: Any, **named: Any) -> None:
        assert not maxima.made.any()
        make(*arguments, **named)
        assert not maxima.made.any()

    monkeypatch.setattr(block_max, "_make_rows", seen)
    maxima.make(np.array([0, 1], np.int32))
    assert maxima.made[maxima.row_of[[0, 1]]].all()


def test_shallow_rankings_of_large_indexes_are_searched_with_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    docs = zipf_vectors(np.random.default_rng(0), 10_001, 12, 3)
    built = SparseIndex.build(docs, ids_of(10_001))
    query = docs[np.flatnonzero(docs.getnnz(axis=1))[0]]
    built.search(query, 2)
    assert built._snapshot.maxima.nbytes == 0
    assert built.mode(2) == EVERY_POSTING
    built.search(query, 1)
    assert built._snapshot.maxima.nbytes > 0
    assert built.mode(1) == BLOCK_MAXIMA
