"""Independent batches side by side."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from neural_sparse.work.threads import side_by_side


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_results_keep_their_order_whichever_is_ready_first() -> None:
    def work(number: int) -> tuple[int, int, bool]:
        time.sleep(0.02 if number % 3 == 0 else 0.0)
        return number, torch.get_num_threads(), threading.current_thread() is threading.main_thread()

    found = list(side_by_side(work, range(23)))
    assert [number for number, *_ in found] == list(range(23))
    # The first too, or its result would depend on the number of threads.
    assert {(threads, main) for _, threads, main in found} == {(1, False)}
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_they_do_run_side_by_side() -> None:
    both = threading.Barrier(2, timeout=20)  # broken, unless two are at work at once

    def work(number: int) -> None:
        if number:
            both.wait()

    assert len(list(side_by_side(work, range(5)))) == 5


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("items", "on_cores"), [(3, True), (50, False)])
def test_few_items_and_those_of_a_device_run_one_after_the_other(items: int, on_cores: bool) -> None:
    names = set(side_by_side(lambda _: threading.current_thread().name, range(items), on_cores))
    assert names == {threading.current_thread().name}


@pytest.mark.usefixtures("two_threads")
def test_an_error_ends_it_and_nothing_more_is_begun() -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        if number == 5:
            raise KeyError(number)
        return number

    with pytest.raises(KeyError):
        list(side_by_side(work, range(1000)))
    count = len(begun)
    assert count < 30
    time.sleep(0.05)
    assert len(begun) == count


@pytest.mark.usefixtures("two_threads")
def test_one_who_stops_reading_leaves_nothing_running() -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        return number

    found = side_by_side(work, range(1000))
    assert [next(found), next(found)] == [0, 1]
    found.close()  # type: ignore[attr-defined]
    assert len(begun) < 30
