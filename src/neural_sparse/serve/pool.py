"""Threads that work, and a bounded number of requests that wait for them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

from neural_sparse.serve.metrics import Metrics
from neural_sparse.serve.requests import Refused

A = TypeVar("A")
T = TypeVar("T")
TOGETHER = 64  # requests that one call answers at most,
SECONDS = 0.005  # and as many as take so long, going by the call before: whoever is first waits for the last


class _Job(NamedTuple):
    work: Callable[[Sequence[Any]], Sequence[Any]]
    item: Any
    future: asyncio.Future[Any]


class Pool:
    """Runs calls in threads, beside the loop that speaks HTTP, in the order in which they come.

    Requests of one kind that wait may be answered by one call: what a call costs, and what it costs to hand it to
    a thread and its answers back, is then shared. Nobody is kept waiting for that: threads that are free take their
    part at once, which is when the loop has read what has come.

    Args:
        workers: calls at a time.
        queue: requests that may wait; more are refused.
        name: in metrics.
    """

    def __init__(self, workers: int, queue: int, metrics: Metrics, name: str) -> None:
        self._workers = workers
        # A plain queue: an executor's futures take as long as the rest of a hand-over.
        self._calls: SimpleQueue[asyncio.AbstractEventLoop | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._serve, name=f"serve-{name}", daemon=True) for _ in range(workers)
        ]
        for thread in self._threads:
            thread.start()
        self._most = workers + queue
        self._lock = threading.Lock()  # of the next three
        self._jobs: deque[_Job] = deque()
        self._active = 0  # threads that look for jobs
        self._each: dict[object, float] = {}  # by kind of work, seconds that a request of the last call took
        self._waking = False
        self._inside = 0
        metrics.running.labels(name).set_function(lambda: min(self._inside, workers))
        metrics.waiting.labels(name).set_function(lambda: max(0, self._inside - workers))

    async def run(self, work: Callable[[], T]) -> T:
        """
        Raises:
            Refused: 429; too many wait.
        """
        result: T = await self.run_together(_alone, work)
        return result

    async def run_together(self, work: Callable[[Sequence[A]], Sequence[T | Exception]], item: A) -> T:
        """The result for one item of a call that may be given others beside it.

        Args:
            work: items -> the result of each, or what is raised for it.

        Raises:
            Refused: 429; too many wait.
        """
        if self._inside >= self._most:
            raise Refused(
                429, f"{self._inside - self._workers} requests are waiting already; ask again later"
            )
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._inside += 1
        try:
            self._jobs.append(_Job(work, item, future))
            if not self._waking:
                self._waking = True
                loop.call_soon(self._wake, loop)  # when all that came at once is in the queue
            return await future
        finally:
            self._inside -= 1

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        self._waking = False
        with self._lock:
            wanted = min(len(self._jobs), self._workers - self._active)
            self._active += wanted
        for _ in range(wanted):
            self._calls.put(loop)

    def _serve(self) -> None:
        while (loop := self._calls.get()) is not None:
            self._work(loop)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """One thread, until nothing waits."""
        while jobs := self._take():
            results: Sequence[Any]
            started = time.thread_time()  # not the clock's: other work on the machine makes no call smaller
            try:
                results = jobs[0].work([job.item for job in jobs])
            except Exception as error:
                results = [error] * len(jobs)
            if jobs[0].work is not _alone:
                self._each[jobs[0].work] = (time.thread_time() - started) / len(jobs)
            loop.call_soon_threadsafe(_deliver, jobs, results)

    def _take(self) -> list[_Job]:
        with self._lock:
            waiting = self._jobs
            if not waiting:
                self._active -= 1
                return []
            # The others' share is left to them.
            most = min(self._most_together(waiting[0].work), -(-len(waiting) // self._workers))
            jobs = [waiting.popleft()]
            while len(jobs) < most and waiting and waiting[0].work == jobs[0].work:
                jobs.append(waiting.popleft())
            return jobs

    def _most_together(self, work: object) -> int:
        each = self._each.get(work)  # not known of `_alone`, nor before the first call
        return 1 if each is None else max(1, min(TOGETHER, int(SECONDS / max(each, 1e-9))))

    def close(self) -> None:
        """When what runs has ended."""
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()


def _alone(works: Sequence[Callable[[], Any]]) -> list[Any]:
    return [work() for work in works]


def _deliver(jobs: Sequence[_Job], results: Sequence[Any]) -> None:
    for job, result in zip(jobs, results, strict=True):
        if job.future.done():  # who asked has gone
            continue
        if isinstance(result, Exception):
            job.future.set_exception(result)
        else:
            job.future.set_result(result)
