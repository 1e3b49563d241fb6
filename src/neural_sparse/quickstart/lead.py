"""How far the student is ahead of each other system, and whether that is more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from neural_sparse.evaluation.evaluation import Evaluation
from neural_sparse.evaluation.significance import Comparison, compare_scores, holm

MEASURE = "nDCG@10"
LEVEL = 0.05


@dataclass(frozen=True)
class Lead:
    """Of the student over one system, on the same queries.

    Attributes:
        comparison: differences are the student's value minus the system's.
        p: of the paired randomisation test, adjusted for all systems that the student is compared with (Holm).
    """

    comparison: Comparison
    p: float

    @property
    def significant(self) -> bool:
        return self.p < LEVEL

    def __str__(self) -> str:
        """Points with a 95% bootstrap interval: "+3.1 [+1.2, +5.0], p = .004"."""
        found = self.comparison
        low, high = (f"{100 * value:+.1f}" for value in (found.low, found.high))
        return f"{100 * found.difference:+.1f} [{low}, {high}], {_p(self.p)}"

    def to_dict(self) -> dict[str, Any]:
        return {**self.comparison.to_dict(), "p_adjusted": self.p}


def leads(evaluations: Sequence[Evaluation]) -> dict[str, Lead]:
    """By the name of each other system; the student is the last of `evaluations`."""
    *others, student = evaluations
    found = {
        other.name: compare_scores(other.per_query[MEASURE], student.per_query[MEASURE]) for other in others
    }
    adjusted = holm({name: comparison.p_value for name, comparison in found.items()})
    return {name: Lead(comparison, adjusted[name]) for name, comparison in found.items()}


def legend(count: int, queries: int) -> str:
    """What the table's last columns mean."""
    return (
        f"Lead: points of {MEASURE} by which the trained student is ahead, 95% bootstrap interval over "
        f"{queries:,} queries, and p of a paired randomisation test, adjusted for {count} comparisons (Holm); "
        f"bold where p < {LEVEL:.2f}. ms: median of one query, text in and ten documents out, in this process."
    )


def verdict(evaluations: Sequence[Evaluation], found: dict[str, Lead]) -> str:
    """One honest sentence: the student, the last of `evaluations`, against BM25, the first, and its start."""
    bm25, start, student = evaluations[0], evaluations[-2], evaluations[-1]
    assert bm25.cost is not None
    assert start.cost is not None
    assert student.cost is not None
    cost = " and ".join(
        f"{student.cost.flops / max(other.flops, 1e-12):.2f} times {name}"
        for other, name in ((bm25.cost, "BM25's FLOPS"), (start.cost, "its start's FLOPS"))
    )
    return (
        f"The trained student stands {_stands(found[bm25.name], 'BM25')} and "
        f"{_stands(found[start.name], 'its untrained start')}, at {cost}."
    )


def _stands(lead: Lead, name: str) -> str:
    difference = lead.comparison.difference
    where = (
        f"{abs(difference) * 100:.1f} points of {MEASURE} {'above' if difference >= 0 else 'below'} {name}"
    )
    return f"{where} ({_p(lead.p)}{'' if lead.significant else ', within chance'})"


def _p(value: float) -> str:
    return "p < .001" if value < 0.001 else f"p = {value:.3f}".replace("0.", ".", 1)
