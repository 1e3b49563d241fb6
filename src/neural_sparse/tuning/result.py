"""What came of a sweep: its runs, the points they make, front and recommendation, as table, picture, JSON and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from neural_sparse.evaluation.significance import Comparison, compare_macro
from neural_sparse.io.files import write_json, write_text
from neural_sparse.report.plots import plot_relevance_against_cost
from neural_sparse.training.dev import MEASURE
from neural_sparse.tuning.choice import Point, Worse, choose, pareto_front, recommendation
from neural_sparse.tuning.grid import Trial
from neural_sparse.tuning.judging import FIGURES, Reference


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


FILE, TABLE, PICTURE = "sweep.json", "sweep.csv", "pareto.png"
WAITING, FINISHED, FAILED = "waiting", "finished", "failed"


@dataclass
class Outcome:
    """What came of a run.

    Attributes:
        run: which.
        status: "waiting", "finished" or "failed".
        figures: nDCG@10, FLOPS, doc_terms.
        per_query: query id -> nDCG@10, one for each collection.
        seconds: of training, since its last checkpoint where it was interrupted.
        reason: why it failed.
    """

    run: Trial
    status: str = WAITING
    figures: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None
    reason: str | None = None
    per_query: Sequence[Mapping[str, float]] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.run.name,
            "values": dict(self.run.values),
            "status": self.status,
            **self.figures,
            "seconds": self.seconds,
            "reason": self.reason,
        }


def _mean_per_query(runs: Sequence[Outcome]) -> list[dict[str, float]]:
    """query id -> mean over runs, for each collection."""
    return [
        {query_id: sum(one[query_id] for one in several) / len(several) for query_id in several[0]}
        for several in zip(*(run.per_query for run in runs), strict=True)
    ]


@dataclass
class SweepResult:
    """
    Attributes:
        output: folder of the sweep.
        keys: swept.
        collection: name of what was judged on.
        sources: where it is from.
        bm25: figures of BM25 there.
        outcomes: one per run.
        references: systems from elsewhere.
        within: nDCG@10 that a cheaper run may lose; what is not significant if None.
    """

    output: Path
    keys: tuple[str, ...]
    collection: str
    sources: Sequence[Mapping[str, Any]]
    bm25: dict[str, float]
    outcomes: list[Outcome] = field(default_factory=list)
    references: Sequence[Reference] = ()
    within: float | None = None

    @property
    def groups(self) -> dict[str, list[Outcome]]:
        """Finished runs that differ in nothing but their seed, by the label of the rest."""
        groups: dict[str, list[Outcome]] = {}
        for one in self.outcomes:
            if one.status == FINISHED:
                groups.setdefault(one.run.group, []).append(one)
        return groups

    @property
    def points(self) -> list[Point]:
        """One per group: the mean over its seeds."""
        return [
            Point(name, *(sum(one.figures[key] for one in runs) / len(runs) for key in (MEASURE, "FLOPS")))
            for name, runs in self.groups.items()
        ]

    @property
    def front(self) -> list[Point]:
        return pareto_front(self.points)

    @property
    def chosen(self) -> Point | None:
        return choose(self.points, self._against)

    @property
    def recommendation(self) -> str:
        failed = sum(one.status == FAILED for one in self.outcomes)
        return recommendation(self.points, self._against, failed, self.bm25[MEASURE])

    @property
    def _against(self) -> Worse | float:
        return self._compared if self.within is None else self.within

    def _compared(self, best: Point, other: Point) -> Comparison:
        """Paired over the queries of each collection, each query's value the mean over the seeds."""
        a, b = (_mean_per_query(self.groups[point.name]) for point in (best, other))
        return compare_macro(list(zip(a, b, strict=True)))

    @property
    def baselines(self) -> list[Reference]:
        """BM25 and the references."""
        return [Reference("BM25", self.bm25[MEASURE], self.bm25["FLOPS"]), *self.references]

    def to_dict(self) -> dict[str, Any]:
        return {
            "keys": list(self.keys),
            "collections": [dict(source) for source in self.sources],
            "BM25": self.bm25,
            "references": {one.name: [one.relevance, one.cost] for one in self.references},
            "runs": [one.to_dict() for one in self.outcomes],
            "front": [point.name for point in self.front],
            "within": self.within,
            "recommendation": self.recommendation,
        }

    def write(self) -> None:
        """sweep.json and sweep.csv."""
        write_json(self.output / FILE, self.to_dict())
        front = {point.name for point in self.front}
        rows = io.StringIO()
        writer = csv.writer(rows, lineterminator="\n")
        writer.writerow([*self.keys, "status", *FIGURES, "seconds", "front", "run", "reason"])
        for one in self.outcomes:
            on_front = one.status == FINISHED and one.run.group in front
            writer.writerow(
                [*(one.run.values[key] for key in self.keys), one.status]
                + [one.figures.get(key, "") for key in FIGURES]
                + ["" if one.seconds is None else one.seconds, int(on_front), one.run.name, one.reason or ""]
            )
        write_text(self.output / TABLE, rows.getvalue())

    def draw(self) -> None:
        """pareto.png, if a run is finished."""
        if self.points:
            key = ", ".join(name for name in self.keys if name != "seed" or len(self.keys) == 1)
            plot_front(
                self.points, self.chosen, references=self.baselines, path=self.output / PICTURE, key=key
            )


ABSENT = "–"


def sweep_table(result: SweepResult) -> Table:
    """Runs, means over seeds, and what they are compared with; "front" marks what no other run beats."""
    table = Table(title=f"{MEASURE} on {result.collection}", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column(", ".join(result.keys))
    for heading in (MEASURE, "FLOPS", "terms/doc", "minutes"):
        table.add_column(heading, justify="right")
    table.add_column("")
    front = {point.name for point in result.front}
    chosen = result.chosen.name if result.chosen else None

    def mark(name: str) -> str:
        return "front, recommended" if name == chosen else "front" * (name in front)

    averaged = any(len(runs) > 1 for runs in result.groups.values())
    for one in result.outcomes:
        run = one.run
        note = one.status if one.status != FINISHED else "" if averaged else mark(run.group)
        minutes = ABSENT if one.seconds is None else f"{one.seconds / 60:.1f}"
        table.add_row(Text(run.label), *_figures(one.figures), minutes, note)
    if averaged:
        table.add_section()
        for name, runs in result.groups.items():
            means = {key: sum(one.figures[key] for one in runs) / len(runs) for key in runs[0].figures}
            table.add_row(Text(f"{name}, mean of {len(runs)}"), *_figures(means), "", mark(name))
    table.add_section()
    table.add_row("BM25", *_figures(result.bm25), "", "")
    for other in result.references:
        cost = {} if other.cost is None else {"FLOPS": other.cost}
        table.add_row(Text(other.name), *_figures({MEASURE: other.relevance, **cost}), "", "")
    return table


def _figures(figures: Mapping[str, float]) -> tuple[str, str, str]:
    def show(key: str, decimals: int) -> str:
        return f"{figures[key]:,.{decimals}f}" if key in figures else ABSENT

    return show(MEASURE, 3), show("FLOPS", 2), show("doc_terms", 0)
