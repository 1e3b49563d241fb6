"""Work in several processes gives what it gives in one."""

import os
import signal

import pytest

from neural_sparse.errors import InputError
from neural_sparse.work.workers import AHEAD, in_workers


def start(base, kind, worker):
    if kind == "broken":
        raise InputError("no such model")

    def work(number, advance):
        if kind == "dies" and number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "fails" and number == 3:
            raise InputError("line 7 is malformed")
        advance(number)
        return base + number

    return work


@pytest.mark.parametrize("workers", [1, 2])
def test_every_piece_once(workers):
    seen = []
    found = dict(in_workers(start, (100, ""), range(1, 6), workers, seen.append))
    assert found == {number: 100 + number for number in range(1, 6)}
    assert sum(seen) == 15


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_pieces_that_are_made_as_they_are_needed(workers):
    """The same results, and no more pieces made than `AHEAD` per process beyond those that are done."""
    made = []

    def pieces():
        for number in range(40):
            made.append(number)
            yield number

    found = {}
    for done, (piece, result) in enumerate(in_workers(start, (100, ""), pieces(), workers)):
        assert len(made) <= done + AHEAD * workers
        found[piece] = result
    assert found == {number: 100 + number for number in range(40)}
    assert list(in_workers(start, (0, "broken"), iter([]), workers)) == []


def test_nothing_to_do():
    assert list(in_workers(start, (0, "broken"), [], 2)) == []


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("kind", "message"), [("broken", "no such model"), ("fails", "line 7")])
def test_errors_arrive(workers, kind, message):
    with pytest.raises(InputError, match=message):
        list(in_workers(start, (0, kind), range(5), workers))


def test_a_worker_that_dies():
    with pytest.raises(InputError, match="worker process died"):
        list(in_workers(start, (0, "dies"), range(5), 2))
