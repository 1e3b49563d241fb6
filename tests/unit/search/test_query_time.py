"""The cost model of a query: what it says of times, what it says can be afforded, and that times obey it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from neural_sparse.errors import InputError
from neural_sparse.search import index, query_time
from neural_sparse.search.hits import BLOCK_MAXIMA, EVERY_POSTING
from neural_sparse.search.mixed import mixed
from neural_sparse.search.query_time import (
    QueryTime,
    _Arm,
    _fitted,
    calibrate,
    measured_p99,
    postings_read,
)

MODEL = QueryTime(2e-4, 1e-10, 1e-9, tail=1.5, indexed=100_000)


def test_postings_are_what_is_left_of_the_time() -> None:
    postings = MODEL.postings_within(5.0, 1_000_000)
    assert MODEL.p99(1_000_000, postings) == pytest.approx(5.0)
    assert MODEL.postings_within(10.0, 1_000_000) > 2 * postings
    with pytest.raises(InputError, match=r"cannot be reached: more milliseconds, or fewer documents"):
        MODEL.postings_within(0.4, 1_000_000)


def test_postings_that_queries_read() -> None:
    queries = sp.csr_matrix(np.array([[0.5, 0, 3.0], [0, 0, 0], [2.0, 0, 0]], np.float32))
    share = np.array([0.5, 0.25, 0.125])
    assert postings_read(queries, share).tolist() == [0.625, 0.0, 0.5]


class Timed:
    """An index whose times are a formula's."""

    def __init__(self, documents: int, postings: np.ndarray, tail: float) -> None:
        self.documents, self.postings, self.asked = documents, postings, ["q"] * len(postings)
        exact = 1e-4 + 2e-10 * documents + 3e-9 * postings
        self.medians = exact
        self.times = [[time] * 98 + [tail * time] * 2 for time in exact]


def test_the_fit_finds_the_formula() -> None:
    rng = np.random.default_rng(0)
    arms: Any = [
        Timed(100_000, rng.integers(10_000, 400_000, 50), 1.5),
        Timed(25_000, rng.integers(2_000, 100_000, 50), 1.5),
        Timed(100_000, rng.integers(5_000, 200_000, 50), 1.5),
    ]
    found = _fitted(arms)
    assert found.fixed == pytest.approx(1e-4, rel=1e-3)
    assert found.per_document == pytest.approx(2e-10, rel=1e-3)
    assert found.per_posting == pytest.approx(3e-9, rel=1e-3)
    assert 1.0 < found.tail <= 1.5
    assert found.indexed == 100_000


def test_a_calibration_is_made_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_time, "INDEXED", {EVERY_POSTING: (400, 500)})
    rng = np.random.default_rng(1)
    vectors = sp.csr_matrix((rng.random((60, 50)) * (rng.random((60, 50)) < 0.3)).astype(np.float32))
    queries = sp.csr_matrix((rng.random((30, 50)) < 0.2).astype(np.float32))
    row = {f"query {number}": number for number in range(30)}
    found = calibrate(vectors, lambda texts: queries[[row[text] for text in texts]], list(row), 10, seconds=0)
    assert (found.indexed, found.mode) == (400, EVERY_POSTING)
    assert found.p99(400, 100) > 0
    found.save(tmp_path / "query_time.json")
    assert QueryTime.load(tmp_path / "query_time.json") == found
    (tmp_path / "other.json").write_text('{"fixed": 1}')
    with pytest.raises(InputError, match="not what a calibration wrote"):
        QueryTime.load(tmp_path / "other.json")
    replace(found, mode="guessing").save(tmp_path / "other.json")
    with pytest.raises(InputError, match="mode is one of every posting"):
        QueryTime.load(tmp_path / "other.json")
    with pytest.raises(InputError, match="documents that have terms"):
        calibrate(sp.csr_matrix((3, 50), dtype=np.float32), lambda texts: queries, ["q"], 10)


def test_a_collection_that_is_searched_by_skipping_is_timed_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (index, query_time):
        monkeypatch.setattr(module, "DOCUMENTS_PER_HIT", 50)
    monkeypatch.setattr(query_time, "INDEXED", {EVERY_POSTING: (100, 400), BLOCK_MAXIMA: (900, 1600)})
    arms: list[Any] = []
    made = _Arm.__init__

    def noted(self: Any, *given: Any) -> None:
        made(self, *given)
        arms.append(self)

    monkeypatch.setattr(_Arm, "__init__", noted)
    rng = np.random.default_rng(2)
    vectors = sp.csr_matrix((rng.random((60, 50)) * (rng.random((60, 50)) < 0.3)).astype(np.float32))
    queries = sp.csr_matrix((rng.random((30, 50)) < 0.2).astype(np.float32))
    row = {f"query {number}": number for number in range(30)}

    def encode(texts: Any) -> sp.csr_matrix:
        return queries[[row[text] for text in texts]]

    for wanted, mode, sizes in (
        (300, EVERY_POSTING, [300, 75, 300]),
        (501, BLOCK_MAXIMA, [900, 501, 900]),
        (100_000, BLOCK_MAXIMA, [1600, 501, 1600]),
    ):
        arms.clear()
        found = calibrate(vectors, encode, list(row), wanted, seconds=0)
        assert (found.mode, found.indexed) == (mode, sizes[0])
        assert [arm.documents for arm in arms] == sizes
        assert {arm.retriever.mode(10) for arm in arms} == {mode}
        assert arms[2].postings.sum() == pytest.approx(arms[0].postings.sum() / 2, rel=0.1)
        arms.clear()
        assert measured_p99(vectors, encode, list(row), wanted, mode=mode)[1] == min(wanted, 1600)
        assert arms[0].retriever.mode(10) == mode


def test_mixed_documents_are_of_two_and_all_different() -> None:
    rng = np.random.default_rng(3)
    vectors = sp.csr_matrix((rng.random((2, 400)) * (rng.random((2, 400)) < 0.3)).astype(np.float32))
    found = mixed(vectors, 500, seed=1)
    assert found.shape == (500, 400)
    assert found.has_sorted_indices
    assert len({row.tobytes() for row in found.toarray()}) == 500
    union = np.asarray(vectors.sum(axis=0) > 0).ravel()
    assert union[found.indices].all()
    assert found.nnz / 500 == pytest.approx(vectors.nnz / 2, rel=0.15)  # less where both have a term
    assert found.sum() / 500 == pytest.approx(vectors.sum() / 2, rel=0.2)
    assert abs(mixed(vectors, 500, seed=1) - found).max() == 0
