"""The Pareto front and the recommendation."""

from __future__ import annotations

import numpy as np
import pytest

from neural_sparse.tuning.choice import Point, choose, pareto_front, recommendation

FIVE = [
    Point("0.005", 0.700, 4.0),
    Point("0.01", 0.702, 2.0),
    Point("0.02", 0.699, 1.1),
    Point("0.05", 0.680, 0.6),
    Point("0.1", 0.650, 0.7),
]


def test_the_front_is_what_no_other_run_beats() -> None:
    assert [point.name for point in pareto_front(FIVE)] == ["0.05", "0.02", "0.01"]
    assert pareto_front([]) == []


def test_equal_points_are_on_the_front_together_and_ties_on_one_axis_are_not() -> None:
    twins = [Point("a", 0.5, 1.0), Point("b", 0.5, 1.0), Point("dearer", 0.5, 2.0), Point("worse", 0.4, 1.0)]
    assert [point.name for point in pareto_front(twins)] == ["a", "b"]
    assert choose(twins, 0.005) == twins[0]


def test_the_front_agrees_with_its_definition_and_holds_the_choice() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        points = [
            Point(str(number), float(rng.integers(5)) / 10, float(rng.integers(1, 5)))
            for number in range(rng.integers(1, 9))
        ]
        front = pareto_front(points)
        for point in points:
            beaten = any(
                other.relevance >= point.relevance
                and other.cost <= point.cost
                and (other.relevance, other.cost) != (point.relevance, point.cost)
                for other in points
            )
            assert (point in front) == (not beaten)
        within = float(rng.choice([0, 0.1, 0.25]))
        chosen = choose(points, within)
        assert chosen in front
        best = max(point.relevance for point in points)
        near = [point.cost for point in points if point.relevance >= best - within - 1e-12]
        assert chosen.cost == min(near)


def test_the_cheapest_of_those_near_the_best() -> None:
    assert recommendation(FIVE, 0.005) == "0.02: within 0.3 points of the best (0.01) at 55% of the FLOPS."
    assert choose(FIVE, 0.003).name == "0.02"  # exactly as far as allowed
    assert choose(FIVE, 0.002).name == "0.01"
    assert choose(FIVE, 1.0).name == "0.05"


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        (FIVE[:1], "0.005: the only run that was judged, so there is nothing to compare it with."),
        ([], "No run was judged, so there is nothing to recommend; the table says why they failed."),
        (FIVE[3:], "0.05: the best nDCG@10 (0.680), and no run is cheaper."),
        (
            [FIVE[1], FIVE[3]],
            "0.01: the best nDCG@10 (0.702), and no cheaper run comes within 0.5 points of it.",
        ),
        (
            [Point("a", 0.5, 2.0), Point("b", 0.5, 1.0)],
            "b: the best nDCG@10 (0.500), and no run is cheaper.",
        ),
        (
            [Point("a", 0.5002, 2.0), Point("b", 0.5, 1.0)],
            "b: as good as the best (a) at 50% of the FLOPS.",
        ),
    ],
)
def test_words(points: list[Point], expected: str) -> None:
    assert recommendation(points, 0.005) == expected


def test_failures_and_bm25_are_mentioned() -> None:
    assert recommendation(FIVE[:1], 0.005, failed=1).endswith("; 1 run failed.")
    assert recommendation(FIVE, 0.005, failed=2).endswith("; 2 runs failed.")
    assert "2.1 points below BM25" in recommendation(FIVE, 0.005, bm25=0.72)
    assert "BM25" not in recommendation(FIVE, 0.005, bm25=0.699)
