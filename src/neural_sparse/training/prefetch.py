"""The next batches are made while this one trains."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

import torch

Item = TypeVar("Item")


class Prefetch(Iterator[Item], Generic[Item]):
    """Items of an iterator in their order, made ahead of their use by one thread.

    A thread, for what takes long releases Python's lock (tokenizing, gathering rows), and memory-mapped texts and
    vectors need not be opened again. What the iterator raises is raised, with its traceback, where the item
    would have been taken.

    Args:
        items: used by the thread alone from now on, and by nothing else until `close`.
        depth: items that may lie ready.
        limit: items that may be made until `allow` says otherwise; all if None.

    Attributes:
        waited: seconds that items were waited for so far.
    """

    def __init__(self, items: Iterator[Item], depth: int, limit: int | None = None) -> None:
        self.waited = 0.0
        self._items = items
        self._depth = depth
        self._limit = limit
        self._ready: deque[Item] = deque()
        self._made = 0
        self._end: BaseException | None = None  # what the iterator raised: StopIteration, or an error
        self._closed = False
        self._changed = threading.Condition()
        threads, started = torch.get_num_threads(), threading.Event()
        self._thread = threading.Thread(target=self._work, args=(started,), daemon=True, name="input")
        self._thread.start()
        started.wait()
        torch.set_num_threads(threads)  # the setting is per thread, but new threads take over the latest one

    def _work(self, started: threading.Event) -> None:
        torch.set_num_threads(1)  # more would compete with those that train
        started.set()
        try:
            while self._may_go_on():
                item = next(self._items)
                with self._changed:
                    self._ready.append(item)
                    self._made += 1
                    self._changed.notify_all()
                del item
        except BaseException as error:
            with self._changed:
                self._end = error
                self._changed.notify_all()

    def _may_go_on(self) -> bool:
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or (len(self._ready) < self._depth and self._is_allowed())
            )
            return not self._closed

    def _is_allowed(self) -> bool:
        return self._limit is None or self._made < self._limit

    def __next__(self) -> Item:
        start = time.perf_counter()
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._end or self._closed or not self._is_allowed())
            self.waited += time.perf_counter() - start
            if self._ready:
                self._changed.notify_all()
                return self._ready.popleft()
            if self._end is not None:
                raise self._end
            raise RuntimeError("an item was asked for that was not allowed to be made")

    def allow(self, limit: int | None) -> None:
        """Let so many items be made in all, counted from the first."""
        with self._changed:
            self._limit = limit
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread, at the latest when it has made the item it is at."""
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._changed.notify_all()
        self._thread.join()
