"""Candidates and what they reach: BM25 of two kinds, what needs no training, the trained model, teachers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp

from neural_sparse.adapt.limits import QueryCost
from neural_sparse.config import TeacherConfig
from neural_sparse.corpora.collection import Collection
from neural_sparse.evaluation.cost import Stopwatch, measure_cost
from neural_sparse.evaluation.evaluate import evaluate_retriever
from neural_sparse.evaluation.evaluation import Evaluation
from neural_sparse.evaluation.systems import evaluate_bm25
from neural_sparse.io.files import replacing_folder
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.model.pruning import Pruning
from neural_sparse.search import BM25Index, DenseRetriever, SparseIndex, SparseRetriever
from neural_sparse.search.passages import PassageRetriever
from neural_sparse.search.with_bm25 import WithBM25, beside
from neural_sparse.teachers.bi_encoder import PreparedVectors
from neural_sparse.text.ragged import Indices
from neural_sparse.text.tokens import encode_queries, tokenize

MEASURES = ("nDCG@10", "RR@10", "R@100")
DEPTH = 100
STRENGTHS = (1.0, 2.0, 4.0, 8.0)  # of own words
# Within .7 points of the best on people's queries of four collections, where 1 loses up to 2.7 (docs/adapt.md), so that
# another must be better by more than chance.
USUAL_STRENGTH = 4.0
CHANCE = 2.0  # standard errors
RATIOS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of a document's heaviest term
# Of BM25's score beside that of a model without own words, which is pruned to a third of BM25's FLOPS (docs/adapt.md).
BM25_WEIGHT = 8.0
STOPWORD_BM25, PIECE_BM25 = "BM25", "BM25 over word pieces"
SAMPLES = 400  # times of each candidate
TIMED = 15.0  # seconds of timing all candidates in turn


@dataclass
class Candidate:
    """A system that is judged.

    Attributes:
        kind: as of `verdict.Standing`.
        settings: what it is made of, for the page and the export: own_words, max_ratio, passages, bm25_weight.
    """

    name: str
    kind: str
    evaluation: Evaluation
    settings: dict[str, Any] = field(default_factory=dict)


def usual_bm25(texts: Sequence[str], doc_ids: Sequence[str], language: str) -> BM25Index:
    """BM25 as search engines have it for a language; of English, Lucene's 33 stop words."""
    if language == "english":
        return BM25Index.build(texts, doc_ids, stopwords="english")
    return BM25Index.build(texts, doc_ids, language=language)


class PieceBM25(BM25Index):
    """BM25 over the word pieces of a model's tokenizer: no stemmer, no stop words, any language it reads."""

    tokenizer: Any

    @classmethod
    def over(cls, texts: Sequence[str], doc_ids: Sequence[str], tokenizer: Any) -> PieceBM25:
        made = cls.build(_pieces(texts, tokenizer), doc_ids, stemmer=None, stopwords=None, pattern=r"\S+")
        assert isinstance(made, cls)
        made.tokenizer = tokenizer
        return made

    def encode_queries(self, texts: Sequence[str]) -> sp.csr_matrix:
        return super().encode_queries(_pieces(texts, self.tokenizer))


def _pieces(texts: Sequence[str], tokenizer: Any) -> list[str]:
    tokens = tokenize(texts, tokenizer)
    names = tokens.ids.astype(str)
    return [
        " ".join(names[start:end]) for start, end in zip(tokens.offsets, tokens.offsets[1:], strict=False)
    ]


@dataclass(frozen=True)
class QuerySide:
    """Queries by a tokenizer and a table of weights: what evaluation needs of a model whose documents are encoded.

    Attributes:
        count_repeats: a token weighs as often as it is there, as in BM25; the client then sends `query_tokens`.
    """

    tokenizer: Any
    weights: np.ndarray
    count_repeats: bool = True

    @classmethod
    def of(cls, model: NeuralSparseEncoder) -> QuerySide:
        weights = model.query_weights.detach().float().cpu().numpy().copy()
        return cls(model.tokenizer, weights)

    def encode_queries(self, texts: Sequence[str]) -> sp.csr_matrix:
        return encode_queries(texts, self.tokenizer, self.weights, self.count_repeats)


def own_word_vectors(model: NeuralSparseEncoder, texts: Sequence[str]) -> sp.csr_matrix:
    """What the model's own words add to each document, csr float32 [documents, vocabulary]; no network is run."""
    words = model.own_words
    assert words is not None
    tokens = tokenize(texts, model.tokenizer, model.max_length, special_tokens=True)
    counts = words.counts(tokens.ids, tokens.offsets)
    value = (
        words.strength.cpu()[counts.tokens] * words.cpu().saturated(counts.count, counts.length)
    ).detach()
    places = (counts.documents.numpy(), counts.tokens.numpy())
    found = sp.csr_matrix((value.numpy(), places), shape=(len(texts), model.vocab_size), dtype=np.float32)
    found.eliminate_zeros()
    found.sort_indices()
    return found


