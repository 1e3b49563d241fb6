"""Worker processes: as many as there are cores or devices, and none that outlives the process it works for.

Independent pieces of work on all cores, or all devices: one process each.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import Any, TypeVar

from neural_sparse.errors import InputError


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
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin_worker, (start, arguments))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker(start: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    start(*arguments)


def _end_with_parent() -> None:
    if (parent := parent_process()) is not None:  # one that was killed tells nobody
        parent.join()
        os._exit(1)


Result = TypeVar("Result")
Advance = Callable[[int], None]  # tells that so many more items are done
Work = Callable[[int, Advance], Result]
Engine = Callable[..., Iterator[tuple[Any, Any]]]  # as `in_workers`; `workers` None: all there are

POLL_SECONDS = 0.3  # between two looks at how far the workers are


def in_workers(
    start: Callable[..., Work[Result]],
    arguments: tuple[Any, ...],
    numbers: Sequence[int],
    workers: int,
    advance: Advance = lambda items: None,
) -> Iterator[tuple[int, Result]]:
    """Do pieces of work, in any order.

    Args:
        start: called once in each process as start(*arguments, worker), the worker's number from 0 counted;
            returns what does a piece: work(number, advance).
        arguments: must be picklable, as must be `start` (a function of a module) and the results.
        numbers: of the pieces.
        workers: processes; fewer than 2 means this one.
        advance: called here with the items the pieces report.

    Yields:
        (number, result) as pieces are done.

    Raises:
        InputError: a worker died; whatever `start` and the work raise.
    """
    workers = min(workers, len(numbers))
    if workers < 2:
        work = start(*arguments, 0) if numbers else None
        for number in numbers:
            assert work is not None
            yield number, work(number, advance)
        return
    context = get_context("spawn")
    done, seen = context.Value("q", 0), 0
    names = context.SimpleQueue()
    for name in range(workers):
        names.put(name)
    try:
        with worker_processes(workers, _begin, start, arguments, names, done) as pool:
            waiting = {pool.submit(_do, number) for number in numbers}
            while waiting:
                finished, waiting = wait(waiting, POLL_SECONDS, FIRST_COMPLETED)
                before, seen = seen, done.value
                advance(seen - before)
                for future in finished:
                    yield future.result()
    except BrokenProcessPool as error:
        raise InputError(
            "a worker process died, perhaps for lack of memory; the same command goes on with what is missing "
            "(fewer --workers need less memory)"
        ) from error


_work: dict[str, Any] = {}  # of a worker process


def _begin(start: Callable[..., Any], arguments: tuple[Any, ...], names: Any, done: Any) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core each

    def advance(items: int) -> None:
        with done.get_lock():
            done.value += items

    try:
        _work.update(do=start(*arguments, names.get()), advance=advance)
    except Exception as error:  # raised by the first piece of work: the pool would not say what it was
        _work.update(do=_failing(error), advance=advance)


def _failing(error: Exception) -> Work[Any]:
    def work(number: int, advance: Advance) -> Any:
        raise error

    return work


def _do(number: int) -> tuple[int, Any]:
    return number, _work["do"](number, _work["advance"])
