"""The proof at the end: what the cluster answers against what the export gives here."""

from __future__ import annotations

import json
import logging
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from neural_sparse.errors import InputError
from neural_sparse.opensearch.connection import readable_errors
from neural_sparse.opensearch.deploy.models import Models
from neural_sparse.opensearch.deploy.plan import PASSAGES_FIELD, TEXT_FIELD, VECTOR_FIELD, Plan
from neural_sparse.opensearch.deploy.server import Server
from neural_sparse.opensearch.features import MAX_CLAUSES, MIN_WEIGHT, truncated
from neural_sparse.opensearch.parity import AWKWARD_TEXTS, Check, ServedDocuments, query_side

logger = logging.getLogger(__name__)

VECTOR_LIMIT = 1e-3  # most that a weight may differ: another processor, or another libtorch
SCORE_LIMIT = 5e-3  # relative: one weight may fall to the other side of a ninth bit
_MARK = "proof of a deployment; may be deleted"

Vector = dict[str, float]


class Proof:
    """Awkward texts as documents and as queries.

    Args:
        ids: {"encoder": id, "queries": id} of the models that were deployed.
    """

    def __init__(self, server: Server, plan: Plan, ids: Mapping[str, str]) -> None:
        self.server = server
        self.plan = plan
        self.ids = ids
        self.encoder, asked = ServedDocuments(plan.exported.encoder.path), query_side(plan.exported.queries)
        self.documents = {name: self.encoder.weights(text) for name, text in AWKWARD_TEXTS.items()}
        self.queries = {name: asked.weights(text) for name, text in AWKWARD_TEXTS.items()}

    def run(self) -> list[Check]:
        """Raises InputError naming every check that failed."""
        models = Models(self.server)
        checks = []
        for role, function, expected, what in (
            ("encoder", "sparse_encoding", self.documents, "document vectors"),
            ("queries", self.plan.exported.queries.function_name.lower(), self.queries, "query weights"),
        ):
            if role in self.ids:
                answers = {
                    name: models.weights(function, self.ids[role], text)
                    for name, text in AWKWARD_TEXTS.items()
                }
                checks.append(_compare(f"{what}, awkward texts", answers, expected))
        checks += self._scores()
        if failed := [check for check in checks if not check.passed]:
            listed = "; ".join(f"{check.what} by {check.difference:.3g} ({check.note})" for check in failed)
            raise InputError(
                f"{self.server.where} does not answer as the export does: {listed}. The alias was left as it was. Look "
                "for another model of that name, or other pipelines, on the cluster"
            )
        return checks

    def _scores(self) -> list[Check]:
        """Documents and queries through the pipelines of the index, in an index like it."""
        index = f"{self.plan.index}-proof"
        client, ask = self.server.client, self.server.ask
        self._clear(index)
        body = self.plan.index_body()
        body["mappings"]["_meta"]["neural_sparse"]["proof"] = _MARK
        body["settings"] |= {"index.number_of_shards": 1, "index.number_of_replicas": 0}
        ask(client.indices.create, index=index, body=body)
        try:
            texts = {name: text for name, text in AWKWARD_TEXTS.items() if text.strip()}
            lines: list[dict[str, Any]] = []
            for name, text in texts.items():
                lines += [{"index": {"_id": name}}, self._document(name, text)]
            answer = ask(
                client.bulk, index=index, body=lines, params={"refresh": "true", "request_timeout": 300}
            )
            refused = [
                f"{item['index']['_id']}: {item['index']['error']}"
                for item in answer["items"]
                if "error" in item["index"]
            ]
            if refused:
                raise InputError(
                    f"{self.server.where} refused documents of the proof: {'; '.join(refused)[:1000]}"
                )
            return self._search(index, texts)
        finally:
            self._clear(index)

    def _document(self, name: str, text: str) -> dict[str, Any]:
        if self.plan.options.ingest:
            return {TEXT_FIELD: text}
        return {TEXT_FIELD: text, VECTOR_FIELD: self._named(self.documents[name])}

    def _named(self, vector: Vector) -> Vector:
        """As this field takes it."""
        kept = {token: weight for token, weight in vector.items() if weight >= MIN_WEIGHT}
        if self.plan.options.field == "rank_features":
            return kept
        ids = {token: str(number) for number, token in enumerate(self.plan.exported.tokens) if token}
        return {ids[token]: weight for token, weight in kept.items()}

    def _search(self, index: str, texts: Mapping[str, str]) -> list[Check]:
        client, ask = self.server.client, self.server.ask
        stored = {name: [stored_vector(self.plan, self.documents[name])] for name in texts}
        if self.plan.options.passages is not None:
            stored = {name: self._passages(index, name, texts[name]) for name in texts}
        worst, where, n_queries, moved = 0.0, "", 0, 0
        for name, text in texts.items():
            weights = {token: weight for token, weight in self.queries[name].items() if 0 < weight <= 64}
            if not weights or len(weights) > MAX_CLAUSES:
                continue
            n_queries += 1
            body = self.plan.query(text, weights, size=len(texts))
            hits = ask(client.search, index=index, body=body)["hits"]["hits"]
            found = {hit["_id"]: float(hit["_score"]) for hit in hits}
            scores = {doc: best_score(weights, vectors) for doc, vectors in stored.items()}
            expected = {doc: score for doc, score in scores.items() if score > 0}
            difference = max(
                (
                    abs(found.get(doc, 0.0) - expected.get(doc, 0.0))
                    / max(found.get(doc, 0.0), expected.get(doc, 0.0))
                    for doc in {*found, *expected}
                ),
                default=0.0,
            )
            if difference > worst:
                worst, where = difference, f"most: {name}"
            if self.plan.two_phase_pipeline is not None:
                second = self.plan.query(text, weights)
                with readable_errors(self.server.where):
                    again = client.search(
                        index=index, body=second, params={"search_pipeline": self.plan.two_phase_pipeline}
                    )["hits"]["hits"]
                moved += [hit["_id"] for hit in again] != [hit["_id"] for hit in hits[:10]]
        checks = [
            Check("scores of queries, relative", n_queries, difference=worst, limit=SCORE_LIMIT, note=where)
        ]
        if self.plan.two_phase_pipeline is not None:
            checks.append(
                Check(
                    "top tens that two-phase changes",
                    n_queries,
                    difference=float(moved),
                    limit=None,
                    note="heavy tokens are scored first",
                )
            )
        return checks

    def _passages(self, index: str, name: str, text: str) -> list[Vector]:
        """What the index holds of each passage into which the cluster cut a text.

        Raises:
            InputError: they are not the text's.
        """
        found = self.server.ask(self.server.client.get, index=index, id=name)["_source"]
        passages = [str(one) for one in found.get(PASSAGES_FIELD, ())]
        if passages and not covers(passages, text):
            raise InputError(
                f"{self.server.where}: the passages of the proof's text {name!r} are not the whole of it"
            )
        return [stored_vector(self.plan, self.encoder.weights(one)) for one in passages]

    def _clear(self, index: str) -> None:
        """Delete the proof's index, and no other."""
        client, ask = self.server.client, self.server.ask
        there = self.server.named(index)
        if not there:
            return
        (found,) = there.values()
        about = found["mappings"].get("_meta", {}).get("neural_sparse", {})
        if about.get("proof") != _MARK:
            raise InputError(
                f"{self.server.where}: index {index!r} is in the way of the proof: rename it, or give --name"
            )
        ask(client.indices.delete, index=index, params={"ignore_unavailable": "true"})


