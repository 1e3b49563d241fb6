"""Encode or index a collection with a whole system (BM25, models of this package, SparseEncoders), and evaluate it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from scipy.sparse import csr_matrix

from neural_sparse.config import AUTO
from neural_sparse.corpora.collection import Collection
from neural_sparse.errors import InputError, refuse_one_string
from neural_sparse.evaluation.cost import QUERIES, Stopwatch, measure_cost
from neural_sparse.evaluation.evaluate import evaluate_retriever
from neural_sparse.evaluation.evaluation import Evaluation, Vectors, explain_run
from neural_sparse.evaluation.measures import DEFAULT_MEASURES
from neural_sparse.search import BM25Index, SparseIndex, SparseRetriever
from neural_sparse.search.passages import PassageRetriever
from neural_sparse.text.passages import check_passages, passages_of
from neural_sparse.text.ragged import Indices, offsets_of

if TYPE_CHECKING:
    from sentence_transformers import SparseEncoder

    from neural_sparse.search import BM25Index, Retriever

ENGLISH_WORDS = "stemmer: english, stop words: english_plus"  # BM25's, as `Words.said` has it


class PlainEncoder:
    """Documents through `encode_document`, queries through `encode_query`, both as csr_matrix float32."""

    def __init__(self, model: SparseEncoder, batch_size: int = 32) -> None:
        self.model = model
        self.batch_size = batch_size

    @property
    def tokenizer(self) -> Any:
        return self.model.tokenizer

    @property
    def vocab_size(self) -> int:
        return int(self.model.get_embedding_dimension() or len(self.tokenizer))

    def encode_documents(self, texts: Sequence[str], *, show_progress: bool = False) -> csr_matrix:
        return self._encode(self.model.encode_document, texts, show_progress)

    def encode_queries(self, texts: Sequence[str]) -> csr_matrix:
        return self._encode(self.model.encode_query, texts, False)

    def _encode(self, encode: Any, texts: Sequence[str], show_progress: bool) -> csr_matrix:
        refuse_one_string(texts)
        if not texts:
            return csr_matrix(np.zeros((0, self.vocab_size), dtype=np.float32))
        vectors = encode(
            list(texts),
            batch_size=self.batch_size,
            show_progress_bar=show_progress,
            convert_to_sparse_tensor=True,
            save_to_cpu=True,
        ).coalesce()
        places = vectors.indices().numpy()
        weights = vectors.values().float().numpy()
        shape = (len(texts), int(vectors.shape[1]))
        matrix = csr_matrix((weights, (places[0], places[1])), shape=shape)
        matrix.eliminate_zeros()
        matrix.sort_indices()
        return matrix


class Encoder(Protocol):
    """What evaluation needs of a model; `PlainEncoder` gives it to any SparseEncoder."""

    def encode_documents(self, texts: Sequence[str], *, show_progress: bool = False) -> csr_matrix: ...

    def encode_queries(self, texts: Sequence[str]) -> csr_matrix: ...


@runtime_checkable
class AsksModel(Protocol):
    """One that says what its queries take beside a lookup."""

    def query_inference(self, texts: Sequence[str]) -> dict[str, Any]: ...


def evaluate_encoder(
    model: Encoder | SparseEncoder,
    collection: Collection,
    k: int = 1000,
    measures: Sequence[str] = DEFAULT_MEASURES,
    *,
    name: str = "model",
    doc_vectors: csr_matrix | None = None,
    passages: int | None = None,
    recall: float | None = None,
    show_progress: bool = True,
    latency_queries: int = QUERIES,
    stopwatch: Stopwatch | None = None,
    ignore_identical_ids: bool | None = None,
) -> Evaluation:
    """Encode the collection, index it, retrieve, and score relevance, cost and speed.

    Args:
        doc_vectors: [documents, vocabulary], where the documents are encoded already.
        passages: tokens of the passages that documents are split into; each document then scores as its best one.
        recall: searched approximately (`SparseRetriever`), measured on the collection's queries; None: exactly.
        latency_queries, stopwatch, ignore_identical_ids: as `evaluate_retriever`.

    Raises:
        InputError: as `evaluate_retriever`; passages and a recall.
    """
    encoder: Encoder = model if hasattr(model, "encode_documents") else PlainEncoder(model)  # type: ignore
    if passages is not None:
        if recall is not None:
            raise InputError("documents in passages are searched exactly: leave passages or recall out")
        if doc_vectors is not None:
            raise InputError(
                "documents that are encoded already cannot be split: leave passages or doc_vectors out"
            )
        check_passages(passages, getattr(encoder, "max_length", None) or passages)
    texts, counts = collection.texts, None
    if passages is not None:
        texts, counts = passages_of(texts, encoder.tokenizer, passages)  # type: ignore[attr-defined]
    speed: dict[str, float] = {}
    if doc_vectors is None:
        start = time.perf_counter()
        doc_vectors = encoder.encode_documents(texts, show_progress=show_progress)
        speed["documents_per_second"] = len(collection.texts) / max(time.perf_counter() - start, 1e-9)
    retriever: SparseRetriever | PassageRetriever
    if counts is None:
        retriever = SparseRetriever(
            SparseIndex.build(doc_vectors, collection.doc_ids),
            encoder.encode_queries,
            recall=recall,
            sample=list(collection.queries.values()) if recall is not None else (),
        )
    else:
        retriever = PassageRetriever.of(doc_vectors, collection.doc_ids, counts, encoder.encode_queries)
    result = _evaluate_vectors(
        retriever,
        collection,
        query_vectors=encoder.encode_queries(list(collection.queries.values())),
        doc_vectors=doc_vectors,
        vocabulary=vocabulary_of(encoder),
        index_bytes=retriever.index.nbytes,
        k=k,
        measures=measures,
        name=name,
        latency_queries=latency_queries,
        stopwatch=stopwatch,
        ignore_identical_ids=ignore_identical_ids,
        counts=counts,
    )
    result.details |= speed
    if isinstance(encoder, AsksModel):
        result.details["query_inference"] = encoder.query_inference(list(collection.queries.values()))
    if passages is not None:
        result.details["passages"] = passages
    return result


def evaluate_bm25(
    collection: Collection,
    k: int = 1000,
    measures: Sequence[str] = DEFAULT_MEASURES,
    *,
    index: BM25Index | None = None,
    language: str = AUTO,
    name: str = "BM25",
    latency_queries: int = QUERIES,
    stopwatch: Stopwatch | None = None,
    ignore_identical_ids: bool | None = None,
) -> Evaluation:
    """BM25 on a collection, with k1 .9, b .4.

    Args:
        index: instead of one that is built here.
        language: of its words, see `BM25Index.build`; told from the documents if "auto".

    Raises:
        InputError: as `evaluate_retriever`.
    """
    if index is None:
        index = BM25Index.build(collection.texts, collection.doc_ids, language=language)
    result = _evaluate_vectors(
        index,
        collection,
        query_vectors=index.encode_queries(list(collection.queries.values())),
        doc_vectors=index.document_weights(),
        vocabulary=list(index.words.vocabulary),
        index_bytes=index.index.nbytes,
        k=k,
        measures=measures,
        name=name,
        latency_queries=latency_queries,
        stopwatch=stopwatch,
        ignore_identical_ids=ignore_identical_ids,
    )
    result.details["words"] = index.words.said
    return result


def evaluate_model(
    model: Encoder | SparseEncoder,
    corpus: Mapping[str, str | Mapping[str, str]],
    queries: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, int]],
    k: int = 1000,
    measures: Sequence[str] = DEFAULT_MEASURES,
    *,
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
    return evaluate_encoder(model, collection, k, measures, show_progress=show_progress).summary()


def vocabulary_of(model: Any) -> list[str] | None:
    """Token of each dimension, where the model has a tokenizer; padding dimensions by their number."""
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        return None
    known = len(tokenizer)
    size = int(getattr(model, "vocab_size", known))
    tokens = tokenizer.convert_ids_to_tokens(list(range(min(known, size))))
    return [str(token) for token in tokens] + [f"[{number}]" for number in range(known, size)]


def _evaluate_vectors(
    retriever: Retriever,
    collection: Collection,
    query_vectors: csr_matrix,
    doc_vectors: csr_matrix,
    vocabulary: Sequence[str] | None,
    index_bytes: int,
    *,
    k: int,
    measures: Sequence[str],
    name: str,
    latency_queries: int,
    stopwatch: Stopwatch | None,
    ignore_identical_ids: bool | None,
    counts: Indices | None = None,
) -> Evaluation:
    """
    Args:
        counts: passages of each document, where `doc_vectors` holds those.
    """
    result = evaluate_retriever(
        retriever,
        collection,
        k,
        measures,
        name=name,
        cost=measure_cost(
            query_vectors, doc_vectors, vocabulary, index_bytes, documents=len(collection.doc_ids)
        ),
        latency_queries=latency_queries,
        stopwatch=stopwatch,
        ignore_identical_ids=ignore_identical_ids,
    )
    first = None if counts is None else offsets_of(counts)
    vectors = Vectors(query_vectors, doc_vectors, vocabulary, first)
    result.explanations = explain_run(result.run, collection, vectors)
    return result
