"""The second proof, of an index that was filled: its top tens against exact scores of what the export makes here."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from neural_sparse.errors import InputError
from neural_sparse.opensearch.deploy.documents import Documents
from neural_sparse.opensearch.deploy.plan import PASSAGES_FIELD, TEXT_FIELD, Plan
from neural_sparse.opensearch.deploy.proof import SCORE_LIMIT, Vector, best_score, stored_vector
from neural_sparse.opensearch.deploy.server import Server
from neural_sparse.opensearch.features import MAX_CLAUSES
from neural_sparse.opensearch.parity import Check, query_side
from neural_sparse.opensearch.remote.inference import DocumentEncoder

QUERIES = 10
DOCUMENTS = 100  # drawn from the collection, beside those that the cluster finds
_TOP = 10
_WORDS = 8  # of a document, which make a query where there are none


def check_rankings(server: Server, plan: Plan, documents: Documents) -> list[Check]:
    """Ask a handful of queries as the deployment is asked.

    Looked at are the documents that the cluster finds and a sample of the others (all, of a small collection), encoded
    here by the export and cut to what the index keeps. What is found has to have the score that is worked out here,
    and none of the others may have a greater one than the last that is found. Clusters of a sparse_vector field miss
    some by design: for these the figure is for information.

    Raises:
        InputError: they differ.
    """
    found = _ask(server, plan, _queries(plan, documents))
    if not found:
        return []
    draw = random.Random(0)
    ids = draw.sample(range(len(documents.doc_ids)), min(DOCUMENTS, len(documents.doc_ids)))
    looked_at = {documents.doc_ids[row] for row in ids}.union(*(hits for _, hits in found.values()))
    vectors = _vectors(server, plan, sorted(looked_at))
    worst, where = 0.0, ""
    for text, (weights, hits) in found.items():
        scores = {doc: best_score(weights, vectors[doc]) for doc in vectors}
        last = min(hits.values()) if len(hits) == _TOP else 0.0
        for doc, score in scores.items():
            difference = _relative(hits[doc], score) if doc in hits else _relative(max(score, last), last)
            if difference > worst:
                worst, where = difference, f"most: {text[:30]!r}, document {doc}"
    approximate = plan.options.approximate_threshold is not None
    check = Check(
        "top tens, scores relative",
        len(found),
        difference=worst,
        limit=None if approximate else SCORE_LIMIT,
        note=where or f"among {len(vectors):,} documents",
    )
    if not check.passed:
        raise InputError(
            f"{server.where} does not rank as the export does: scores differ by {worst:.3g} ({where}). The alias was "
            "left as it was. Documents whose vectors something else has made are sent again once they are deleted"
        )
    return [check]


def _queries(plan: Plan, documents: Documents) -> list[str]:
    texts = [one for one in documents.queries if one.strip()]
    if not texts:
        texts = [" ".join(one.split()[:_WORDS]) for one in documents.texts if one.strip()]
    return random.Random(1).sample(texts, min(QUERIES, len(texts)))


def _ask(server: Server, plan: Plan, texts: Iterable[str]) -> dict[str, tuple[Vector, dict[str, float]]]:
    """{query: (its weights, {document: score})}."""
    asked = query_side(plan.exported.queries)
    found = {}
    for text in texts:
        weights = {token: weight for token, weight in asked.weights(text).items() if 0 < weight <= 64}
        if not weights or len(weights) > MAX_CLAUSES:
            continue
        body = {**plan.query(text, weights, size=_TOP), "_source": False}
        hits = server.ask(server.client.search, index=plan.index, body=body)["hits"]["hits"]
        found[text] = weights, {hit["_id"]: float(hit["_score"]) for hit in hits}
    return found


def _vectors(server: Server, plan: Plan, doc_ids: Sequence[str]) -> dict[str, list[Vector]]:
    """What the index holds of each document, worked out here from its text: a vector, or one per passage."""
    fields = [TEXT_FIELD, PASSAGES_FIELD]
    answer: dict[str, Any] = server.ask(
        server.client.mget,
        index=plan.index,
        body={"ids": list(doc_ids)},
        params={"_source_includes": ",".join(fields)},
    )
    texts: dict[str, list[str]] = {}
    for one in answer["docs"]:
        source: Mapping[str, Any] = one.get("_source", {})
        text = str(source.get(TEXT_FIELD) or "")
        whole = plan.options.passages is None
        texts[one["_id"]] = [text] if whole else [str(part) for part in source.get(PASSAGES_FIELD) or ()]
    encode = DocumentEncoder(plan.exported.encoder.path)
    flat = iter(encode([text for parts in texts.values() for text in parts]))
    vectors = {doc: [stored_vector(plan, next(flat)) for _ in parts] for doc, parts in texts.items()}
    # Texts of nothing but spaces go in without a vector where the cluster encodes.
    blank = {doc for doc, parts in texts.items() if not any(text.strip() for text in parts)}
    return {doc: [{}] if doc in blank and plan.options.ingest else vectors[doc] for doc in texts}


def _relative(one: float, other: float) -> float:
    return abs(one - other) / max(one, other) if one != other else 0.0
