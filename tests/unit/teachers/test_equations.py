"""Equations 8 and 9 against numbers worked out by hand."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import tensor

from neural_sparse.teachers.equations import combine, min_max

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
    dense, sparse = tensor([[1.0, 1.5, 2.0]]), tensor([[8.0, 2.0, 0.0]])  # 0 .5 1 and 1 .25 0
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


def test_a_partial_teacher_is_placed_where_the_others_put_its_candidates() -> None:
    everywhere = torch.ones(1, 4, dtype=torch.bool)
    dense, sparse = (
        tensor([[0.0, 6.0, 8.0, 10.0]]),
        tensor([[0.0, 10.0, 4.0, 7.0]]),
    )  # 0 .6 .8 1 and 0 1 .4 .7
    cross, pairs = tensor([[NAN, 3.0, 1.0, NAN]]), tensor([[False, True, True, False]])
    scores, known = combine([(dense, everywhere, 1.0), (sparse, everywhere, 3.0), (cross, pairs, 4.0)], 10.0)
    # On the two candidates dense spans .6 to .8 and sparse .4 to 1, with their weights .45 to .95.
    others = [0.0, (0.6 + 3 * 1) / 4, (0.8 + 3 * 0.4) / 4, (1 + 3 * 0.7) / 4]
    expected = [others[0], (others[1] + 0.95) / 2, (others[2] + 0.45) / 2, others[3]]
    torch.testing.assert_close(scores, 10 * tensor([expected]))
    assert known.all()


def test_one_known_score_does_not_turn_the_label_round() -> None:
    everywhere, own = torch.ones(1, 3, dtype=torch.bool), tensor([[True, False, False]])
    dense, cross = tensor([[1.0, 0.873, 0.0]]), tensor([[7.0, NAN, NAN]])
    scores, _ = combine([(dense, everywhere, 1.0), (dense, everywhere, 1.0), (cross, own, 1.0)], 30.0)
    torch.testing.assert_close(scores, tensor([[30.0, 26.19, 0.0]]))


def test_partial_teachers_alone_are_normalised_over_their_own_lists() -> None:
    first, second = tensor([[True, True, True, False]]), tensor([[False, False, True, True]])
    scores, known = combine(
        [(tensor([[1.0, 3.0, 5.0, NAN]]), first, 1.0), (tensor([[NAN, NAN, 2.0, 4.0]]), second, 1.0)], 10.0
    )
    assert scores.tolist() == [[0.0, 5.0, 5.0, 10.0]]
    assert known.all()


def test_an_entry_nobody_knows_is_masked() -> None:
    known = tensor([[True, True, False]])
    scores, by_any = combine(
        [(tensor([[1.0, 0.0, NAN]]), known, 0.5), (tensor([[0.0, 1.0, NAN]]), known, 0.5)], 30.0
    )
    assert scores.tolist() == [[15.0, 15.0, 0.0]]
    assert by_any.tolist() == [[True, True, False]]


def test_a_teacher_of_weight_zero_knows_nothing() -> None:
    everywhere = torch.ones(1, 2, dtype=torch.bool)
    scores, known = combine([(tensor([[0.3, 1.0]]), everywhere, 0.0)], 30.0)
    assert scores.tolist() == [[0.0, 0.0]]
    assert not known.any()


@pytest.mark.parametrize("bad", [NAN, math.inf])
def test_a_score_that_is_no_number_is_seen(bad: float) -> None:
    everywhere = torch.ones(2, 3, dtype=torch.bool)
    scores, known = combine([(tensor([[0.3, bad, 1.0], [0.0, 1.0, 2.0]]), everywhere, 1.0)], 30.0)
    assert known.all()
    assert scores[0].isnan().any()
    assert scores[1].tolist() == [0.0, 15.0, 30.0]


# Small whole numbers: sums are exact, and no list is nearly constant.
Row = list[int | None]
columns = st.shared(st.integers(1, 7), key="columns")
full = columns.flatmap(lambda n: st.lists(st.integers(-9, 9), min_size=n, max_size=n))
partial = columns.flatmap(lambda n: st.lists(st.none() | st.integers(-9, 9), min_size=n, max_size=n))
weights = st.sampled_from([0.25, 0.5, 1.0, 3.0])


def mixed(*teachers: tuple[Row, float]) -> list[float | None]:
    """Scores at S = 1, None where unknown."""
    raw = [tensor([[NAN if value is None else float(value) for value in row]]) for row, _ in teachers]
    scores, known = combine(
        [(row, ~row.isnan(), weight) for row, (_, weight) in zip(raw, teachers, strict=True)], 1.0
    )
    return [
        value if there else None for value, there in zip(scores[0].tolist(), known[0].tolist(), strict=True)
    ]


def approx(row: list[float | None]) -> list[Any]:
    return [None if value is None else pytest.approx(value, abs=1e-5) for value in row]


@given(full, full, weights)
def test_where_all_know_all_it_is_the_paper(first: list[int], second: list[int], weight: float) -> None:
    assume(len(set(first)) > 1)
    assume(len(set(second)) > 1)
    expected = [
        sum(
            share * (row[place] - min(row)) / (max(row) - min(row))
            for row, share in ((first, 1.0), (second, weight))
        )
        / (1 + weight)
        for place in range(len(first))
    ]
    assert mixed((first, 1.0), (second, weight)) == approx(expected)


@given(full, full, partial, weights)
def test_ignorance_never_turns_an_order_round(
    dense: list[int], sparse: list[int], cross: Row, weight: float
) -> None:
    """What all who know it rank above (below) all that a teacher knows stays there, whatever that one says; and it
    lowers not what it likes best, and lifts not what it likes least."""
    assume(len(set(dense)) > 1)
    assume(len(set(sparse)) > 1)
    before, after = mixed((dense, 1.0), (sparse, 0.5)), mixed((dense, 1.0), (sparse, 0.5), (cross, weight))
    here = [place for place, value in enumerate(cross) if value is not None]
    assume(here)
    for place in set(range(len(cross))) - set(here):
        assert after[place] == pytest.approx(before[place])
        for sign in (1, -1):
            if all(sign * row[place] >= sign * row[other] for row in (dense, sparse) for other in here):
                assert all(sign * after[place] >= sign * after[other] - 1e-6 for other in here)
    best, worst = (pick(here, key=lambda place: cross[place]) for pick in (max, min))
    assert after[best] >= before[best] - 1e-6
    assert after[worst] <= before[worst] + 1e-6


@given(full, partial, partial, weights, st.sampled_from([0.5, 1.0, 4.0]), st.integers(-50, 50))
def test_a_teacher_s_scale_does_not_matter(
    dense: list[int], cross: Row, other: Row, weight: float, factor: float, shift: int
) -> None:
    def moved(row: Row) -> Row:
        return [None if value is None else factor * value + shift for value in row]  # type: ignore[misc]

    expected = mixed((dense, 1.0), (cross, weight), (other, 0.5))
    assert mixed((moved(dense), 1.0), (cross, weight), (moved(other), 0.5)) == approx(expected)
    assert mixed((dense, 1.0), (moved(cross), weight), (other, 0.5)) == approx(expected)


@given(partial, partial, weights, st.integers(-9, 9))
def test_a_list_that_tells_nothing_is_unknown(first: Row, second: Row, weight: float, value: int) -> None:
    constant: Row = [None if entry is None else value for entry in second]
    without = mixed((first, 1.0))
    assert mixed((first, 1.0), (constant, weight)) == without
    assert mixed((constant, weight), (first, 1.0)) == without


def test_targets_do_not_jump_while_a_list_becomes_constant() -> None:
    dense = tensor([[0.0, 0.2, 0.7, 1.0]], dtype=torch.float64)
    pairs = tensor([[True, True, True, False]])
    everywhere = torch.ones(1, 4, dtype=torch.bool)
    for base in (1.0, -40.0):
        spreads = [*torch.linspace(0, 2e-5, 400).tolist(), 1e-3]
        seen = []
        for spread in spreads:
            cross = base + abs(base) * spread * tensor([[1.0, 0.5, 0.0, NAN]], dtype=torch.float64)
            seen.append(combine([(dense, everywhere, 1.0), (cross, pairs, 1.0)], 1.0)[0])
        steps = [(after - before).abs().max().item() for before, after in pairwise(seen)]
        assert max(steps) < 0.01
        torch.testing.assert_close(seen[0], dense)
        assert (seen[-1] - dense).abs().max() > 0.3  # it does speak in the end


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
        assume(not 0.9 < (high - low) / (rounding or 1.0) < 1.1)
        constant = high - low <= rounding
        expected = [0.0 if constant or value is None else (value - low) / (high - low) for value in row]
        assert normalised == pytest.approx(expected, rel=1e-4, abs=1e-5)
