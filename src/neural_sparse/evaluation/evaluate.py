"""Evaluate a retriever, an encoder or a run on a collection."""

from __future__ import annotations

import logging
import re
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from scipy.sparse import csr_matrix

from neural_sparse.data.collection import Collection
from neural_sparse.errors import InputError
from neural_sparse.evaluation.cost import Cost, measure_cost
from neural_sparse.evaluation.evaluation import Evaluation
from neural_sparse.evaluation.latency import Latency, measure_latency
from neural_sparse.evaluation.measures import DEFAULT_MEASURES, Run, evaluate_run
from neural_sparse.evaluation.runs import run_from_hits, unknown_documents

if TYPE_CHECKING:
    from neural_sparse.search import Retriever

logger = logging.getLogger(__name__)

_WORD = re.compile(r"\w+")
_BATCH = 256


class Encoder(Protocol):
    """What `evaluate_model` needs of a model; `NeuralSparseEncoder` has it."""

    def encode_documents(
        self, texts: Sequence[str], *, batch_size: int, show_progress: bool
    ) -> csr_matrix: ...

    def encode_queries(self, texts: Sequence[str]) -> csr_matrix: ...


def evaluate_retriever(
    retriever: Retriever,
    collection: Collection,
    k: int = 1000,
    measures: Sequence[str] = DEFAULT_MEASURES,
    *,
    name: str | None = None,
    cost: Cost | None = None,
    latency_queries: int = 200,
    latency_k: int = 10,
    ignore_identical_ids: bool | None = None,
) -> Evaluation:
    """Retrieve the top k for every judged query, score the run, and time up to `latency_queries` searches.

    Args:
        ignore_identical_ids: leave out a document whose id is the query's, as BEIR does. None does so only
            where `queries_are_documents` finds that the queries were taken from the corpus, as in ArguAna:
            in other collections equal ids are chance.

    Raises:
        InputError: k below 1, a retriever over other documents, or what `evaluate_run` refuses.
    """
    if k < 1:
        raise InputError(f"k is {k}: retrieve at least one document")
    if ignore_identical_ids is None:
        ignore_identical_ids = queries_are_documents(collection)
    held = set(retriever.doc_ids)
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
        run = without_identical_ids(run, k)
    return _evaluation(
        name or type(retriever).__name__,
        collection,
        run,
        measures,
        cost=cost,
        latency=measure_latency(retriever, texts, k=min(latency_k, len(held)), most=latency_queries),
        details={"k": k, "ignore_identical_ids": ignore_identical_ids, "documents": len(held)},
    )


def evaluate_encoder(
    model: Encoder,
    collection: Collection,
    k: int = 1000,
    measures: Sequence[str] = DEFAULT_MEASURES,
    *,
    name: str = "model",
    batch_size: int = 32,
    show_progress: bool = True,
    doc_vectors: csr_matrix | None = None,
    latency_queries: int = 200,
    ignore_identical_ids: bool | None = None,
) -> Evaluation:
    """Encode the collection, index it, retrieve, and score relevance, cost and speed.

    Args:
        doc_vectors: [documents, vocabulary], where the documents are encoded already.

    Raises:
        InputError: as `evaluate_retriever`.
    """
    from neural_sparse.search import SparseIndex, SparseRetriever

    speed: dict[str, float] = {}
    if doc_vectors is None:
        start = time.perf_counter()
        doc_vectors = model.encode_documents(
            collection.texts, batch_size=batch_size, show_progress=show_progress
        )
        speed["documents_per_second"] = len(collection.texts) / max(time.perf_counter() - start, 1e-9)
    query_vectors = model.encode_queries(list(collection.queries.values()))
    index = SparseIndex.build(doc_vectors, collection.doc_ids)
    result = evaluate_retriever(
        SparseRetriever(index, model.encode_queries),
        collection,
        k,
        measures,
        name=name,
        cost=measure_cost(query_vectors, doc_vectors, vocabulary_of(model), index.nbytes),
        latency_queries=latency_queries,
        ignore_identical_ids=ignore_identical_ids,
    )
    result.details |= speed
    return result


def evaluate_model(
    model: Encoder,
    corpus: Mapping[str, str | Mapping[str, str]],
    queries: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, int]],
    k: int = 1000,
    measures: Sequence[str] = DEFAULT_MEASURES,
    *,
    batch_size: int = 32,
    show_progress: bool = True,
) -> dict[str, float]:
    """Figures of a sparse encoder on a collection held in dicts, as BEIR's loader gives them.

    Args:
        corpus: document id -> text, or -> {"title", "text"} (joined by a space).
        queries: query id -> text.
        qrels: query id -> document id -> grade.

    Returns:
        The measures, FLOPS, L1 (mean norm of a document), doc_terms, query_terms, saturation, index_bytes,
        latencies and speeds: see `Evaluation.summary`.

    Raises:
        InputError: an empty corpus, or nothing judged that both queries and corpus hold.
    """
    collection = Collection.of(corpus, queries, qrels)
    return evaluate_encoder(
        model, collection, k, measures, batch_size=batch_size, show_progress=show_progress
    ).summary()


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
    if ignore_identical_ids is None:
        ignore_identical_ids = queries_are_documents(collection)
    if ignore_identical_ids:
        run = without_identical_ids(run)
    details = {"unknown_documents": unknown, "ignore_identical_ids": ignore_identical_ids}
    return _evaluation(name, collection, run, measures, details=details)


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


def vocabulary_of(model: Any) -> list[str] | None:
    """Token of each dimension, where the model has a tokenizer."""
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        return None
    size = getattr(model, "vocab_size", len(tokenizer))
    return [str(token) for token in tokenizer.convert_ids_to_tokens(list(range(size)))]


def _evaluation(
    name: str,
    collection: Collection,
    run: Run,
    measures: Sequence[str],
    *,
    details: dict[str, Any],
    cost: Cost | None = None,
    latency: Latency | None = None,
) -> Evaluation:
    scores = evaluate_run(run, collection.qrels, measures)
    details |= {
        "judged_queries": scores.judged_queries,
        "unanswered_queries": scores.unanswered,
        "queries_without_relevant": scores.without_relevant,
    }
    hole_rate = None if np.isnan(scores.hole_rate) else scores.hole_rate
    return Evaluation(
        name, collection.name, scores.means, scores.per_query, run, cost, latency, hole_rate, details
    )
