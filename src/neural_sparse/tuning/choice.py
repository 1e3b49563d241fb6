"""Which run to take: the Pareto front of relevance against cost, and a recommendation in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WITHIN = 0.005  # nDCG@10; less is seldom more than chance on a few hundred queries
_ROUNDING = 1e-9  # so that a difference of exactly `within` counts as within


@dataclass(frozen=True)
class Point:
    """A system: its relevance (nDCG@10, 0 to 1) and its cost (evaluation FLOPS)."""

    name: str
    relevance: float
    cost: float


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Points that no other beats: none is at least as good on both axes and better on one. Cheapest first.

    Points that are equal on both axes are on the front together, or not at all.
    """
    return sorted(
        (point for point in points if not any(_beats(other, point) for other in points)),
        key=lambda point: (point.cost, -point.relevance),
    )


def choose(points: Sequence[Point], within: float = WITHIN) -> Point | None:
    """The cheapest point of those whose relevance is at most `within` below the best; None if there is no point.

    Of equal cost the more relevant one, of equal points the first. It is always on the front.
    """
    if not points:
        return None
    best = max(point.relevance for point in points)
    near = [point for point in points if point.relevance >= best - within - _ROUNDING]
    return min(near, key=lambda point: (point.cost, -point.relevance))


def recommendation(
    points: Sequence[Point], within: float = WITHIN, failed: int = 0, bm25: float | None = None
) -> str:
    """The choice and its reason.

    Args:
        points: of the runs that were judged.
        within: nDCG@10 that one may lose for a lower cost.
        failed: runs that came to nothing.
        bm25: nDCG@10 of BM25 on the same collection.
    """
    chosen = choose(points, within)
    if chosen is None:
        return "No run was judged, so there is nothing to recommend; the table says why they failed."
    best = max(points, key=lambda point: (point.relevance, -point.cost))
    lost = 100 * (best.relevance - chosen.relevance)
    if len(points) == 1:
        text = f"{chosen.name}: the only run that was judged, so there is nothing to compare it with"
    elif chosen == best:
        nearest = [point for point in points if point.cost < chosen.cost]
        text = f"{chosen.name}: the best nDCG@10 ({chosen.relevance:.3f}), "
        text += (
            f"and no cheaper run comes within {100 * within:g} points of it"
            if nearest
            else "and no run is cheaper"
        )
    else:
        share = f"at {100 * chosen.cost / best.cost:.0f}% of the FLOPS" if best.cost else "at the same FLOPS"
        nearness = "as good as the best" if lost < 0.05 else f"within {lost:.1f} points of the best"
        text = f"{chosen.name}: {nearness} ({best.name}) {share}"
    if bm25 is not None and chosen.relevance < bm25:
        text += f"; it is {100 * (bm25 - chosen.relevance):.1f} points below BM25, so train longer or on closer data"
    if failed:
        text += f"; {failed} {'run' if failed == 1 else 'runs'} failed"
    return text + "."


def _beats(one: Point, other: Point) -> bool:
    no_worse = one.relevance >= other.relevance and one.cost <= other.cost
    return no_worse and (one.relevance > other.relevance or one.cost < other.cost)
