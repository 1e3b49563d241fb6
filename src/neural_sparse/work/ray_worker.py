"""What runs in a Ray actor: one model, one piece of work at a time. Importing this needs the extra `ray`."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import ray

DECIDES_RESULTS = ("ray", "neural-sparse", "torch", "transformers", "tokenizers")


def versions() -> dict[str, str]:
    """What must be equal on all machines for a piece to have the same bytes on each, or to run at all."""
    found = {"python": ".".join(map(str, sys.version_info[:2]))}
    for package in DECIDES_RESULTS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found


class RayWorker:
    """An actor, made with `ray.remote(RayWorker)`.

    Args:
        number: of the worker, from 0 counted.
    """

    def __init__(self, number: int) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # threads are counted
        self._number = number
        self._start: Callable[..., Any] | None = None
        self._arguments: tuple[Any, ...] = ()
        self._work: Callable[..., Any] | None = None
        self._now = (-1, 0)

    def versions(self) -> tuple[str, dict[str, str]]:
        """Name of the machine, and what is installed there. Called before anything of ours is unpickled."""
        return platform.node(), versions()

    def begin(self, job: tuple[Callable[..., Any], tuple[Any, ...]]) -> None:
        """Take `start` and its arguments, once: they may be large."""
        self._start, self._arguments = job

    def do(self, ticket: int, piece: Any) -> tuple[Any, int]:
        """The result of a piece, and how many items it reported; the first piece loads the model."""
        assert self._start is not None
        self._now = (ticket, 0)
        if self._work is None:
            self._work = self._start(*self._arguments, self._number)
        result = self._work(piece, self._advance)
        return result, self._now[1]

    @ray.method(concurrency_group="watch")
    def progress(self) -> tuple[int, int]:
        """Ticket of the piece at hand, and its items so far."""
        return self._now

    def _advance(self, items: int) -> None:
        ticket, done = self._now
        self._now = (ticket, done + items)
