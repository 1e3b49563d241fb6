"""How good teachers are before they teach: nDCG@10 of re-ranking candidates on a development collection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neural_sparse.config import AUTO
from neural_sparse.corpora.collection import Collection
from neural_sparse.errors import InputError
from neural_sparse.evaluation.significance import randomisation_test
from neural_sparse.search import BM25Index, DenseRetriever, Hits, SparseIndex
from neural_sparse.search.doc_ids import DocumentIds
from neural_sparse.teachers.bi_encoder import PreparedVectors
from neural_sparse.teachers.cache import TeacherCache
from neural_sparse.teachers.mixture import Mixture, Values, choose_weights, halves, ideal_dcg, ndcg
from neural_sparse.teachers.teacher import PreparedTeacher, Teacher
from neural_sparse.teachers.token_batches import warn_if_truncated


def merged(found: Sequence[NDArray[np.integer]]) -> NDArray[np.int64]:
    """Every retriever's documents, once each, in the order of their rows; -1 in front.

    By row, so that equal scores do not inherit the order of the first stage.
    """
    rows = np.sort(np.concatenate(found, axis=1), axis=1)
    rows[:, 1:][rows[:, 1:] == rows[:, :-1]] = -1
    rows = np.sort(rows, axis=1)
    return rows[:, (rows >= 0).any(0)]


def best_documents(prepared: PreparedVectors, depth: int, queries: int | None = None) -> Hits:
    """The `depth` documents that a teacher with vectors scores best.

    Args:
        queries: look at so many of the first only.
    """
    asked, dense = prepared.query_vectors()[:queries], prepared.dense_documents()
    if dense is not None:
        return DenseRetriever(dense, DocumentIds.numbers(len(dense))).search(np.asarray(asked), depth)
    documents = prepared.document_vectors()
    ids = DocumentIds.numbers(documents.shape[0])
    return SparseIndex.build(documents, ids).search(asked, depth)  # type: ignore[arg-type]


def score_matrix(prepared: PreparedTeacher, candidates: NDArray[np.int64]) -> NDArray[np.float32]:
    """A teacher's scores [queries, candidates], NaN where it does not know them."""
    result = np.full(candidates.shape, np.nan, np.float32)
    for first in range(0, len(candidates), 32):
        rows = np.arange(first, min(first + 32, len(candidates)))
        here = candidates[rows]
        documents = np.unique(here[here >= 0])
        if not len(documents):
            continue
        at = np.searchsorted(documents, np.maximum(here, documents[0]))
        own = np.zeros((len(rows), len(documents)), np.bool_)
        np.put_along_axis(own, at, True, 1)
        scores, known = prepared.scores(rows, documents, own)
        if np.isnan(scores[known]).any():
            raise InputError(f"teacher {prepared.name} gave a score that is not a number")
        values = np.where(known, scores, np.float32(np.nan))
        result[rows] = np.where(here >= 0, np.take_along_axis(values, at, 1), np.float32(np.nan))
    if np.isnan(result).all():
        raise InputError(f"teacher {prepared.name} knows none of the candidates of this collection")
    return result


_FEW_QUERIES = 50


@dataclass(frozen=True)
class Standing:
    """What one way of ordering the candidates reaches.

    Attributes:
        name: of the teacher or ensemble.
        all_queries, held_back: mean nDCG@10; over all is None where the weights were chosen on some of them.
        weight: in the ensemble as given; None for what is no teacher.
        truncated: share of documents the teacher's tokenizer cuts; None without one.
    """

    name: str
    all_queries: float | None
    held_back: float
    weight: float | None = None
    truncated: float | None = None


