"""Score a retriever, or a run made elsewhere, on a collection."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from neural_sparse.data.collection import Collection
from neural_sparse.errors import InputError
from neural_sparse.evaluation.contributions import explain_run
from neural_sparse.evaluation.cost import Cost
from neural_sparse.evaluation.evaluation import Evaluation
from neural_sparse.evaluation.latency import QUERIES, Stopwatch, measure_latency
from neural_sparse.evaluation.measures import DEFAULT_MEASURES, Run, deeper_than, evaluate_run
from neural_sparse.evaluation.own_documents import queries_are_documents, without_identical_ids
from neural_sparse.evaluation.runs import run_from_hits, unknown_documents

if TYPE_CHECKING:
    from neural_sparse.search import Retriever

logger = logging.getLogger(__name__)

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
    result = _evaluation(
        name or type(retriever).__name__,
        collection,
        run,
        measures,
        cost=cost,
        details={"k": k, "ignore_identical_ids": ignore_identical_ids, "documents": len(held)},
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
        scores.means,
        scores.per_query,
        run,
        cost,
        hole_rate=hole_rate,
        details=details,
        explanations=explain_run(run, collection),
    )
