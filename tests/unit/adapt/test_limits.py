"""A time for the slowest queries in place of FLOPS: read, refused, predicted; what it does to pruning and choice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from typer.testing import CliRunner

from neural_sparse.adapt.candidates import pruning_within
from neural_sparse.adapt.limits import Flops, SlowestTime, scaled
from neural_sparse.adapt.page import Slowest
from neural_sparse.adapt.settings import AdaptSettings, parse_target_p99
from neural_sparse.adapt.verdict import Standing, choose
from neural_sparse.cli.main import app
from neural_sparse.errors import InputError
from neural_sparse.evaluation.cost import flops_metric
from neural_sparse.model.pruning import Pruning
from neural_sparse.search.query_time import QueryTime, measured_p99

TIMES = QueryTime(1e-4, 1e-10, 1e-8, tail=1.5, indexed=1000)
SIZE = 100_000


def drawn(rows: int, share: float, seed: int) -> sp.csr_matrix:
    rng = np.random.default_rng(seed)
    return sp.csr_matrix((rng.random((rows, 40)) * (rng.random((rows, 40)) < share)).astype(np.float32))


def test_a_time_is_that_of_the_slowest_hundredth_and_flops_are_of_the_mean() -> None:
    vectors = drawn(60, 0.4, 0)
    queries = sp.vstack([drawn(99, 0.1, 1), drawn(1, 1.0, 2)], "csr")
    time = SlowestTime(TIMES, SIZE)
    slow = float(np.asarray((vectors != 0).mean(axis=0)).sum())  # the last query has every token
    read = sorted(flops_metric(queries[row], vectors) for row in range(99))[-1]
    between = np.percentile([read] * 99 + [slow], 99)
    assert time.of(queries, vectors) == pytest.approx(TIMES.p99(SIZE, between * SIZE))
    assert Flops().of(queries, vectors) == pytest.approx(flops_metric(queries, vectors))
    # Passages: as many vectors as there are of each document.
    twice = sp.vstack([vectors, vectors], "csr")
    assert Flops().of(queries, twice, 60) == pytest.approx(2 * Flops().of(queries, vectors))
    assert time.of(queries, twice, 60) == pytest.approx(TIMES.p99(2 * SIZE, 2 * between * SIZE))


def test_half_the_postings_cost_half_of_what_is_above_the_least() -> None:
    time = SlowestTime(TIMES, SIZE)
    limit = TIMES.p99(SIZE, 80_000)
    assert scaled(limit, 0.5, time.least) == pytest.approx(TIMES.p99(SIZE, 40_000))
    assert scaled(3.0, 0.5, Flops.least) == 1.5


def test_documents_are_pruned_until_the_slowest_queries_are_within_the_time() -> None:
    vectors, queries, time = drawn(200, 0.5, 3), drawn(50, 0.2, 4), SlowestTime(TIMES, SIZE)
    limit = time.of(queries, Pruning(0.25)(vectors))
    assert pruning_within(limit, time, queries, vectors) == 0.25
    assert pruning_within(time.of(queries, vectors), time, queries, vectors) == 0.0


def test_a_model_that_is_too_slow_stands_back() -> None:
    standings = [
        Standing("own words", "free", select=0.6, flops=2.0, of_limit=1.5, lead=0.2),
        Standing("own words, pruned", "free", select=0.5, flops=1.0, of_limit=1.0, lead=0.1),
    ]
    choice = choose(standings)
    assert (choice.chosen, choice.over_cost) == ("own words, pruned", ["own words"])


def test_what_was_predicted_and_measured_is_said() -> None:
    slowest = Slowest(
        5.0,
        1_000_000,
        predicted={"BM25": 2.0, "trained": 4.0},
        chosen="trained",
        queries="made queries",
        measured=0.51,
        measured_documents=100_000,
        predicted_there=0.42,
    )
    told = " ".join(slowest.told())
    assert "may take 5 ms among 1,000,000 documents" in told
    assert "trained, made queries: 4 ms predicted; measured 0.51 ms in 100,000 documents" in told
    assert "0.42 ms are predicted" in told
    assert (slowest.to_dict()["predicted"], slowest.to_dict()["measured"]) == (4.0, 0.51)


def test_times_are_measured_among_as_many_documents() -> None:
    vectors, queries = drawn(30, 0.4, 5), drawn(5, 0.3, 6)
    texts = [f"query {row}" for row in range(5)]
    asked: list[int] = []

    def encode(wanted: list[str]) -> sp.csr_matrix:
        asked.append(len(wanted))
        return queries[[texts.index(text) for text in wanted]]

    took, indexed = measured_p99(vectors, encode, texts, 300)  # type: ignore[arg-type]
    assert (took > 0, indexed) == (True, 300)
    assert asked.count(1) == 1000
    assert measured_p99(vectors, encode, texts, 30)[1] == 30  # type: ignore[arg-type]
    with pytest.raises(InputError, match="there are none"):
        measured_p99(vectors, encode, [], 30)  # type: ignore[arg-type]


def test_the_option_and_what_it_is_not(tmp_path: Path) -> None:
    assert parse_target_p99("5@1e6") == {"milliseconds": 5.0, "documents": 1e6}
    assert parse_target_p99("0.5") == {"milliseconds": 0.5}
    for wrong in ("", "fast", "5@", "5@many", "0", "-1", "5@0", "inf", "nan"):
        with pytest.raises(InputError, match="write milliseconds such as 5"):
            parse_target_p99(wrong)
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("a document\n")
    settings = AdaptSettings(corpus, target_p99={"milliseconds": 5.0})
    assert settings.describe()["target_p99"] == {"milliseconds": 5.0}
    assert "target_p99" not in AdaptSettings(corpus).describe()  # folders that were begun before go on
    for other in ({"documents": 10.0}, {"milliseconds": 0.0}, {"milliseconds": 5.0, "seconds": 1.0}):
        with pytest.raises(InputError, match=r"target_p99 is \{milliseconds: 5\}"):
            AdaptSettings(corpus, target_p99=other)
    both = ["adapt", str(corpus), "-o", str(tmp_path / "out"), "--target-p99", "5", "--target-flops", "2"]
    with pytest.raises(InputError, match="leave out one of them"):
        CliRunner().invoke(app, both, catch_exceptions=False)
    assert not (tmp_path / "out").exists()
