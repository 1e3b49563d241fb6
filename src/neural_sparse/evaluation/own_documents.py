"""Collections whose queries are documents of the corpus, under the same id."""

from __future__ import annotations

import logging
import statistics

from neural_sparse.data.collection import Collection
from neural_sparse.data.words import words
from neural_sparse.evaluation.measures import Run

logger = logging.getLogger(__name__)


def queries_are_documents(collection: Collection) -> bool:
    """Whether the queries were taken from the corpus under their own ids, as in ArguAna.

    True when query ids are ids of documents that nobody judged relevant to them and, for most of those, the document
    holds 80% of the query's words.
    """
    shared = [query_id for query_id in collection.queries if query_id in collection.qrels]
    rows = {doc_id: row for row, doc_id in enumerate(collection.doc_ids)}
    alike = [
        query_id
        for query_id in shared
        if query_id in rows and collection.qrels[query_id].get(query_id, 0) < 1
    ]
    held = []
    for query_id in alike[:200]:
        asked = set(words(collection.queries[query_id]))
        document = set(words(collection.texts[rows[query_id]]))
        held.append(len(asked & document) / len(asked) if asked else 0.0)
    return bool(held) and statistics.median(held) >= 0.8


def without_identical_ids(run: Run, collection: Collection, k: int | None = None) -> Run:
    """The run without documents that carry their query's id, each query cut to its first k; how many is said.

    A document that is judged relevant stays: judgements go before what ids look like.
    """
    kept: Run = {}
    dropped = 0
    for query_id, scores in run.items():
        own = query_id in scores and collection.qrels.get(query_id, {}).get(query_id, 0) < 1
        dropped += own
        pairs = [(doc_id, score) for doc_id, score in scores.items() if not (own and doc_id == query_id)]
        kept[query_id] = dict(pairs[:k])
    if dropped:
        logger.info(
            "%s: left out %d retrieved documents that are the query itself (its id, and not judged relevant); "
            "--no-ignore-identical-ids keeps them",
            collection.name,
            dropped,
        )
    return kept
