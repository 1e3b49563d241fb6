"""Collections whose queries are documents of the corpus, under the same id."""

from __future__ import annotations

import re
import statistics

from neural_sparse.data.collection import Collection
from neural_sparse.evaluation.measures import Run

_WORD = re.compile(r"\w+")


def queries_are_documents(collection: Collection) -> bool:
    """Whether the queries were taken from the corpus under their own ids, as in ArguAna.

    True when query ids are document ids and, for most of those, the document holds 80% of the query's words.
    """
    shared = [query_id for query_id in collection.queries if query_id in collection.qrels]
    rows = {doc_id: row for row, doc_id in enumerate(collection.doc_ids)}
    held = []
    for query_id in [query_id for query_id in shared if query_id in rows][:200]:
        words = set(_WORD.findall(collection.queries[query_id].lower()))
        document = set(_WORD.findall(collection.texts[rows[query_id]].lower()))
        held.append(len(words & document) / len(words) if words else 0.0)
    return bool(held) and statistics.median(held) >= 0.8


def without_identical_ids(run: Run, k: int | None = None) -> Run:
    """The run without documents that carry their query's id, each query cut to its first k."""
    kept: Run = {}
    for query_id, scores in run.items():
        pairs = [(doc_id, score) for doc_id, score in scores.items() if doc_id != query_id]
        kept[query_id] = dict(pairs[:k])
    return kept
