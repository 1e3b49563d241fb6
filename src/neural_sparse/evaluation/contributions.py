"""Why a document got its score: the terms it shares with the query, and what each adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from neural_sparse.evaluation.measures import Run

Explanations = dict[str, list[dict[str, Any]]]


def contributions(query: csr_matrix, document: csr_matrix) -> list[tuple[int, float]]:
    """Terms shared by two vectors [1, vocabulary] with their product, largest first; the sum is the score."""
    terms, in_query, in_document = np.intersect1d(
        query.indices, document.indices, assume_unique=True, return_indices=True
    )
    products = query.data[in_query].astype(np.float64) * document.data[in_document]
    order = np.argsort(-products, kind="stable")
    return [(int(terms[place]), float(products[place])) for place in order]


def explain_run(
    run: Run,
    qrels: Mapping[str, Mapping[str, int]],
    query_ids: Sequence[str],
    query_vectors: csr_matrix,
    doc_ids: Sequence[str],
    doc_vectors: csr_matrix,
    vocabulary: Sequence[str] | None = None,
    relevant: int = 2,
    terms: int = 8,
) -> Explanations:
    """For each query its first hit and its first `relevant` relevant documents, each with its largest terms.

    Relevant documents come best rank first, then those not retrieved.

    Returns:
        query id -> [{"doc", "grade", "rank", "terms": [[term, contribution], ...]}];
        the rank is None where the document was not retrieved.
    """
    rows = {doc_id: row for row, doc_id in enumerate(doc_ids)}
    explained: Explanations = {}
    for number, query_id in enumerate(query_ids):
        ranks = {doc_id: rank for rank, doc_id in enumerate(run.get(query_id, {}), start=1)}
        grades = qrels.get(query_id, {})
        wanted = [doc_id for doc_id, grade in grades.items() if grade >= 1 and doc_id in rows]
        wanted.sort(key=lambda doc_id: ranks.get(doc_id, len(rows) + 1))
        chosen = dict.fromkeys([*list(ranks)[:1], *wanted[:relevant]])
        entries = []
        for doc_id in chosen:
            shared = contributions(query_vectors[number], doc_vectors[rows[doc_id]])[:terms]
            named = [
                [vocabulary[term] if vocabulary else str(term), round(value, 4)] for term, value in shared
            ]
            entries.append(
                {"doc": doc_id, "grade": grades.get(doc_id), "rank": ranks.get(doc_id), "terms": named}
            )
        explained[query_id] = entries
    return explained
