"""Score a retriever, or a run made elsewhere, on a collection; also where its queries are documents of the corpus."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from neural_sparse.corpora.collection import Collection
from neural_sparse.errors import InputError
from neural_sparse.evaluation.cost import QUERIES, Cost, Stopwatch, measure_latency
from neural_sparse.evaluation.evaluation import Evaluation, explain_run
from neural_sparse.evaluation.measures import DEFAULT_MEASURES, Run, deeper_than, evaluate_run
from neural_sparse.evaluation.runs import run_from_hits, unknown_documents
from neural_sparse.search.hits import TellsMode
from neural_sparse.text.shingles import words

if TYPE_CHECKING:
    from neural_sparse.search import Retriever


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


_BATCH = 256


def evaluate_retriever(
    retriever: Retriever,
    collection: Collection,
    k: int = 1000,
    measures: Sequence[str] = DEFAULT_MEASURES,
    *,
    name: str | None = None,
    cost: Cost | None = None,
    latency_queries: int = QUERIES,
    latency_k: int = 10,
    stopwatch: Stopwatch | None = None,
    ignore_identical_ids: bool | None = None,
) -> Evaluation:
    """Retrieve the top k for every judged query, score the run, and time searches of up to `latency_queries`.

    Args:
        stopwatch: times this retriever later, in turn with others: call its `measure`. `latency` is None until then.
        ignore_identical_ids: leave out a document whose id is the query's, as BEIR does. None does so only
            where `queries_are_documents` finds that the queries were taken from the corpus, as in ArguAna:
            in other collections equal ids are chance. A document judged relevant is never left out.

    Raises:
        InputError: k below 1, a retriever over other documents, or what `evaluate_run` refuses.
    """
    if k < 1:
        raise InputError(f"k is {k}: retrieve at least one document")
    if ignore_identical_ids is None:
        ignore_identical_ids = queries_are_documents(collection)
    held = set(retriever.doc_ids)
    if k < len(held):
        _say_what_is_cut(deeper_than(measures, k), f"k={k}: only the first {k} documents are retrieved")
    if not any(doc_id in held for grades in collection.qrels.values() for doc_id in grades):
        raise InputError(
            f"the index holds none of the documents judged in {collection.name}: another collection's?"
        )
    query_ids = [query_id for query_id in collection.queries if query_id in collection.qrels]
    texts = [collection.queries[query_id] for query_id in query_ids]
    run: Run = {}
    # One more than k, so that k are left where the query's own document is dropped.
    depth = min(k + 1 if ignore_identical_ids else k, len(held))
    for start in range(0, len(texts), _BATCH):
        hits = retriever.search_texts(texts[start : start + _BATCH], depth)
        run |= run_from_hits(hits, query_ids[start : start + _BATCH], retriever.doc_ids)
    if ignore_identical_ids:
        run = without_identical_ids(run, collection, k)
    details: dict[str, Any] = {"k": k, "ignore_identical_ids": ignore_identical_ids, "documents": len(held)}
    if isinstance(retriever, TellsMode):
        details["search"] = retriever.mode(depth)
    result = _evaluation(
        name or type(retriever).__name__, collection, run, measures, cost=cost, details=details
    )
    latency_k = min(latency_k, len(held))
    if stopwatch is None:
        result.latency = measure_latency(retriever, texts, latency_k, latency_queries)
    else:
        stopwatch.add(retriever, texts, latency_k, partial(setattr, result, "latency"))
    return result


def evaluate_external_run(
    run: Run,
    collection: Collection,
    measures: Sequence[str] = DEFAULT_MEASURES,
    *,
    name: str = "run",
    ignore_identical_ids: bool | None = None,
) -> Evaluation:
    """Score a run made elsewhere. Documents the collection lacks are counted, said and kept in their places.

    Raises:
        InputError: as `evaluate_run`.
    """
    unknown = unknown_documents(run, set(collection.doc_ids), name)
    depth = max(map(len, run.values()), default=0)
    if depth < len(collection.doc_ids):
        _say_what_is_cut(deeper_than(measures, depth), f"{name}: its deepest ranking holds {depth} documents")
    if ignore_identical_ids is None:
        ignore_identical_ids = queries_are_documents(collection)
    if ignore_identical_ids:
        run = without_identical_ids(run, collection)
    details = {"unknown_documents": unknown, "ignore_identical_ids": ignore_identical_ids}
    return _evaluation(name, collection, run, measures, details=details)


def _say_what_is_cut(measures: Sequence[str], why: str) -> None:
    if measures:
        logger.warning("%s, so what is called %s is measured no deeper", why, ", ".join(measures))


def _evaluation(
    name: str,
    collection: Collection,
    run: Run,
    measures: Sequence[str],
    *,
    details: dict[str, Any],
    cost: Cost | None = None,
) -> Evaluation:
    scores = evaluate_run(run, collection.qrels, measures)
    details |= {
        "judged_queries": scores.judged_queries,
        "unanswered_queries": scores.unanswered,
        "queries_without_relevant": scores.without_relevant,
    }
    hole_rate = None if np.isnan(scores.hole_rate) else scores.hole_rate
    return Evaluation(
        name,
        collection.name,
        means=scores.means,
        per_query=scores.per_query,
        run=run,
        cost=cost,
        hole_rate=hole_rate,
        details=details,
        explanations=explain_run(run, collection),
    )
