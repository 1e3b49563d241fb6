"""Worker processes: as many as there are cores or devices, and none that outlives the process it works for."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import Any


def available_cores() -> int:
    """Cores this process may use, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def worker_processes(
    workers: int, start: Callable[..., None], *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """Processes that each call `start(*arguments)` first; what is not begun is dropped at the end.

    They are not forked: a tokenizer or a runtime that has used its threads does not survive that.
    """
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin, (start, arguments))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(start: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    start(*arguments)


def _end_with_parent() -> None:
    if (parent := parent_process()) is not None:  # one that was killed tells nobody
        parent.join()
        os._exit(1)
