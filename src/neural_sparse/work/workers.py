"""Independent pieces of work in processes, one for each core or device; none outlives the process it works for."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
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
    if (parent := parent_process()) is not None:  # one that was killed says nothing
        parent.join()
        os._exit(1)


Result = TypeVar("Result")
Advance = Callable[[int], None]  # called with the number of items that are done since
DoPiece = Callable[[Any, Advance], Result]  # does a piece of work
Engine = Callable[..., Iterator[tuple[Any, Any]]]  # as `in_workers`; `workers` None: all there are

AHEAD = 2  # pieces per process, begun or waiting, where they are made as they are needed
POLL_SECONDS = 0.3  # between two looks at how far the workers are


def in_workers(
    start: Callable[..., DoPiece[Result]],
    arguments: tuple[Any, ...],
    pieces: Iterable[Any],
    workers: int,
    advance: Advance = lambda items: None,
) -> Iterator[tuple[Any, Result]]:
    """Do pieces of work, in any order.

    Args:
        start: called once in each process as start(*arguments, worker), the worker's number from 0 counted;
            returns what does a piece: do(piece, advance).
        arguments: must be picklable, as must be `start` (a function of a module), the pieces and the results.
        pieces: of a sequence all are handed out at once, of anything else `AHEAD` per process, as they are needed.
        workers: processes; fewer than 2 means this one.
        advance: called here with the items the pieces report.

    Yields:
        (piece, result) as pieces are done.

    Raises:
        InputError: a worker died; whatever `start` and what it returns raise.
    """
    ahead = AHEAD * workers
    if isinstance(pieces, Sized):
        workers, ahead = min(workers, len(pieces)), len(pieces)
    if workers < 2:
        do: DoPiece[Result] | None = None
        for piece in pieces:
            do = do or start(*arguments, 0)
            yield piece, do(piece, advance)
        return
    context = get_context("spawn")
    done, seen = context.Value("q", 0), 0
    names = context.SimpleQueue()
    for name in range(workers):
        names.put(name)
    try:
        with worker_processes(workers, _begin, start, arguments, names, done) as pool:
            following = iter(pieces)
            waiting: dict[Future[Result], Any] = {}
            while True:
                for piece in islice(following, ahead - len(waiting)):
                    waiting[pool.submit(_do, piece)] = piece
                if not waiting:
                    return
                finished, _ = wait(waiting, POLL_SECONDS, FIRST_COMPLETED)
                before, seen = seen, done.value
                advance(seen - before)
                for future in finished:
                    yield waiting.pop(future), future.result()
    except BrokenProcessPool as error:
        raise InputError(
            "a worker process died, perhaps for lack of memory; the same command goes on with what is missing "
            "(fewer --workers need less memory)"
        ) from error


_here: dict[str, Any] = {}  # what does pieces and what counts their items, of a worker process


def _begin(start: Callable[..., Any], arguments: tuple[Any, ...], names: Any, done: Any) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core each

    def advance(items: int) -> None:
        with done.get_lock():
            done.value += items

    try:
        _here.update(do=start(*arguments, names.get()), advance=advance)
    except Exception as error:  # raised by the first piece: the pool would not say what it was
        _here.update(do=_failing(error), advance=advance)


def _failing(error: Exception) -> DoPiece[Any]:
    def do(piece: Any, advance: Advance) -> Any:
        raise error

    return do


def _do(piece: Any) -> Any:
    return _here["do"](piece, _here["advance"])
