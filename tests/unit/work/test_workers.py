"""Work in several processes gives what it gives in one."""

import os
import signal

import pytest

from neural_sparse.errors import InputError
from neural_sparse.work.workers import in_workers


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
