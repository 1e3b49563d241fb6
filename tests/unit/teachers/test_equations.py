"""Equations 8 and 9 against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import tensor

from neural_sparse.teachers.ensemble import combine, min_max

NAN = math.nan


def test_equation_8_by_hand() -> None:
    scores = tensor([[2.0, 4.0, 3.0, 6.0], [-1.0, -3.0, -2.0, -1.5]])
    expected = tensor([[0.0, 0.5, 0.25, 1.0], [1.0, 0.0, 0.5, 0.75]])
    torch.testing.assert_close(min_max(scores), expected)


def test_two_candidates_become_zero_and_one() -> None:
    assert min_max(tensor([[0.71, 0.70]])).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("row", [[3.0, 3.0, 3.0], [0.0, 0.0], [7.5], [-2.0, -2.0]])
def test_a_constant_list_becomes_zeros(row: list[float]) -> None:
    assert min_max(tensor([row])).tolist() == [[0.0] * len(row)]


def test_differences_that_are_only_rounding_are_no_ranking() -> None:
    third = torch.tensor([1 / 3])
    rounded = torch.cat([third, torch.nextafter(third, torch.ones(1))])[None]
    assert rounded[0, 0] != rounded[0, 1]
    assert min_max(rounded).tolist() == [[0.0, 0.0]]


def test_unknown_entries_neither_count_nor_matter() -> None:
    scores = tensor([[5.0, NAN, 1.0, 900.0], [NAN, NAN, NAN, NAN], [NAN, 4.0, NAN, NAN]])
    known = tensor([[True, False, True, False], [False] * 4, [False, True, False, False]])
    assert min_max(scores, known).tolist() == [[1.0, 0.0, 0.0, 0.0], [0.0] * 4, [0.0] * 4]


def test_equation_9_by_hand() -> None:
    everywhere = torch.ones(1, 3, dtype=torch.bool)
    dense, sparse = tensor([[0.0, 0.5, 1.0]]), tensor([[1.0, 0.25, 0.0]])
    scores, known = combine([(dense, everywhere, 0.5), (sparse, everywhere, 0.5)], scale=30.0)
    torch.testing.assert_close(scores, tensor([[15.0, 11.25, 15.0]]))
    assert known.all()
    scores, _ = combine([(dense, everywhere, 0.75), (sparse, everywhere, 0.25)], scale=10.0)
    torch.testing.assert_close(scores, tensor([[2.5, 4.375, 7.5]]))


def test_only_the_ratio_of_weights_matters() -> None:
    everywhere = torch.ones(2, 4, dtype=torch.bool)
    first, second = torch.rand(2, 4), torch.rand(2, 4)
    halves = combine([(first, everywhere, 0.5), (second, everywhere, 0.5)], 30.0)[0]
    tens = combine([(first, everywhere, 10.0), (second, everywhere, 10.0)], 30.0)[0]
    torch.testing.assert_close(halves, tens)


def test_weights_are_shared_among_the_teachers_that_know_the_entry() -> None:
    everywhere = torch.ones(1, 3, dtype=torch.bool)
    pairs = tensor([[True, False, True]])
    dense, cross = tensor([[0.2, 0.4, 1.0]]), tensor([[1.0, NAN, 0.0]])
    scores, known = combine([(dense, everywhere, 0.5), (cross, pairs, 1.5)], scale=10.0)
    # (.5 * .2 + 1.5 * 1) / 2 = .8; dense alone .4; (.5 * 1 + 0) / 2 = .25
    torch.testing.assert_close(scores, tensor([[8.0, 4.0, 2.5]]))
    assert known.all()


def test_an_entry_nobody_knows_is_masked() -> None:
    known = tensor([[True, False]])
    scores, by_any = combine([(tensor([[1.0, NAN]]), known, 0.5), (tensor([[0.0, NAN]]), known, 0.5)], 30.0)
    assert scores.tolist() == [[15.0, 0.0]]
    assert by_any.tolist() == [[True, False]]


def test_a_teacher_of_weight_zero_knows_nothing() -> None:
    everywhere = torch.ones(1, 2, dtype=torch.bool)
    scores, known = combine([(tensor([[0.3, 1.0]]), everywhere, 0.0)], 30.0)
    assert scores.tolist() == [[0.0, 0.0]]
    assert not known.any()


rows = st.integers(1, 6).flatmap(
    lambda n: st.lists(
        st.lists(st.one_of(st.none(), st.floats(-1e4, 1e4, width=32)), min_size=n, max_size=n),
        min_size=1,
        max_size=4,
    )
)


@given(rows)
def test_equation_8_equals_the_plain_loop(table: list[list[float | None]]) -> None:
    scores = tensor([[NAN if value is None else value for value in row] for row in table])
    known = ~scores.isnan()
    actual = min_max(scores, known)
    for row, normalised in zip(table, actual.tolist(), strict=True):
        values = [value for value in row if value is not None]
        low, high = min(values, default=0.0), max(values, default=0.0)
        rounding = 1e-6 * max(abs(low), abs(high))
        assume(not 0.99 < (high - low) / (rounding or 1.0) < 1.01)
        constant = high - low <= rounding
        expected = [0.0 if constant or value is None else (value - low) / (high - low) for value in row]
        assert normalised == pytest.approx(expected, rel=1e-4, abs=1e-5)