class EncodesQueries(Protocol):
    def encode_queries(self, texts: Sequence[str]) -> sp.csr_matrix: ...


@dataclass
class Judge:
    """Evaluates candidates on one collection, each once: what is in the folder is not judged again.

    Attributes:
        collection: with the queries that choose and those that judge.
        chosen_by: ids of the former.
        folder: where evaluations are kept.
        indexed: what a query of a candidate is and what it is compared with: vectors of documents, or of passages.
        language: of BM25's words.
    """

    collection: Collection
    chosen_by: frozenset[str]
    folder: Path
    stopwatch: Stopwatch = field(default_factory=lambda: Stopwatch(samples=SAMPLES, seconds=TIMED))
    found: list[Candidate] = field(default_factory=list)
    sides: dict[str, tuple[QuerySide, sp.csr_matrix]] = field(default_factory=dict)
    indexed: dict[str, tuple[EncodesQueries, sp.csr_matrix]] = field(default_factory=dict)
    language: str = "english"

    def bm25(self, tokenizer: Any) -> None:
        """Lucene's analysis of the documents' language (English: 33 stop words, stemmer), and BM25 over word pieces."""
        texts, ids = self.collection.texts, self.collection.doc_ids
        for name, build in (
            (STOPWORD_BM25, lambda: self.usual_bm25),
            (PIECE_BM25, lambda: PieceBM25.over(texts, ids, tokenizer)),
        ):
            index = build()
            self.indexed[name] = index, index.document_weights()

            def judged(name: str = name, index: BM25Index = index) -> Evaluation:
                return evaluate_bm25(
                    self.collection, DEPTH, MEASURES, index=index, name=name, latency_queries=0
                )

            self._add(name, "bm25", judged, index)

    def vectors(
        self,
        name: str,
        kind: str,
        queries: QuerySide,
        documents: sp.csr_matrix,
        **settings: Any,
    ) -> Candidate:
        """A model whose documents' vectors are known."""
        self.sides[name] = queries, documents
        return self._indexed(name, kind, queries, documents, settings=settings)

    def with_bm25(
        self, name: str, kind: str, queries: QuerySide, documents: sp.csr_matrix, **settings: Any
    ) -> Candidate:
        """A model's score and BM25's added up, of documents whose vectors are known."""
        both = self.beside_bm25(queries)
        settings = {"bm25_weight": BM25_WEIGHT, **settings}
        return self._indexed(name, kind, both, both.documents(documents), settings=settings)

    def beside_bm25(self, queries: QuerySide) -> WithBM25:
        return WithBM25(queries.encode_queries, self.usual_bm25, BM25_WEIGHT)

    @cached_property
    def usual_bm25(self) -> BM25Index:
        return usual_bm25(self.collection.texts, self.collection.doc_ids, self.language)

    def passages(
        self,
        name: str,
        kind: str,
        queries: QuerySide,
        passages: tuple[sp.csr_matrix, Indices],
        **settings: Any,
    ) -> Candidate:
        """A model whose documents are found by their passages; FLOPS are those of all passages of a document."""
        settings = {"passages": True, **settings}
        return self._indexed(name, kind, queries, passages[0], settings=settings, counts=passages[1])

    def _indexed(
        self,
        name: str,
        kind: str,
        queries: EncodesQueries,
        vectors: sp.csr_matrix,
        *,
        settings: dict[str, Any],
        counts: Indices | None = None,
    ) -> Candidate:
        """
        Args:
            counts: passages of each document, where `vectors` are of those.
        """
        self.indexed[name] = queries, vectors
        ids = self.collection.doc_ids
        retriever: SparseRetriever | PassageRetriever
        if counts is None:
            retriever = SparseRetriever(SparseIndex.build(vectors, ids), queries.encode_queries)
        else:
            retriever = PassageRetriever.of(vectors, ids, counts, queries.encode_queries)

        def judged() -> Evaluation:
            asked = queries.encode_queries(list(self.collection.queries.values()))
            cost = measure_cost(asked, vectors, None, retriever.index.nbytes, documents=len(ids))
            return evaluate_retriever(
                retriever, self.collection, DEPTH, MEASURES, name=name, cost=cost, latency_queries=0
            )

        return self._add(name, kind, judged, retriever, settings=settings)

    def teacher(self, config: TeacherConfig, prepared: PreparedVectors) -> None:
        """An encoding teacher as a retriever; not timed, for its queries go through a model."""
        name = f"{config.kind} teacher"

        def judged() -> Evaluation:
            asked, dense = prepared.query_vectors(), prepared.dense_documents()
            texts = list(self.collection.queries.values())
            row_of = {text: row for row, text in enumerate(texts)}

            def known(wanted: Sequence[str]) -> Any:
                return asked[[row_of[text] for text in wanted]]

            ids = self.collection.doc_ids
            if dense is not None:
                retriever: Any = DenseRetriever(
                    dense, ids, lambda texts: np.asarray(known(texts), np.float32)
                )
                cost = None
            else:
                documents = prepared.document_vectors()
                index = SparseIndex.build(documents, ids)  # type: ignore[arg-type]
                retriever = SparseRetriever(index, known)
                cost = measure_cost(asked, documents, None, index.nbytes)  # type: ignore[arg-type]
            return evaluate_retriever(
                retriever, self.collection, DEPTH, MEASURES, name=name, cost=cost, latency_queries=0
            )

        self._add(name, "teacher", judged)

    def _add(
        self,
        name: str,
        kind: str,
        judged: Callable[[], Evaluation],
        retriever: Any = None,
        settings: dict[str, Any] | None = None,
    ) -> Candidate:
        folder = self.folder / name.replace(" ", "-").replace(",", "")
        if (folder / "metrics.json").is_file():
            evaluation = Evaluation.load(folder)
        else:
            evaluation = judged()
            with replacing_folder(folder) as work:
                evaluation.save(work)
        candidate = Candidate(name, kind, evaluation, settings or {})
        self.found.append(candidate)
        if retriever is not None:
            texts = [
                self.collection.queries[key]
                for key in self.collection.queries
                if key in self.collection.qrels
            ]

            def timed(latency: Any) -> None:
                evaluation.latency = latency

            self.stopwatch.add(retriever, texts, min(10, len(self.collection.doc_ids)), timed)
        return candidate

    def chosen_value(self, evaluation: Evaluation) -> float:
        """nDCG@10 on the queries that choose."""
        return mean_of(evaluation.per_query[MEASURES[0]], self.chosen_by)

    def quick(self, queries: QuerySide, documents: sp.csr_matrix) -> dict[str, float]:
        """nDCG@10 of each query that chooses, of vectors that are tried out."""
        return self._values(queries, documents, self.chosen_by)

    def counted_once(self, name: str) -> tuple[float, float] | None:
        """nDCG@10 of a candidate on the judging queries: as judged, and with a repeated token of a query counting once.

        None where no query repeats a token, or for what is no pair of vectors.
        """
        if name not in self.sides:
            return None
        queries, documents = self.sides[name]
        keys = frozenset(self.collection.queries) - self.chosen_by
        texts = [self.collection.queries[key] for key in keys]
        once = replace(queries, count_repeats=False)
        if not texts or not (once.encode_queries(texts) - queries.encode_queries(texts)).count_nonzero():
            return None
        counted, single = (mean_of(self._values(side, documents, keys), keys) for side in (queries, once))
        return counted, single

    def _values(self, queries: QuerySide, documents: sp.csr_matrix, keys: frozenset[str]) -> dict[str, float]:
        chosen = {key: text for key, text in self.collection.queries.items() if key in keys}
        if not chosen:
            return {}
        part = Collection(
            self.collection.name,
            self.collection.doc_ids,
            texts=self.collection.texts,
            queries=chosen,
            qrels={key: self.collection.qrels[key] for key in chosen},
        )
        index = SparseIndex.build(documents, part.doc_ids)
        found = evaluate_retriever(
            SparseRetriever(index, queries.encode_queries), part, 10, MEASURES[:1], latency_queries=0
        )
        return found.per_query[MEASURES[0]]


