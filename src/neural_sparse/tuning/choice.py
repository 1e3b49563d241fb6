"""Which run to take: the Pareto front of relevance against cost, and a recommendation in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from neural_sparse.evaluation.significance import Comparison

_ROUNDING = 1e-9  # so that a difference of exactly `within` counts as within
LEVEL = 0.05  # of the paired test

Worse = Callable[["Point", "Point"], Comparison]  # best, other -> how much the other loses


@dataclass(frozen=True)
class Point:
    """A system: its relevance (nDCG@10, 0 to 1) and its cost (evaluation FLOPS)."""

    name: str
    relevance: float
    cost: float


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Points that no other beats: none is at least as good on both axes and better on one. Cheapest first.

    Points that are equal on both axes are on the front together, or not at all.

    >>> points = [Point("a", 0.40, 1.0), Point("b", 0.42, 2.0), Point("c", 0.41, 3.0)]
    >>> [point.name for point in pareto_front(points)]
    ['a', 'b']
    """
    return sorted(
        (point for point in points if not any(_beats(other, point) for other in points)),
        key=lambda point: (point.cost, -point.relevance),
    )


def choose(points: Sequence[Point], against: Worse | float) -> Point | None:
    """The cheapest point that is as good as the best; None if there is no point.

    Of equal cost the more relevant one, of equal points the first. It is always on the front.

    Args:
        against: compares the best with another on the same queries: the other is as good unless it is significantly
            worse. Not corrected for the number of others, for a wrong mark costs only FLOPS. A number is nDCG@10 that
            the other may be below the best, whatever the queries say of it.
    """
    if not points:
        return None
    best = _best(points)

    def near(point: Point) -> bool:
        if point == best:
            return True
        if isinstance(against, float):
            return point.relevance >= best.relevance - against - _ROUNDING
        return against(best, point).p_value >= LEVEL

    front = [point for point in pareto_front(points) if near(point)]
    return min(front, key=lambda point: (point.cost, -point.relevance))


def _best(points: Sequence[Point]) -> Point:
    return max(points, key=lambda point: (point.relevance, -point.cost))


def recommendation(
    points: Sequence[Point], against: Worse | float, failed: int = 0, bm25: float | None = None
) -> str:
    """The choice and its reason.

    Args:
        points: of the runs that were judged.
        against: as `choose`.
        failed: runs that came to nothing.
        bm25: nDCG@10 of BM25 on the same collection.
    """
    chosen = choose(points, against)
    if chosen is None:
        return "No run was judged, so there is nothing to recommend; the table says why they failed."
    best = _best(points)
    lost = 100 * (best.relevance - chosen.relevance)
    if len(points) == 1:
        text = f"{chosen.name}: the only run that was judged, so there is nothing to compare it with"
    elif chosen == best:
        text = f"{chosen.name}: the best nDCG@10 ({chosen.relevance:.3f}), "
        if not any(point.cost < chosen.cost for point in points):
            text += "and no run is cheaper"
        elif isinstance(against, float):
            text += f"and no cheaper run comes within {100 * against:g} points of it"
        else:
            text += "and every cheaper run is significantly worse"
    else:
        share = f"at {100 * chosen.cost / best.cost:.0f}% of the FLOPS" if best.cost else "at the same FLOPS"
        nearness = "as good as the best" if lost < 0.05 else f"within {lost:.1f} points of the best"
        text = f"{chosen.name}: {nearness} ({best.name}) {share}"
        if not isinstance(against, float):
            found = against(best, chosen)
            text += (
                f" (not significantly worse on {found.queries:,} queries: {100 * found.difference:+.1f} points, 95% "
                f"interval {100 * found.low:+.1f} to {100 * found.high:+.1f}, p {found.p_value:.2g})"
            )
    if bm25 is not None and chosen.relevance < bm25:
        text += f"; it is {100 * (bm25 - chosen.relevance):.1f} points below BM25, so train longer or on closer data"
    if failed:
        text += f"; {failed} {'run' if failed == 1 else 'runs'} failed"
    return text + "."


def _beats(one: Point, other: Point) -> bool:
    no_worse = one.relevance >= other.relevance and one.cost <= other.cost
    return no_worse and (one.relevance > other.relevance or one.cost < other.cost)
