"""The picture of a sweep: relevance against cost, the front marked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from neural_sparse.training.plots import plot_relevance_against_cost
from neural_sparse.tuning.choice import Point, pareto_front
from neural_sparse.tuning.references import Reference


def plot_front(
    points: Sequence[Point],
    chosen: Point | None,
    references: Sequence[Reference],
    path: str | Path,
    key: str,
) -> None:
    """Draw runs, with a line through the front, and systems to compare with.

    Args:
        points: of the runs.
        chosen: the recommended one.
        references: a dashed level line where the cost is not known.
        path: of the PNG to write.
        key: what the runs' names are values of.

    Raises:
        InputError: no point, or the file cannot be written.
    """
    front = pareto_front(points)
    kinds = [
        ("on the front", [point for point in front if point != chosen]),
        ("recommended", [] if chosen is None else [chosen]),
        ("beaten", [point for point in points if point not in front]),
    ]
    drawn = [
        {"name": point.name, "relevance": point.relevance, "cost": point.cost, "kind": kind}
        for kind, members in kinds
        for point in members
    ]
    drawn += [
        {"name": one.name, "relevance": one.relevance, "cost": one.cost, "kind": "for comparison"}
        for one in references
    ]
    plot_relevance_against_cost(
        drawn,
        path,
        f"FLOPS per query-document pair (labels: {key})",
        line=[(point.cost, point.relevance) for point in front],
    )
