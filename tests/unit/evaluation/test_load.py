"""Open-loop load on systems made of sleeps: what is counted, and what is refused."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from neural_sparse import InputError
from neural_sparse.evaluation import load
from neural_sparse.evaluation.load import Answer, LoadOptions, Send, System, arrival_times, measure_load
from neural_sparse.evaluation.tail import blocked_quantiles, quantile_ratios

SHORT = LoadOptions(duration=1.5, warmup=0.1, slice_seconds=0.5, lag_limit=math.inf)


def sleeping(seconds: float, name: str = "system") -> System:
    def send(number: int) -> Answer:
        time.sleep(seconds)
        return Answer(took=1000 * seconds)

    return System(name, lambda: send)


def test_arrivals_are_poisson_or_even() -> None:
    due = arrival_times(100, 200, "poisson", np.random.default_rng(1))
    gaps = np.diff(due)
    assert abs(len(due) - 20_000) < 4 * np.sqrt(20_000)
    assert abs(gaps.std() / gaps.mean() - 1) < 0.05  # exponential
    assert due[-1] < 200
    assert arrival_times(3, 1, "fixed").tolist() == pytest.approx([0, 1 / 3, 2 / 3])
    assert np.array_equal(arrival_times(5, 9, rng=np.random.default_rng(7)),
                          arrival_times(5, 9, rng=np.random.default_rng(7)))  # fmt: skip


def test_a_stall_is_counted_for_every_request_that_was_due_in_it() -> None:
    """Coordinated omission: a loop that waits would have seen one slow answer in all."""
    stalled = threading.Event()

    def connect() -> Send:
        def send(number: int) -> Answer:
            if number == 40 and not stalled.is_set():
                stalled.set()
                time.sleep(0.4)
            return Answer()

        return send

    options = LoadOptions(duration=2, warmup=0, slice_seconds=2, arrivals="fixed", lag_limit=math.inf)
    (cell,) = measure_load([System("stalls", connect)], 200, [100], [1], options)
    (one,) = cell.loads
    assert one.latency is not None
    assert one.service is not None
    slow, sent_slow = one.latency["p90"].value, one.service["p90"].value
    assert slow is not None
    assert sent_slow is not None
    assert slow > 100 > sent_slow  # of 200 requests some 40 were due in the stall; one was sent into it
    assert one.requests == 200


def test_what_cannot_keep_up_is_called_saturated() -> None:
    (cell,) = measure_load([sleeping(0.02)], 10, [100], [1], SHORT)
    (one,) = cell.loads
    assert one.saturated
    assert one.achieved < 0.7 * one.sent
    assert one.busy > 0.9
    (cell,) = measure_load([sleeping(0.002)], 10, [40], [4], SHORT)
    assert not cell.loads[0].saturated
    assert cell.loads[0].busy < 0.3


def test_what_is_hopelessly_behind_is_given_up() -> None:
    started = time.perf_counter()
    (cell,) = measure_load([sleeping(0.2)], 10, [200], [1], SHORT)
    assert time.perf_counter() - started < 15  # 300 requests would take 60 s
    assert cell.loads[0].errors[load.NOT_SENT] > 100
    latency = cell.loads[0].latency
    assert latency is not None
    assert latency["p99"].value is None


def test_failures_count_as_never_answered_and_are_named() -> None:
    def connect() -> Send:
        return lambda number: Answer("429" if number % 4 == 0 else "", took=1.0)

    (cell,) = measure_load([System("rejects", connect)], 8, [100], [2], SHORT)
    (one,) = cell.loads
    assert one.latency is not None
    assert set(one.errors) == {"429"}
    assert one.errors["429"] == pytest.approx(one.requests / 4, abs=2 * SHORT.slices)
    assert one.latency["p50"].value is not None
    assert one.latency["p90"].value is None


def test_systems_take_turns_and_ratios_have_intervals() -> None:
    asked: list[str] = []

    def system(name: str, seconds: float) -> System:
        def send(number: int) -> Answer:
            asked.append(name)
            time.sleep(seconds)
            return Answer()

        return System(name, lambda: send)

    slow, quick = system("slow", 0.03), system("quick", 0.01)
    (cell,) = measure_load([slow, quick], 5, [60], [8], SHORT)
    changes = sum(a != b for a, b in itertools.pairwise(asked))
    assert 2 * SHORT.slices - 2 <= changes <= 40  # slices, and each sender's first request
    ratio = cell.ratios["quick"]["p50"]
    assert ratio.value is not None
    assert ratio.low is not None
    assert ratio.high is not None
    assert 1.2 < ratio.low <= ratio.value <= ratio.high < 4
    assert cell.ratios["quick"]["p99.9"].low is None  # of 90 requests


def test_no_figures_where_the_generator_was_late(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[[float], None] = time.sleep
    monkeypatch.setattr(load.time, "sleep", lambda seconds: real(seconds + 0.02))

    def connect() -> Send:
        return lambda number: Answer()

    options = LoadOptions(duration=1, warmup=0, slice_seconds=1)
    (cell,) = measure_load([System("instant", connect)], 5, [30], [1], options)
    (one,) = cell.loads
    assert one.latency is None
    assert "late itself" in one.remark
    assert one.lag > 15


def test_an_error_of_a_sender_ends_the_run() -> None:
    def connect() -> Send:
        def send(number: int) -> Answer:
            raise InputError("no such index")

        return send

    with pytest.raises(InputError, match="no such index"):
        measure_load([System("broken", connect)], 5, [30], [2], SHORT)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LoadOptions(duration=0), "longer than 0"),
        (lambda: LoadOptions(arrivals="bursts"), "poisson or fixed"),  # type: ignore[arg-type]
        (lambda: LoadOptions(lag_limit=0), "lag limit"),
        (lambda: measure_load([], 1, [1], [1]), "needs a system"),
        (lambda: measure_load([sleeping(0)], 1, [1], [0]), "at least one client"),
        (lambda: measure_load([sleeping(0), sleeping(0)], 1, [1], [1]), "two systems"),
        (lambda: arrival_times(0, 1), "above 0"),
    ],
)
def test_bad_settings_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_intervals_cover_though_neighbours_are_alike() -> None:
    """95% intervals of the median where seconds are alike: order statistics alone would be far too narrow."""
    covered = narrow = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        level = np.repeat(rng.normal(size=40), 20)  # 40 blocks of 20 requests
        values = np.exp(level + 0.2 * rng.normal(size=800))
        blocks = np.repeat(np.arange(40), 20)
        found = blocked_quantiles(values, blocks, [0.5])["p50"]
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 1 <= found.high
        alone = blocked_quantiles(values, np.arange(800), [0.5])["p50"]
        assert alone.low is not None
        assert alone.high is not None
        narrow += alone.low <= 1 <= alone.high
    assert covered >= 0.85 * 30
    assert narrow <= 0.7 * 30


def test_a_small_sample_has_no_bound_in_the_tail() -> None:
    values = np.random.default_rng(0).exponential(size=3000)
    found = blocked_quantiles(values, np.arange(3000) // 100, [0.99, 0.999])
    assert found["p99"].high is not None
    assert found["p99.9"].low is not None
    assert found["p99.9"].high is None  # .999 ** 3000 > .025
    more = np.random.default_rng(0).exponential(size=4000)
    assert blocked_quantiles(more, np.arange(4000) // 100, [0.999])["p99.9"].high is not None


def test_ratios_of_what_shares_its_conditions_are_narrow() -> None:
    rng = np.random.default_rng(0)
    blocks = np.repeat(np.arange(50), 40)
    weather = np.exp(np.repeat(rng.normal(size=50), 40))
    a, b = (factor * weather * rng.uniform(0.9, 1.1, 2000) for factor in (1.2, 1.0))
    together = quantile_ratios((a, blocks), (b, blocks), [0.5])["p50"]
    assert together.low is not None
    assert together.high is not None
    assert together.low < 1.2 < together.high
    assert together.high / together.low < 1.35
