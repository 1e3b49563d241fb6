from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import scipy.sparse as sp

from neural_sparse.evaluation.cost import Latency, Stopwatch, measure_latency
from neural_sparse.search import Hits, SparseIndex, SparseRetriever, index


class Recorder:
    """Answers nothing and writes down who was asked what."""

    doc_ids = ("a",)

    def __init__(self, name: str, calls: list[tuple[str, tuple[str, ...]]]) -> None:
        self.name, self.calls = name, calls

    def search_texts(self, texts: Sequence[str], k: int) -> Hits:
        self.calls.append((self.name, tuple(texts)))
        return Hits(np.full((len(texts), k), -1, np.int32), np.zeros((len(texts), k), np.float32))


QUERIES = [f"query {number}" for number in range(7)]


def test_systems_take_turns() -> None:
    calls: list[tuple[str, tuple[str, ...]]] = []
    told: dict[str, Latency] = {}
    stopwatch = Stopwatch(samples=20)
    for name in ("one", "two"):
        stopwatch.add(
            Recorder(name, calls), QUERIES, 3, lambda latency, name=name: told.update({name: latency})
        )
    stopwatch.measure()
    timed = calls[4 : 4 + 2 * 3 * 7]  # after warming up: three rounds of seven queries for either
    pairs = list(zip(timed[::2], timed[1::2], strict=True))
    assert all({first[0], second[0]} == {"one", "two"} and first[1] == second[1] for first, second in pairs)
    assert {first[0] for first, _ in pairs} == {"one", "two"}  # neither is always first
    for start in range(0, 21, 7):
        assert sorted(first[1][0] for first, _ in pairs[start : start + 7]) == QUERIES
    assert [first[1] for first, _ in pairs[:7]] != [first[1] for first, _ in pairs[7:14]]
    assert told["one"].samples == told["two"].samples == 21
    stopwatch.measure()
    assert len(calls) == 4 + 2 * 3 * 7 + 4  # and two batches each; afterwards it knows nobody


def test_no_99th_percentile_of_a_few_times() -> None:
    few = Stopwatch(samples=999)
    enough = Stopwatch(samples=1000)
    found: list[Latency] = []
    for stopwatch in (few, enough):
        stopwatch.add(Recorder("one", []), ["a query"], 3, found.append)
        stopwatch.measure()
    assert found[0].p99 is None
    assert "latency_p99_ms" not in found[0].figures()
    assert found[1].p99 is not None
    assert found[1].samples == 1000
    figures = found[1].figures()
    assert figures["latency_p99_low_ms"] <= figures["latency_p99_ms"] <= figures["latency_p99_high_ms"]
    assert figures["latency_p50_ms"] <= figures["latency_p99_ms"]


def test_a_slow_system_is_timed_once() -> None:
    found: list[Latency] = []
    stopwatch = Stopwatch(seconds=0)
    stopwatch.add(Recorder("one", []), QUERIES, 3, found.append)
    stopwatch.measure()
    assert found[0].samples == len(QUERIES)
    assert found[0].p99 is None


def test_how_the_index_searched_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    built = SparseIndex.build(sp.csr_matrix(np.ones((2, 1), np.float32)), ["a", "b"])
    retriever = SparseRetriever(built, lambda texts: sp.csr_matrix(np.ones((len(texts), 1), np.float32)))
    timed = measure_latency(retriever, ["query"], k=1)
    assert timed is not None
    assert timed.mode == "every posting"
    monkeypatch.setattr(index, "DOCUMENTS_PER_HIT", 1)
    timed = measure_latency(retriever, ["query"], k=1)
    assert timed is not None
    assert timed.mode == "block maxima"
    assert Latency(**timed.to_dict()) == timed
    timed = measure_latency(Recorder("one", []), QUERIES)
    assert timed is not None
    assert timed.mode == ""


@pytest.mark.parametrize("texts", [[], QUERIES])
def test_nothing_to_time(texts: list[str]) -> None:
    assert measure_latency(Recorder("one", []), texts, most=0 if texts else 5) is None


def test_the_99th_percentile_of_an_earlier_version_is_not_shown() -> None:
    old = {"mean": 1.0, "p50": 1.0, "p95": 2.0, "p99": 9.0, "throughput": 5.0, "k": 10, "queries": 200}
    assert "latency_p99_ms" not in Latency(**old).figures()  # type: ignore[arg-type]
