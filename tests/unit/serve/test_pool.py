"""How many requests that wait are answered by one call."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from neural_sparse.serve.metrics import Metrics
from neural_sparse.serve.pool import Pool, _Job


class Work:
    """Doubles numbers, and takes so much processor time for each, by a clock of its own."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now = 0.0
        self.calls: list[int] = []

    def __call__(self, items: Sequence[int]) -> list[int | Exception]:
        self.calls.append(len(items))
        self.now += self.seconds * len(items)
        return [2 * item for item in items]


@pytest.mark.parametrize(
    ("seconds", "calls"),
    [
        (0.1, [1] * 70),  # slower than a call may be: nobody waits for a request of others
        (0.0009, [1, *[5] * 13, 4]),
        (0.0, [1, 64, 5]),  # however fast
    ],
)
def test_a_call_takes_as_many_as_it_has_time_for(
    seconds: float, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(seconds)
    monkeypatch.setattr("neural_sparse.serve.pool.time.thread_time", lambda: work.now)

    async def ask() -> list[int]:
        pool = Pool(workers=1, queue=100, metrics=Metrics(), name="test")
        answers = await asyncio.gather(*(pool.run_together(work, item) for item in range(70)))
        pool.close()
        return answers

    assert asyncio.run(ask()) == [2 * item for item in range(70)]
    assert work.calls == calls


def test_what_became_slow_is_asked_in_smaller_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(0.0)
    monkeypatch.setattr("neural_sparse.serve.pool.time.thread_time", lambda: work.now)

    async def ask() -> None:
        pool = Pool(workers=1, queue=100, metrics=Metrics(), name="test")
        for work.seconds in (0.0, 0.002, 0.002):
            await asyncio.gather(*(pool.run_together(work, item) for item in range(10)))
        pool.close()

    asyncio.run(ask())
    assert work.calls == [1, 9, 10, *[2] * 5]


def test_what_waits_is_shared_by_the_threads() -> None:
    work = Work(0.0)

    async def taken() -> list[int]:
        pool = Pool(workers=2, queue=100, metrics=Metrics(), name="test")
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        pool._each[work] = 0.0
        pool._jobs.extend(_Job(work, item, future) for item in range(10))
        sizes = [len(pool._take()) for _ in range(5)]
        pool.close()
        return sizes

    assert asyncio.run(taken()) == [5, 3, 1, 1, 0]
