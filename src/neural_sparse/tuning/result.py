"""What came of a sweep: its runs, the points they make, the front and the recommendation; JSON and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neural_sparse.evaluation.significance import Comparison, compare_macro
from neural_sparse.files import write_json, write_text
from neural_sparse.training.dev import MEASURE
from neural_sparse.tuning.choice import Point, Worse, choose, pareto_front, recommendation
from neural_sparse.tuning.grid import Run
from neural_sparse.tuning.judging import FIGURES
from neural_sparse.tuning.picture import plot_front
from neural_sparse.tuning.references import Reference

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

    run: Run
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
            plot_front(self.points, self.chosen, self.baselines, self.output / PICTURE, key)
