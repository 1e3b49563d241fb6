"""Approximate search: bounded by the exact one, with the recall that it says it has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from search_reference import ids_of, random_vectors

from neural_sparse.errors import InputError
from neural_sparse.search import SparseIndex, SparseRetriever, block_max, index, recall
from neural_sparse.search.block_max import BLOCK, WINDOW
from neural_sparse.search.budget import BLOCKS, Budgets, made_queries
from neural_sparse.search.hits import APPROXIMATE, EVERY_POSTING
from neural_sparse.search.passages import Passages
from neural_sparse.search.snapshot import Segment, Snapshot


@pytest.fixture(autouse=True)
def always_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Budgets are kept to in small indexes, too, however large they are."""
    monkeypatch.setattr(index, "SCORED", 0)
    monkeypatch.setattr(index, "LEAST_HITS", 1)


def vectors_of(rng: np.random.Generator, rows: int, width: int) -> sp.csr_matrix:
    share = np.minimum(0.8, 3 / (np.arange(width) + 2))
    values = rng.gamma(2, 0.5, (rows, width)) * (rng.random((rows, width)) < share)
    return sp.csr_matrix(values.astype(np.float32))


@pytest.mark.parametrize("seed", range(8))
def test_hits_are_exact_hits_or_missed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = int(rng.choice([1, WINDOW - 1, WINDOW + 1, 3 * WINDOW + 17]))
    docs = vectors_of(rng, rows, int(rng.integers(2, 40)))
    queries = random_vectors(rng, 6, docs.shape[1], 0.4, int(rng.choice([0, 2])))
    built = SparseIndex.build(docs, ids_of(rows))
    if seed % 2:
        built = built.quantized()
    exact = built.search(queries, rows)
    every = -(-rows // BLOCK) + WINDOW // BLOCK
    for k in (1, 10, 300):
        found_before = 0.0
        for blocks in (0.3, 1, 4, every):
            hits = built.search(queries, k, blocks=blocks, threads=int(rng.integers(1, 3)))
            for mine, scores, right, right_scores in zip(*hits[:2], *exact[:2], strict=True):
                there = mine >= 0
                scored = dict(zip(right.tolist(), right_scores.tolist(), strict=True))
                assert [scored[doc] for doc in mine[there].tolist()] == scores[there].tolist()
                order = list(zip(-scores[there], mine[there], strict=True))
                assert order == sorted(order)
            first = exact._replace(docs=exact.docs[:, :k], scores=exact.scores[:, :k])
            share = recall(hits, first) if (first.docs >= 0).any() else 1.0
            assert share >= found_before  # more blocks never find less
            found_before = share
        first = built.search(queries, k)
        np.testing.assert_array_equal(hits.docs, first.docs)
        np.testing.assert_array_equal(hits.scores, first.scores)


def test_the_blocks_with_the_highest_bounds_are_scored() -> None:
    """One term: bounds are in the order of the blocks' greatest weights, and each hit is in a block of its own."""
    weights = np.full(20 * WINDOW, 0.5, np.float32)
    best = np.arange(40) * 3 * BLOCK
    weights[best] = 100 - np.arange(40)
    built = SparseIndex.build(sp.csr_matrix(weights[:, None]), ids_of(len(weights)))
    query = sp.csr_matrix(np.ones((1, 1), np.float32))
    found = built.search(query, 20, blocks=0.5)
    assert found.docs[0, :10].tolist() == best[:10].tolist()
    assert found.docs[0, 10:].max() < best[10]  # neighbours of the ten, and nothing of another block
    assert built.search(query, 20, blocks=1.0).docs[0].tolist() == best[:20].tolist()


def test_filters_are_exact_and_what_gains_nothing_too(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    docs = vectors_of(rng, 5 * WINDOW, 30)
    queries = random_vectors(rng, 5, 30, 0.3)
    built = SparseIndex.build(docs, ids_of(docs.shape[0]))
    some = ids_of(docs.shape[0])[::7]
    for how in ({"only": some}, {"without": some}):
        exact = built.search(queries, 50, **how)  # type: ignore[arg-type]
        np.testing.assert_array_equal(
            built.search(queries, 50, **how, blocks=0.1).docs,  # type: ignore[arg-type]
            exact.docs,
        )
    exact = built.search(queries, 50)
    assert (built.search(queries, 50, blocks=0.1).docs != exact.docs).any()
    assert built.mode(50, 0.1) == APPROXIMATE
    monkeypatch.setattr(index, "LEAST_HITS", 51)
    assert built.mode(50, 0.1) == EVERY_POSTING
    monkeypatch.setattr(index, "LEAST_HITS", 50)
    monkeypatch.setattr(index, "SCORED", block_max.SCORED)
    assert built.mode(50, 1) == EVERY_POSTING  # 50 of 2,560 blocks
    np.testing.assert_array_equal(built.search(queries, 50, blocks=1).docs, exact.docs)
    with pytest.raises(InputError, match="more than 0 blocks"):
        built.search(queries, 50, blocks=0)


def test_the_budget_is_the_smallest_that_the_sample_asks_for() -> None:
    rng = np.random.default_rng(1)
    docs = vectors_of(rng, 8 * WINDOW, 60)
    asked = {f"query {number}": number for number in range(50)}
    queries = random_vectors(rng, 50, 60, 0.1)
    built = SparseIndex.build(docs, ids_of(docs.shape[0]))

    def encode(texts: object) -> sp.csr_matrix:
        return queries[[asked[text] for text in texts]]  # type: ignore[attr-defined]

    retriever = SparseRetriever(built, encode, recall=0.9, sample=list(asked))
    hits, exact = retriever.search_texts(list(asked), 20), built.search(queries, 20)
    assert retriever.budgets is not None
    budget = retriever.budgets.of(built, 20)
    assert budget.blocks in BLOCKS
    assert 0.9 <= recall(hits, exact) == budget.recall < 1
    fewer = BLOCKS[BLOCKS.index(budget.blocks) - 1]
    assert recall(built.search(queries, 20, blocks=fewer), exact) < 0.9
    measured = f"recall {budget.recall:.3f} of the 20 best of 50 sample queries"
    assert retriever.mode(20) == f"approximate, {budget.blocks:g} blocks a hit: {measured}"
    easier = SparseRetriever(built, encode, recall=0.5, sample=list(asked)).budgets
    assert easier is not None
    assert (easier.of(built, 20).blocks or 99) < budget.blocks
    assert SparseRetriever(built, encode).mode(20) == EVERY_POSTING


def test_what_no_budget_reaches_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    docs = vectors_of(rng, 2 * WINDOW, 30)
    built = SparseIndex.build(docs, ids_of(docs.shape[0]))
    budgets = Budgets(0.99, random_vectors(rng, 10, 30, 0.3))
    monkeypatch.setattr("neural_sparse.search.budget.BLOCKS", (0.1, 0.2))
    assert budgets.of(built, 10).blocks is None
    assert budgets.mode(built, 10) == EVERY_POSTING
    monkeypatch.setattr(index, "SCORED", 1 << 40)
    assert budgets.of(built, 5).queries == 0  # nothing to measure


@pytest.mark.parametrize("wanted", [0.0, 1.0, -1.0, float("nan")])
def test_recalls_that_cannot_be_asked_for(wanted: float) -> None:
    with pytest.raises(InputError, match="above 0 and below 1"):
        Budgets(wanted, sp.csr_matrix(np.ones((1, 3), np.float32)))


def test_a_sample_without_terms() -> None:
    with pytest.raises(InputError, match="give queries such as people ask"):
        Budgets(0.9, sp.csr_matrix((3, 5), dtype=np.float32))


def segment(docs: sp.csr_matrix, name: str, deleted: np.ndarray | None = None) -> Segment:
    ids = [f"{name}-{row}" for row in range(docs.shape[0])]
    gone = np.empty(0, np.int64) if deleted is None else deleted
    return Segment(SparseIndex.build(docs, ids), ["text"] * docs.shape[0], gone, name=name)


def test_a_collection_of_segments() -> None:
    rng = np.random.default_rng(3)
    docs = vectors_of(rng, 6 * WINDOW, 50)
    gone = np.sort(rng.permutation(4 * WINDOW)[:WINDOW])
    snapshot = Snapshot([segment(docs[: 4 * WINDOW], "a", gone), segment(docs[4 * WINDOW :], "b")])
    queries = random_vectors(rng, 20, 50, 0.1)
    exact = snapshot.search(queries, 20)
    scores = {
        (query, doc): score
        for query, (row, values) in enumerate(zip(*snapshot.search(queries, len(snapshot))[:2], strict=True))
        for doc, score in zip(row.tolist(), values.tolist(), strict=True)
    }
    shares = []
    for blocks in (0.2, 1.0, 20.0):
        found = snapshot.search(queries, 20, blocks=blocks)
        assert not np.isin(found.docs, gone).any()
        for query, (row, values) in enumerate(zip(found.docs.tolist(), found.scores.tolist(), strict=True)):
            assert all(
                scores[query, doc] == score for doc, score in zip(row, values, strict=True) if doc >= 0
            )
        shares.append(recall(found, exact))
    assert shares[0] < shares[1] < shares[2] == 1.0
    assert snapshot.mode(20, 0.2) == APPROXIMATE
    budgets = Budgets(0.9, queries)
    assert budgets.of(snapshot, 20).recall >= 0.9
    without = snapshot.search(queries, 20, without=["a-0"], blocks=0.2)
    np.testing.assert_array_equal(without.scores, snapshot.search(queries, 20, without=["a-0"]).scores)

    halves = Passages.of(segment(docs[: 2 * WINDOW], "c").doc_ids.numbers(WINDOW), np.full(WINDOW, 2))
    parts = replace(segment(docs[: 2 * WINDOW], "c"), passages=halves)
    with pytest.raises(InputError, match="passages are searched exactly"):
        Snapshot([parts]).search(queries, 20, blocks=1.0)


def test_made_queries_are_words_in_a_row() -> None:
    text = " ".join(f"w{number}" for number in range(30))
    made = made_queries([text] * 50 + ["", "two words"], np.random.default_rng(0))
    assert len(made) == 51
    assert all(query in text and 4 <= len(query.split()) <= 8 for query in made[:50])
    assert len({query.split()[0] for query in made[:50]}) > 10  # from anywhere
    assert made[50] == "two words"