def _compare(what: str, answers: Mapping[str, Vector], expected: Mapping[str, Vector]) -> Check:
    worst, where = 0.0, ""
    for name, ours in expected.items():
        theirs = answers[name]
        for token in {*ours, *theirs}:
            difference = abs(ours.get(token, 0.0) - theirs.get(token, 0.0))
            if difference > worst:
                worst, where = difference, f"most: {name}, {json.dumps(token, ensure_ascii=False)}"
    return Check(what, len(expected), difference=worst, limit=VECTOR_LIMIT, note=where)


def covers(passages: Sequence[str], text: str) -> bool:
    """Whether passages, of which each may repeat the end of the one before, make up a text.

    >>> covers(["one two ", "two three"], "one two three"), covers(["one ", "three"], "one two three")
    (True, False)
    """
    solid = [0, *accumulate(not letter.isspace() for letter in text)]
    starts, length = [0], 0  # of the passage before, wherever it may lie: texts repeat themselves
    for one in passages:
        found, place = [], text.find(one)
        while place >= 0:
            nearest = bisect_right(starts, place) - 1
            if nearest >= 0 and solid[place] <= solid[starts[nearest] + length]:  # only spaces in between
                found.append(place)
            place = text.find(one, place + 1)
        starts, length = found, len(one)
    return any(solid[start + length] == solid[-1] for start in starts)


def stored_vector(plan: Plan, vector: Vector) -> Vector:
    """As it is in the index: pruned where the ingest pipeline prunes, 9 bits of each weight."""
    least = 0.0
    if plan.options.ingest and plan.options.prune is not None and vector:
        least = plan.options.prune * max(vector.values())
    kept = {token: weight for token, weight in vector.items() if weight >= max(least, MIN_WEIGHT)}
    cut = truncated(np.array(list(kept.values()), np.float32)).tolist()
    return dict(zip(kept, cut, strict=True))


def best_score(query: Vector, vectors: Sequence[Vector]) -> float:
    """Of a document with these vectors, one or one per passage; 0 if it has none."""
    return max(
        (sum(weight * one[token] for token, weight in query.items() if token in one) for one in vectors),
        default=0.0,
    )
