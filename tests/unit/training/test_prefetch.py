"""Items made ahead: the same items, in the same order, and errors where they belong."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator

import pytest
import torch

from neural_sparse.training.prefetch import Prefetch


@pytest.mark.parametrize("depth", [1, 3, 50])
def test_the_same_items_in_the_same_order(depth: int) -> None:
    items = Prefetch(iter(range(20)), depth)
    assert list(items) == list(range(20))
    with pytest.raises(StopIteration):
        next(items)
    items.close()


def test_the_next_item_is_made_while_one_is_used_and_no_more_than_the_depth() -> None:
    made = [threading.Event() for _ in range(6)]

    def numbers() -> Iterator[int]:
        for number, event in enumerate(made):
            event.set()
            yield number

    items = Prefetch(numbers(), 2)
    assert next(items) == 0
    assert made[2].wait(10)  # nobody has asked for 1 or 2 yet
    # The thread waits until there is room: after any time, 3 has not been begun.
    with items._changed:
        assert len(items._ready) <= 2
    assert [next(items) for _ in range(5)] == [1, 2, 3, 4, 5]
    items.close()


def test_an_error_is_raised_where_its_item_would_have_been_taken() -> None:
    def broken() -> Iterator[int]:
        yield 0
        yield 1
        raise ValueError("the third")

    items = Prefetch(broken(), 5)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(ValueError, match="the third") as caught:
        next(items)
    assert "in broken" in "".join(traceback.format_exception(caught.value))
    items.close()


def test_what_is_not_allowed_is_not_made() -> None:
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(6):
            made.append(number)
            yield number

    items = Prefetch(numbers(), 10, limit=2)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(RuntimeError, match="not allowed"):  # and does not wait for ever
        next(items)
    assert made == [0, 1]
    items.allow(None)
    assert list(items) == [2, 3, 4, 5]
    items.close()


def test_closing_ends_the_thread_whatever_it_waits_for() -> None:
    threads, count = threading.active_count(), torch.get_num_threads()
    full, parked, begun = Prefetch(iter(range(9)), 1), Prefetch(iter(range(9)), 9, limit=0), iter(range(9))
    assert torch.get_num_threads() == count
    used = Prefetch(begun, 1)
    next(used)
    for items in (full, parked, used):
        items.close()
        assert not items._thread.is_alive()
    assert threading.active_count() == threads