def mean_of(values: dict[str, float], keys: frozenset[str]) -> float:
    found = [value for key, value in values.items() if key in keys]
    return float(np.mean(found)) if found else 0.0


def best_strength(values: Mapping[float, Mapping[str, float]]) -> float:
    """The strength of own words to take: the usual one, unless another is better by more than chance.

    Args:
        values: strength -> query that chooses -> nDCG@10.
    """
    usual = np.array(list(values[USUAL_STRENGTH].values()))
    best, lead = USUAL_STRENGTH, 0.0
    for strength, found in values.items():
        gains = np.array(list(found.values())) - usual
        if len(gains) < 2 or strength == USUAL_STRENGTH:
            continue
        error = float(gains.std(ddof=1)) / len(gains) ** 0.5
        if gains.mean() > max(lead, CHANCE * error):
            best, lead = strength, float(gains.mean())
    return best


def pruning_within(
    limit: float,
    cost: QueryCost,
    queries: sp.csr_matrix,
    documents: sp.csr_matrix,
    unpruned: sp.csr_matrix | None = None,
) -> float:
    """The smallest share of a document's heaviest term at which the cost is within a limit; 0: nothing is to be pruned.

    Args:
        queries: csr [queries, columns] of the training part, so that none that judges is looked at.
        documents: csr [documents, vocabulary] that may be pruned; unpruned: columns behind them that stay as they are.
    """
    for ratio in (0.0, *RATIOS):
        pruned = Pruning(ratio)(documents)
        if cost.of(queries, pruned if unpruned is None else beside(pruned, unpruned)) <= limit:
            return ratio
    return RATIOS[-1]
