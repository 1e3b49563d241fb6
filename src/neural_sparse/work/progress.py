"""How far a piece of work is: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

logger = logging.getLogger(__name__)

EVERY = 15.0  # seconds between two lines
Advance = Callable[[int], object]


@contextmanager
def progress(
    total: int, what: str, unit: str, *, show: bool = True, delay: float = 0.5, every: float = EVERY
) -> Iterator[Advance]:
    """Show how far the body is, with its speed and the time left, on standard error.

    On a terminal that is a bar. Where the output goes to a file it is a line of the log (level info) every `every`
    seconds, and a last one if there was any: work of less than `every` seconds says nothing.

    Args:
        total: items there are.
        what: is being done.
        unit: plural of what is counted.
        show: False shows nothing.
        delay: seconds before a bar appears.

    Yields:
        A function to be told how many more items are done.
    """
    if not show:
        yield lambda items: None
    elif sys.stderr is not None and sys.stderr.isatty():
        with tqdm(total=total, desc=what, unit=f" {unit}", delay=delay) as bar:
            yield bar.update
    else:
        lines = Lines(total, what, unit, every)
        yield lines.advance
        lines.end()


class Lines:
    """Lines of a log; see `progress`.

    Args:
        clock: seconds that have passed since some moment.
    """

    def __init__(
        self,
        total: int,
        what: str,
        unit: str,
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.what, self.unit, self.every, self.clock = total, what, unit, every, clock
        self.done = 0
        self._began = self._said = clock()
        self._any = False

    def advance(self, items: int) -> None:
        self.done += items
        now = self.clock()
        if now - self._said >= self.every and self.done < self.total:
            speed = self.done / (now - self._began)
            left = tqdm.format_interval((self.total - self.done) / speed) if speed else "?"
            self._say(
                f"{self.done:,} of {self.total:,} {self.unit}, {_speed(speed)} {self.unit}/s, {left} left"
            )
            self._said, self._any = now, True

    def end(self) -> None:
        if self._any:
            spent = self.clock() - self._began
            self._say(
                f"{self.done:,} {self.unit} in {tqdm.format_interval(spent)}, "
                f"{_speed(self.done / max(spent, 1e-9))} {self.unit}/s"
            )

    def _say(self, text: str) -> None:
        logger.info("%s: %s", self.what, text)


def _speed(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
