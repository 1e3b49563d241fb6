"""The result of evaluating one system on one collection: its run, what each document's score is made of, its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from neural_sparse.corpora.collection import Collection
from neural_sparse.errors import InputError
from neural_sparse.evaluation.cost import Cost, Latency
from neural_sparse.evaluation.measures import Run
from neural_sparse.evaluation.runs import read_run, write_run
from neural_sparse.io.files import read_json, write_json
from neural_sparse.text.ragged import Indices

Explanations = dict[str, dict[str, Any]]

SHOWN_CHARACTERS = 300


class Vectors(NamedTuple):
    """Both sides of a collection, [queries, vocabulary] and [documents, vocabulary], in its order.

    Attributes:
        passages: where `documents` holds passages instead: those of document i are its rows passages[i] to
            passages[i + 1].
    """

    queries: csr_matrix
    documents: csr_matrix
    vocabulary: Sequence[str] | None = None
    passages: Indices | None = None

    def terms(self, query: int, document: int) -> list[tuple[int, float]]:
        """Contributions to the score of a document: those of its best passage."""
        asked = self.queries[query]
        if self.passages is None:
            return contributions(asked, self.documents[document])
        first, last = int(self.passages[document]), int(self.passages[document + 1])
        scores = (self.documents[first:last] @ asked.T).toarray()
        return contributions(asked, self.documents[first + int(scores.argmax())])


def contributions(query: csr_matrix, document: csr_matrix) -> list[tuple[int, float]]:
    """Terms shared by two vectors [1, vocabulary] with their product, largest first; the sum is the score."""
    terms, in_query, in_document = np.intersect1d(
        query.indices, document.indices, assume_unique=True, return_indices=True
    )
    products = query.data[in_query].astype(np.float64) * document.data[in_document]
    order = np.argsort(-products, kind="stable")
    return [(int(terms[place]), float(products[place])) for place in order]


def explain_run(
    run: Run, collection: Collection, vectors: Vectors | None = None, relevant: int = 2, terms: int = 8
) -> Explanations:
    """For each judged query its first hit and its best-ranked relevant documents, with their texts.

    With vectors each document has the terms that made its score, largest first. Relevant documents that were
    not retrieved come last; their rank is None.

    Returns:
        query id -> {"query": text, "documents": [{"doc", "grade", "rank", "text", "terms"}, ...]}, where
        "terms" holds [term, value] pairs.
    """
    rows = {doc_id: row for row, doc_id in enumerate(collection.doc_ids)}
    explained: Explanations = {}
    for number, (query_id, query) in enumerate(collection.queries.items()):
        if query_id not in collection.qrels:
            continue
        ranks = {doc_id: rank for rank, doc_id in enumerate(run.get(query_id, {}), start=1)}
        grades = collection.qrels[query_id]
        wanted = [doc_id for doc_id, grade in grades.items() if grade >= 1]
        wanted.sort(key=lambda doc_id: ranks.get(doc_id, len(rows) + 1))
        documents = []
        for doc_id in dict.fromkeys([*list(ranks)[:1], *wanted[:relevant]]):
            row = rows.get(doc_id)
            shared: list[list[Any]] = []
            if vectors is not None and row is not None:
                found = vectors.terms(number, row)[:terms]
                names = vectors.vocabulary
                shared = [[names[term] if names else str(term), round(value, 4)] for term, value in found]
            text = collection.texts[row] if row is not None else ""
            documents.append(
                {
                    "doc": doc_id,
                    "grade": grades.get(doc_id),
                    "rank": ranks.get(doc_id),
                    "text": text[:SHOWN_CHARACTERS] + ("…" if len(text) > SHOWN_CHARACTERS else ""),
                    "terms": shared,
                }
            )
        explained[query_id] = {"query": query, "documents": documents}
    return explained


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
        details: what else is worth knowing: k, how so many were searched for ("search"), unanswered queries, encoding
            speed, what a model does for a query ("query_inference"), the collection's source.
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
        if "query_inference" in self.details:
            figures["query_gflop"] = self.details["query_inference"]["gflop"]
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
        folder = Path(folder)
        values = {**read_json(folder / "metrics.json"), "per_query": read_json(folder / "per_query.json")}
        file = folder / "run.trec"
        if with_run and file.is_file() and file.stat().st_size:
            values["run"] = read_run(folder / "run.trec")
        if (folder / "explanations.json").is_file():
            values["explanations"] = read_json(folder / "explanations.json")
        return cls.from_dict(values)
