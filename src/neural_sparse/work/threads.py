"""Independent batches side by side, each computed by one core."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    work: Callable[[Item], Result], items: Sequence[Item], on_cores: bool = True
) -> Iterator[Result]:
    """work(item) of each, in order, in as many threads as torch uses, torch itself using one in each.

    Threads that share one product of matrices wait for one another at its end, many times a batch: where another
    program takes some of a core's time, all wait for the thread on that core. Batches of their own need no waiting, and
    a result does not depend on the number of threads. With fewer than two items a thread, torch shares out each
    product instead.

    Args:
        work: thread-safe once it has been called; the first call is made alone, so that what is set up then is not
            set up twice. Grad mode, autocast and the like are a thread's own: it enters them itself.
        on_cores: False: work that a device does, one after the other.

    Raises:
        Whatever `work` raises; what has begun by then is waited for, nothing more is begun.
    """
    import torch

    threads = torch.get_num_threads()
    if not on_cores or threads < 2 or len(items) < 2 * threads:
        yield from map(work, items)
        return
    # Results are taken in order, and so many are made ahead that no thread waits for a slow batch before it.
    pool, ahead = _pool(os.getpid(), threads), 2 * threads
    yield pool.submit(work, items[0]).result()  # not here, where torch would share out its products
    futures = [pool.submit(work, item) for item in items[1 : 1 + ahead]]
    try:
        for number in range(len(items) - 1):
            yield futures[number].result()
            if (following := number + 1 + ahead) < len(items):
                futures.append(pool.submit(work, items[following]))
    finally:
        for future in futures:
            future.cancel()
        for future in futures:
            if not future.cancelled():
                future.exception()


@functools.cache
def _pool(_process: int, count: int) -> ThreadPoolExecutor:
    """Threads in which torch uses one; kept, since BLAS keeps buffers for each thread it meets.

    The process id is part of the key because threads do not survive a fork.
    """
    import torch

    ready = threading.Barrier(count)

    def start(_: int) -> None:
        torch.set_num_threads(1)
        torch.get_num_threads()  # else torch would look up the process's number when this thread first computes
        ready.wait()

    pool = ThreadPoolExecutor(count, thread_name_prefix="neural-sparse-batch")
    list(pool.map(start, range(count)))
    torch.set_num_threads(count)  # the setting is a thread's own, but new threads take over the latest one
    return pool
