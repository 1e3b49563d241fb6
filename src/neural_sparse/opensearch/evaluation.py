"""A cluster's index judged as a retriever: its own searches, what its pipelines change, and BM25 in the same index."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from neural_sparse.errors import InputError, refuse_one_string
from neural_sparse.evaluation.measures import Run
from neural_sparse.opensearch import versions
from neural_sparse.opensearch.connection import version_of
from neural_sparse.opensearch.deploy.server import Server
from neural_sparse.opensearch.refusals import cured, reason
from neural_sparse.opensearch.searches import About, Kind, added_search, bm25_search, sparse_search
from neural_sparse.opensearch.shards import missing
from neural_sparse.search.hits import Hits

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

    from neural_sparse.model.encoder import NeuralSparseEncoder

logger = logging.getLogger(__name__)

_SEARCHES = 50  # of one _msearch
_BUSY = {429, 503}


class ClusterRetriever:
    """Searches one index as `kind` says; what `evaluation.evaluate_retriever` takes.

    Args:
        client: see `connect`.
        about: of the index.
        doc_ids: of the collection. A hit that is none of them keeps its place, under a number after theirs.
        make: kind of search for k documents.

    Raises:
        InputError: a server that refuses a search, or does not recover from being busy in time.
    """

    def __init__(self, client: OpenSearch, about: About, doc_ids: Sequence[str], make: Any) -> None:
        self.server = Server(client, f"index {about.name!r}")
        self.index = about.name
        self.make = make
        self._kinds: dict[int, Kind] = {}
        self.doc_ids: Sequence[str] = list(doc_ids)
        self._rows = {doc_id: row for row, doc_id in enumerate(self.doc_ids)}
        server = version_of(client)
        # What has no search pipelines has none to leave out either.
        self._pipelines = server is None or (
            server[0] == "opensearch" and versions.numbers(server[1]) >= versions.SEARCH_PIPELINES.since
        )

    def search_texts(self, texts: Sequence[str], k: int) -> Hits:
        """The k best documents of each text, in the server's order."""
        refuse_one_string(texts)
        if k not in self._kinds:  # made once: it reads the whole vocabulary
            self._kinds[k] = self.make(k)
        searches = self._kinds[k]
        hits = Hits(np.full((len(texts), k), -1, np.int32), np.zeros((len(texts), k), np.float32))
        for row, found in enumerate(self._found(searches, list(texts))):
            hits.docs[row, : len(found)] = [self._row(hit["_id"]) for hit in found]
            hits.scores[row, : len(found)] = [hit["_score"] for hit in found]
        return hits

    def _row(self, doc_id: str) -> int:
        if doc_id not in self._rows:
            self._rows[doc_id] = len(self.doc_ids)
            self.doc_ids.append(doc_id)  # type: ignore[attr-defined]
        return self._rows[doc_id]

    def _found(self, searches: Kind, texts: list[str]) -> Iterator[list[dict[str, Any]]]:
        bodies = searches.bodies(texts)
        if searches.pipeline is not None and self._pipelines:
            bodies = [{**body, "search_pipeline": searches.pipeline} for body in bodies]
        for start in range(0, len(bodies), _SEARCHES):
            lines: list[dict[str, Any]] = []
            for body in bodies[start : start + _SEARCHES]:
                lines += [{}, body]
            for place, answer in enumerate(self.server.ask(self._searched, lines), start=start):
                if "error" in answer:
                    words = cured(reason(answer["error"]))
                    raise InputError(
                        f"index {self.index!r} refused query {place} ({texts[place]!r:.60}): {words}"
                    )
                yield answer["hits"]["hits"]

    def _searched(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Answers of an _msearch; raises what `Server.ask` waits for where the server was too busy for one of them."""
        from opensearchpy import exceptions

        answers: list[dict[str, Any]] = self.server.client.msearch(body=lines, index=self.index)["responses"]
        for answer in answers:
            if answer.get("status") in _BUSY:
                raise exceptions.TransportError(answer["status"], reason(answer["error"]), answer)
            if "error" not in answer and (said := missing(answer)):  # perhaps a node that comes back
                raise exceptions.TransportError(503, said, {})
        return answers


@dataclass(frozen=True)
class Way:
    """A way to search the index.

    Attributes:
        name: in tables.
        make: kind of search for k documents.
    """

    name: str
    make: Any

    def kind(self) -> str:
        searches: Kind = self.make(10)
        return searches.word


def ways(
    client: OpenSearch,
    about: About,
    *,
    model: NeuralSparseEncoder | None = None,
    model_id: str | None = None,
    analyzer: str | None = None,
    pipelines: Sequence[str] = (),
    field: str | None = None,
    text_field: str | None = "text",
    bm25_boost: float | None = None,
) -> dict[str, Way]:
    """How an index can be searched, to be judged side by side.

    Returns:
        "exact" ("approximate" for a sparse_vector field): no pipeline, with weights sent by `model`, or made by the
        query model or analyzer that the cluster has;
        "shipped": by the index's default pipeline, if it has one; each of `pipelines` by its name (a two-phase one);
        "BM25": a match query for `text_field`, if that is not None; with `bm25_boost` also each of the others with so
        many times its score added, as "exact + BM25".

    Raises:
        InputError: an index that cannot be searched so; see `searches.sparse_search`; no such pipeline.
    """
    found: dict[str, Way] = {}
    plain = "approximate" if about.fields[about.vector_field(field)] == "sparse_vector" else "exact"
    own = model_id or (_model_of(client, about.default_pipeline) if about.default_pipeline else None)

    def add(name: str, **how: Any) -> None:
        def make(k: int) -> Kind:
            return sparse_search(about, k, field=field, **how)

        make(1)
        found[name] = Way(name, make)

    if model is not None:
        add(plain, model=model)
    elif analyzer is not None:
        add(plain, analyzer=analyzer, pipeline="_none")
    elif own is not None:
        add(plain, model_id=own, pipeline="_none")
    if about.default_pipeline is not None:
        add("shipped", analyzer=analyzer, model_id=model_id)
    for pipeline in pipelines:
        # Where the pipeline brings no model, the index's own does.
        brings = None if _model_of(client, pipeline) else own
        add(pipeline, pipeline=pipeline, analyzer=analyzer, model_id=None if analyzer else brings)
    if not found:
        add("shipped")  # says what is missing
    if text_field is not None:
        text = about.text_field(text_field)
        if bm25_boost is not None:
            for way in [*found.values()]:
                make = partial(_added, way.make, about, text, bm25_boost)
                make(1)
                found[f"{way.name} + BM25"] = Way(f"{way.name} + BM25", make)
        found["BM25"] = Way("BM25", lambda k: bm25_search(about, text, k))
    return found


def _added(make: Any, about: About, field: str, boost: float, k: int) -> Kind:
    return added_search(make(k), about, field, boost)


def _model_of(client: OpenSearch, pipeline: str) -> str | None:
    """The query model that a search pipeline brings. Raises InputError: no such pipeline."""
    from opensearchpy import exceptions

    server = Server(client, f"search pipeline {pipeline!r}")

    def asked() -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = client.search_pipeline.get(id=pipeline)
            return answer
        except exceptions.NotFoundError:
            return None

    if (answer := server.ask(asked)) is None:
        raise InputError(
            f"the cluster has no search pipeline {pipeline!r}; GET _search/pipeline lists what it has"
        )
    for processor in answer[pipeline].get("request_processors", ()):
        if "neural_query_enricher" in processor:
            enricher = processor["neural_query_enricher"]
            ids = [
                enricher.get("default_model_id"),
                *(enricher.get("neural_field_default_id") or {}).values(),
            ]
            return next((str(one) for one in ids if one), None)
    return None


@dataclass(frozen=True)
class Drift:
    """How far one ranking is from another.

    Attributes:
        queries: compared.
        same_top: share of queries whose first k documents are the same, in the same order up to equal scores.
        overlap: mean share of the first k documents that both have.
        score: largest difference of a document's score that both found, as a share of the larger; NaN if none.
    """

    queries: int
    same_top: float
    overlap: float
    score: float


def drift(first: Run, second: Run, k: int = 10) -> Drift:
    """Compare two runs, {query: {document: score}}, on the queries of `first`.

    >>> drift({"q": {"a": 2.0, "b": 1.0}}, {"q": {"b": 2.0, "a": 1.0}}, k=2)
    Drift(queries=1, same_top=0.0, overlap=1.0, score=0.5)
    """
    same = overlap = 0.0
    largest = float("nan")
    for query, scores in first.items():
        other = second.get(query, {})
        mine, theirs = (sorted(one.items(), key=lambda pair: -pair[1])[:k] for one in (scores, other))
        same += _equal(mine, theirs, scores, other)
        both = {doc for doc, _ in mine} & {doc for doc, _ in theirs}
        overlap += len(both) / max(len(mine), len(theirs), 1) if mine or theirs else 1.0
        for doc in both:
            difference = abs(scores[doc] - other[doc]) / max(scores[doc], other[doc], 1e-30)
            largest = float(np.fmax(largest, difference))
    return Drift(len(first), same / max(len(first), 1), overlap / max(len(first), 1), largest)


_TIE = 1e-5  # of a score: sums of float32 in another order


def _equal(
    mine: list[tuple[str, float]],
    theirs: list[tuple[str, float]],
    scores: dict[str, float],
    other: dict[str, float],
) -> bool:
    """Whether two tops are one, where documents of equal score may stand in any order and take one another's place."""
    if len(mine) != len(theirs):
        return False
    for (a, high), (b, low) in zip(mine, theirs, strict=True):
        if a == b:
            continue
        near = _TIE * max(abs(high), abs(low), 1e-30)
        # Each has to score, by the other's account, what stands in its place; or lie beyond what was retrieved.
        if abs(scores.get(b, high) - high) > near or abs(other.get(a, low) - low) > near:
            return False
    return True