@dataclass(frozen=True)
class TeacherQuality:
    """The report.

    Attributes:
        collection, candidates: what was re-ranked.
        queries, held_back_queries: how many were judged, and how many of them the weights were not chosen on.
        recall: mean share of the relevant documents that are among the candidates.
        first_stage, perfect: the candidates in BM25's order, and in the best order there is.
        teachers: each alone.
        ensemble: at the weights given.
        best: at the weights chosen on the other half of the queries.
        best_weights: those weights, one per teacher, of sum 1.
        p_value: of the difference between the ensemble as given and its best member (all queries).
        warnings: what to change before training.
    """

    collection: str
    candidates: str
    queries: int
    held_back_queries: int
    recall: float
    first_stage: Standing
    perfect: Standing
    teachers: tuple[Standing, ...]
    ensemble: Standing
    best: Standing
    best_weights: tuple[float, ...]
    p_value: float
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge_teachers(
    teachers: Sequence[Teacher],
    weights: Sequence[float],
    collection: Collection,
    cache: TeacherCache,
    depth: int = 100,
    union: bool = False,
    language: str = AUTO,
) -> TeacherQuality:
    """Judge teachers and their ensemble by re-ranking.

    The candidates are what a first stage finds. Judged documents it misses are not added: among candidates
    made of relevant documents any teacher looks good, and no teacher meets them so in training. Ideal
    rankings still count them, so `perfect` is below 1 where the first stage misses some.

    Args:
        teachers, weights: the ensemble.
        collection: judged queries; the whole collection is encoded.
        cache: of the teachers' vectors, shared with training.
        depth: candidates per query of each retriever.
        union: candidates of BM25 and of every teacher that can search, not of BM25 alone; fairer to teachers
            that find what shares no word with the query.
        language: of BM25's words, see `BM25Index.build`.

    Raises:
        InputError: no teacher, weights that do not fit, no judged query with a relevant document, a teacher
            that knows none of the candidates or gave a score that is not a number.
    """
    if not teachers or len(weights) != len(teachers) or min(weights) < 0 or sum(weights) <= 0:
        raise InputError(
            f"{len(teachers)} teachers with weights {list(weights)}: give each a weight, not all 0"
        )
    query_ids = [
        query_id
        for query_id, grades in collection.qrels.items()
        if any(grade > 0 for grade in grades.values())
    ]
    if len(query_ids) < 2:
        raise InputError(
            f"{collection.name}: fewer than two queries have a relevant document to judge teachers by"
        )
    queries = [collection.queries[query_id] for query_id in query_ids]
    row_of = {doc_id: row for row, doc_id in enumerate(collection.doc_ids)}
    grades = [
        {row_of[doc_id]: grade for doc_id, grade in collection.qrels[query_id].items() if grade > 0}
        for query_id in query_ids
    ]

    index = BM25Index.build(collection.texts, collection.doc_ids, language=language)
    depth = min(depth, len(collection.texts))
    first_stage = index.search_texts(queries, depth).docs.astype(np.int64)
    in_batch = {
        number: teacher.prepare(queries, collection.texts, None, cache)
        for number, teacher in enumerate(teachers)
        if teacher.in_batch
    }
    found: list[NDArray[np.integer]] = [first_stage]
    if union:
        found += [
            best_documents(prepared, depth).docs
            for prepared in in_batch.values()
            if isinstance(prepared, PreparedVectors)
        ]
    candidates = merged(found)
    pairs = np.argwhere(candidates >= 0)
    pairs[:, 1] = candidates[candidates >= 0]
    scores = []
    for number, teacher in enumerate(teachers):
        prepared = in_batch.get(number) or teacher.prepare(queries, collection.texts, pairs, cache)
        scores.append(score_matrix(prepared, candidates))

    gains = np.array(
        [
            [known.get(row, 0) for row in rows]
            for known, rows in zip(grades, candidates.tolist(), strict=True)
        ],
        dtype=np.float64,
    ).reshape(candidates.shape)
    ideal = np.array([ideal_dcg(list(known.values())) for known in grades])
    # BM25's own order as a score; its depth is that of its candidates alone.
    place = np.full(candidates.shape, np.nan, np.float32)
    for query, rows in enumerate(first_stage):
        rank = {row: -number for number, row in enumerate(rows.tolist()) if row >= 0}
        place[query] = [rank.get(row, np.nan) for row in candidates[query].tolist()]

    held_back = halves(query_ids)
    mixture = Mixture(scores)

    def measured(values: NDArray[np.float32]) -> Values:
        return ndcg(values, gains, ideal)

    def standing(name: str, values: Values, **more: float | None) -> Standing:
        return Standing(name, float(values.mean()), float(values[held_back].mean()), **more)

    alone = [measured(one) for one in scores]
    given = measured(mixture.at(weights))
    chosen = choose_weights(
        len(teachers), lambda point: float(measured(mixture.at(point))[~held_back].mean()), start=weights
    )
    best = measured(mixture.at(chosen))
    shares = np.asarray(weights) / sum(weights)
    members = tuple(
        standing(
            teacher.name, values, weight=float(share), truncated=warn_if_truncated(teacher, collection.texts)
        )
        for teacher, values, share in zip(teachers, alone, shares, strict=True)
    )
    leader = int(np.argmax([values.mean() for values in alone]))
    p_value = randomisation_test(given - alone[leader], samples=10_000)
    ensemble = standing("ensemble", given)
    relevant_found = (gains > 0).sum(1) / [len(known) for known in grades]
    report = TeacherQuality(
        collection=collection.name,
        candidates=f"BM25's and the teachers' first {depth}" if union else f"BM25's first {depth}",
        queries=len(query_ids),
        held_back_queries=int(held_back.sum()),
        recall=float(relevant_found.mean()),
        first_stage=standing("BM25's order", measured(place)),
        perfect=standing("perfect order", measured(gains.astype(np.float32))),
        teachers=members,
        ensemble=ensemble,
        best=Standing("ensemble, chosen weights", None, float(best[held_back].mean())),
        best_weights=chosen,
        p_value=p_value,
        warnings=(),
    )
    return _with_warnings(report, members[leader])


def _with_warnings(report: TeacherQuality, leader: Standing) -> TeacherQuality:
    warnings = []
    ensemble, member = report.ensemble.all_queries or 0.0, leader.all_queries or 0.0
    chosen = ", ".join(
        f"{standing.name} {weight:g}"
        for standing, weight in zip(report.teachers, report.best_weights, strict=True)
    )
    if len(report.teachers) > 1 and ensemble < member:
        warnings.append(
            f"the ensemble ({ensemble:.3f}) is worse than its best member, {leader.name} ({member:.3f}; "
            f"p = {report.p_value:.2g}): change the weights (best found: {chosen}) or teach with that one alone"
        )
    elif len(report.teachers) > 1 and report.best.held_back <= report.ensemble.held_back:
        warnings.append(
            f"weights chosen on one half of the queries are no better on the other ({report.best.held_back:.3f}) "
            f"than those given ({report.ensemble.held_back:.3f}): keep these"
        )
    if ensemble < (report.first_stage.all_queries or 0.0):
        warnings.append(
            f"the ensemble orders BM25's candidates worse ({ensemble:.3f}) than BM25 does "
            f"({report.first_stage.all_queries:.3f}): add BM25 to the teachers, or choose others"
        )
    if report.held_back_queries < _FEW_QUERIES:
        warnings.append(
            f"only {report.held_back_queries} queries judge the chosen weights: the figures are rough"
        )
    for standing in report.teachers:
        if standing.truncated is not None and standing.truncated > 0.5:
            warnings.append(f"{standing.name} cuts {standing.truncated:.0%} of the documents at its limit")
    return replace(report, warnings=tuple(warnings))
