"""Why a document got its score: the terms it shares with the query, and what each adds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from neural_sparse.data.collection import Collection
from neural_sparse.evaluation.measures import Run

Explanations = dict[str, dict[str, Any]]

SHOWN_CHARACTERS = 300


class Vectors(NamedTuple):
    """Both sides of a collection, [queries, vocabulary] and [documents, vocabulary], in its order."""

    queries: csr_matrix
    documents: csr_matrix
    vocabulary: Sequence[str] | None = None


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
                found = contributions(vectors.queries[number], vectors.documents[row])[:terms]
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
