"""Threads that work, and a bounded number of requests that wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from neural_sparse.serve.metrics import Metrics
from neural_sparse.serve.requests import Refused

T = TypeVar("T")


class Pool:
    """Runs calls in threads, beside the loop that speaks HTTP.

    Args:
        workers: calls at a time.
        queue: calls that may wait; more are refused.
        name: in metrics.
    """

    def __init__(self, workers: int, queue: int, metrics: Metrics, name: str) -> None:
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="serve")
        self._workers = workers
        self._most = workers + queue
        self._running = metrics.running.labels(name)
        self._waiting = metrics.waiting.labels(name)
        self._inside = 0

    async def run(self, work: Callable[[], T]) -> T:
        """
        Raises:
            Refused: 429; too many wait.
        """
        if self._inside >= self._most:
            raise Refused(
                429, f"{self._inside - self._workers} requests are waiting already; ask again later"
            )
        self._inside += 1
        self._show()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        finally:
            self._inside -= 1
            self._show()

    def _show(self) -> None:
        self._running.set(min(self._inside, self._workers))
        self._waiting.set(max(0, self._inside - self._workers))

    def close(self) -> None:
        """When what runs has ended."""
        self._executor.shutdown()
