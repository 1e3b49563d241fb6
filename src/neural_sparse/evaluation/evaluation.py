"""The result of evaluating one system on one collection, and its folder on disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neural_sparse.errors import InputError
from neural_sparse.evaluation.contributions import Explanations
from neural_sparse.evaluation.cost import Cost
from neural_sparse.evaluation.latency import Latency
from neural_sparse.evaluation.measures import Run
from neural_sparse.files import read_json, write_json


@dataclass
class Evaluation:
    """What one system reached on one collection, and at what cost.

    Attributes:
        name: the system, as shown in reports.
        collection: name of the collection.
        means: measure -> mean over all judged queries.
        per_query: measure -> query id -> value.
        run: query id -> document id -> score, best first, no two scores equal; {} where it was not kept.
        cost: efficiency of the vectors; None for a system that has none (a run from elsewhere).
        latency: time of a query; None where not measured.
        hole_rate: share of unjudged documents in the first ten; None where nothing was retrieved.
        details: what else is worth knowing: k, unanswered queries, encoding speed, the collection's source.
        explanations: query id -> its text, and its first and relevant documents (`explain_run`).
    """

    name: str
    collection: str
    means: dict[str, float]
    per_query: dict[str, dict[str, float]]
    run: Run = field(default_factory=dict, repr=False)
    cost: Cost | None = None
    latency: Latency | None = None
    hole_rate: float | None = None
    details: dict[str, Any] = field(default_factory=dict)
    explanations: Explanations = field(default_factory=dict, repr=False)

    def summary(self) -> dict[str, float]:
        """One flat dict of figures: measures, cost and speed. Latencies are milliseconds."""
        figures = dict(self.means)
        if self.cost is not None:
            figures |= {
                "FLOPS": self.cost.flops,
                "L1": self.cost.doc_l1,
                "doc_terms": self.cost.doc_terms,
                "query_terms": self.cost.query_terms,
                "saturation": self.cost.saturation,
            }
            if self.cost.index_bytes is not None:
                figures["index_bytes"] = self.cost.index_bytes
        if self.latency is not None:
            figures |= self.latency.figures()
        if "documents_per_second" in self.details:
            figures["documents_per_second"] = self.details["documents_per_second"]
        if self.hole_rate is not None:
            figures["hole_rate"] = self.hole_rate
        return figures

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it; `from_dict` gives the same evaluation back."""
        return {
            **self._metrics(),
            "per_query": self.per_query,
            "run": self.run,
            "explanations": self.explanations,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Evaluation:
        """Raises InputError for a dict that is no evaluation."""
        try:
            cost, latency = values.get("cost"), values.get("latency")
            return cls(
                name=values["name"],
                collection=values["collection"],
                means=values["means"],
                per_query=values["per_query"],
                run=values.get("run", {}),
                cost=Cost.from_dict(cost) if cost else None,
                latency=Latency(**latency) if latency else None,
                hole_rate=values.get("hole_rate"),
                details=values.get("details", {}),
                explanations=values.get("explanations", {}),
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"this is no stored evaluation: {error}") from error

    def _metrics(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "collection": self.collection,
            "means": self.means,
            "cost": self.cost.to_dict() if self.cost else None,
            "latency": self.latency.to_dict() if self.latency else None,
            "hole_rate": self.hole_rate,
            "details": self.details,
        }

    def save(self, folder: str | Path) -> None:
        """Write metrics.json, per_query.json, run.trec and, where there are any, explanations.json."""
        from neural_sparse.evaluation.runs import write_run

        folder = Path(folder)
        write_run(folder / "run.trec", self.run, tag=self.name)
        write_json(folder / "per_query.json", self.per_query)
        if self.explanations:
            write_json(folder / "explanations.json", self.explanations)
        write_json(folder / "metrics.json", self._metrics())

    @classmethod
    def load(cls, folder: str | Path, with_run: bool = True) -> Evaluation:
        """Read what `save` wrote; without `with_run`, or without a run.trec, the run is empty.

        Raises:
            InputError: metrics.json or per_query.json missing or malformed.
        """
        from neural_sparse.evaluation.runs import read_run

        folder = Path(folder)
        values = {**read_json(folder / "metrics.json"), "per_query": read_json(folder / "per_query.json")}
        file = folder / "run.trec"
        if with_run and file.is_file() and file.stat().st_size:
            values["run"] = read_run(folder / "run.trec")
        if (folder / "explanations.json").is_file():
            values["explanations"] = read_json(folder / "explanations.json")
        return cls.from_dict(values)
