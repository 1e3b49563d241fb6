"""The teacher quality report, against ir_measures and plain searches."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from neural_sparse.corpora.collection import Collection
from neural_sparse.errors import InputError
from neural_sparse.evaluation.measures import evaluate_run
from neural_sparse.teachers import BM25Teacher, PrecomputedTeacher, TeacherCache
from neural_sparse.teachers.bi_encoder import PreparedVectors
from neural_sparse.teachers.mixture import Mixture, choose_weights, halves, ideal_dcg, ndcg
from neural_sparse.teachers.quality import best_documents, judge_teachers
from neural_sparse.teachers.rows import StoredVectors


class Made:
    """A teacher whose vectors are given by a function of the text's number."""

    in_batch = True

    def __init__(self, name: str, seed: int, noise: float) -> None:
        self.name, self.seed, self.noise = name, seed, noise

    def prepare(
        self, queries: Sequence[str], documents: Sequence[str], pairs: Any, cache: TeacherCache
    ) -> PreparedVectors:
        rng = np.random.default_rng(self.seed)
        numbers = [int(text.split()[-1]) for text in (*queries, *documents)]
        clean = np.random.default_rng(7).normal(size=(max(numbers) + 1, 16))[numbers]
        vectors = (clean + self.noise * rng.normal(size=clean.shape)).astype(np.float32)
        count = len(queries)
        return PreparedVectors(
            self.name,
            StoredVectors.of(vectors[:count]),
            np.arange(count),
            StoredVectors.of(vectors[count:]),
            np.arange(len(documents)),
        )


def collection(queries: int = 40) -> Collection:
    """Query i's relevant document is the one with number i; words say nothing."""
    corpus = {f"d{i}": f"some words {i}" for i in range(120)}
    return Collection.of(
        corpus,
        {f"q{i}": f"words {i}" for i in range(queries)},
        {f"q{i}": {f"d{i}": 2, f"d{(i + 70) % 120}": 1, "d119": 0} for i in range(queries)},
        "made",
    )


@pytest.mark.parametrize("seed", range(3))
def test_ndcg_is_that_of_ir_measures(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grades = {f"q{q}": {f"d{d}": int(g) for d, g in enumerate(rng.integers(0, 4, 30))} for q in range(9)}
    scores = rng.permutation(9 * 20).reshape(9, 20).astype(np.float32)  # distinct
    scores[rng.random(scores.shape) < 0.5] = np.nan
    scores[0] = np.nan
    run = {
        f"q{q}": {f"d{d}": float(scores[q, d]) for d in range(20) if not np.isnan(scores[q, d])}
        for q in range(9)
    }
    gains = np.array([[grades[f"q{q}"][f"d{d}"] for d in range(20)] for q in range(9)], float)
    ideal = np.array([ideal_dcg(list(grades[f"q{q}"].values())) for q in range(9)])
    expected = evaluate_run(run, grades, ["nDCG@10"]).per_query["nDCG@10"]
    np.testing.assert_allclose(ndcg(scores, gains, ideal), list(expected.values()), rtol=1e-12)


def test_a_mixture_is_the_weighted_mean_of_normalised_scores() -> None:
    first = np.array([[1.0, 3.0, 2.0], [5.0, 5.0, np.nan]], np.float32)
    second = np.array([[10.0, 0.0, np.nan], [np.nan] * 3], np.float32)
    mixed = Mixture([first, second]).at([1, 3])
    np.testing.assert_allclose(mixed, [[0.75, 0.25, 0.5], [0, 0, np.nan]])
    np.testing.assert_allclose(Mixture([first, second]).at([0, 1]), [[1, 0, np.nan], [np.nan] * 3])


def test_chosen_weights_are_the_best_of_the_grid() -> None:
    goal = np.array([0.35, 0.5, 0.15])

    def quality(point: Sequence[float]) -> float:
        return -float(np.abs(np.array(point) - goal).sum())

    assert choose_weights(3, quality, [1, 1, 1]) == (0.35, 0.5, 0.15)
    fine = [
        point for point in itertools.product(np.arange(0, 1.01, 0.05), repeat=3) if abs(sum(point) - 1) < 1e-9
    ]
    assert quality(choose_weights(3, quality, [1, 1, 1])) == pytest.approx(max(map(quality, fine)))
    assert choose_weights(1, lambda point: 0.0, [4]) == (1.0,)
    # Where weights make no difference they stay what they are.
    assert choose_weights(2, lambda point: 1.0, [2, 3]) == (0.4, 0.6)
    many = choose_weights(8, lambda point: point[5], [1] * 8)
    assert many[5] == 1


def test_halves_are_halves_whatever_the_order() -> None:
    ids = [f"q{i}" for i in range(101)]
    held = halves(ids)
    assert held.sum() == 50
    np.testing.assert_array_equal(halves(ids[::-1])[::-1], held)


def test_the_report_says_who_is_good() -> None:
    good, poor = Made("good", 1, 0.3), Made("poor", 2, 30.0)
    report = judge_teachers([good, poor], [0.2, 0.8], collection(), TeacherCache(), depth=120)
    by_name = {standing.name: standing for standing in report.teachers}
    assert by_name["good"].all_queries > report.ensemble.all_queries > by_name["poor"].all_queries
    assert any("worse than its best member, good" in warning for warning in report.warnings)
    assert any("only 20 queries" in warning for warning in report.warnings)
    assert report.best_weights[0] > 0.5
    assert report.best.held_back > report.ensemble.held_back
    assert (report.queries, report.held_back_queries) == (40, 20)
    assert report.recall == 1.0
    assert report.perfect.all_queries == pytest.approx(1.0)
    assert by_name["poor"].weight == pytest.approx(0.8)
    assert not any("keep these" in warning for warning in report.warnings)
    json.dumps(report.to_dict(), allow_nan=False)


def test_equally_good_teachers_keep_their_weights() -> None:
    teachers = [Made("a", 1, 1.5), Made("b", 2, 1.5)]
    report = judge_teachers(teachers, [1, 1], collection(), TeacherCache(), depth=120)
    assert report.ensemble.all_queries > max(standing.all_queries for standing in report.teachers)
    assert report.best.held_back <= report.ensemble.held_back
    assert any("keep these" in warning for warning in report.warnings)


def test_weights_are_chosen_without_the_held_back_queries() -> None:
    teachers, data, other = [Made("a", 1, 1.0), Made("b", 2, 1.0)], collection(), collection()
    for query_id, held_back in zip(other.qrels, halves(list(other.qrels)), strict=True):
        if held_back:  # relevant is something no teacher knows of
            other.qrels[query_id] = {f"d{int(query_id[1:]) + 60}": 1}
    before = judge_teachers(teachers, [1, 1], data, TeacherCache(), depth=120)
    after = judge_teachers(teachers, [1, 1], other, TeacherCache(), depth=120)
    assert after.best_weights == before.best_weights
    assert after.best.held_back < before.best.held_back


def test_figures_are_those_of_a_run_of_the_candidates() -> None:
    """A teacher's figure equals ir_measures' on the run of its scores over BM25's candidates."""
    data, teacher = collection(), Made("one", 1, 1.0)
    report = judge_teachers([teacher, BM25Teacher()], [1, 1], data, TeacherCache(), depth=50)
    from neural_sparse.search import BM25Index

    texts = list(data.queries.values())
    found = BM25Index.build(data.texts, data.doc_ids).search_texts(texts, 50)
    prepared = teacher.prepare(texts, data.texts, None, TeacherCache())
    run = {}
    for row, query_id in enumerate(data.queries):
        documents = np.sort(found.docs[row][found.docs[row] >= 0]).astype(np.int64)
        scores, _ = prepared.scores(np.array([row]), documents, np.ones((1, len(documents)), bool))
        run[query_id] = {
            data.doc_ids[doc]: float(score) for doc, score in zip(documents, scores[0], strict=True)
        }
    expected = evaluate_run(run, data.qrels, ["nDCG@10"]).means["nDCG@10"]
    assert report.teachers[0].all_queries == pytest.approx(expected, abs=1e-9)
    assert report.recall < 1
    assert report.perfect.all_queries < 1


def test_union_finds_what_bm25_does_not() -> None:
    data = collection()
    for query_id in data.queries:
        data.queries[query_id] = "words " + data.queries[query_id].split()[-1]
    narrow = judge_teachers([Made("one", 1, 0.1)], [1], data, TeacherCache(), depth=10)
    wide = judge_teachers([Made("one", 1, 0.1)], [1], data, TeacherCache(), depth=10, union=True)
    assert wide.recall > narrow.recall
    assert wide.teachers[0].all_queries > narrow.teachers[0].all_queries
    assert "teachers" in wide.candidates


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="weight"):
        judge_teachers([Made("a", 1, 1)], [0.0], collection(), TeacherCache())
    with pytest.raises(InputError, match="fewer than two queries"):
        judge_teachers([Made("a", 1, 1)], [1.0], collection(1), TeacherCache())
    (tmp_path / "scores.jsonl").write_text(
        '{"query": "words 1", "docs": ["some words 1"], "scores": [1.0]}\n'
    )
    known = PrecomputedTeacher(tmp_path / "scores.jsonl")
    report = judge_teachers([known, Made("a", 1, 0.1)], [1, 1], collection(), TeacherCache(), depth=120)
    assert report.teachers[0].all_queries < report.teachers[1].all_queries

    class Broken(Made):
        def prepare(self, *arguments: Any) -> PreparedVectors:
            prepared = super().prepare(*arguments)
            prepared._documents.parts[0]["vectors"][:] = np.nan
            return prepared

    with pytest.raises(InputError, match="not a number"):
        judge_teachers([Broken("a", 1, 1)], [1.0], collection(), TeacherCache())


def test_teachers_of_the_command_line() -> None:
    from neural_sparse.cli.judge_teachers import parse_teacher

    config = parse_teacher("dense:BAAI/bge=0.7")
    assert (config.kind, config.name, config.weight) == ("dense", "BAAI/bge", 0.7)
    config = parse_teacher("precomputed:scores=a.jsonl")
    assert (config.kind, config.name, config.weight) == ("precomputed", "scores=a.jsonl", 1.0)
    assert parse_teacher("bm25=2").weight == 2
    for bad in ("bm26", "dense", "dense:a=-1"):
        with pytest.raises(InputError):
            parse_teacher(bad)


@pytest.mark.parametrize("sparse", [False, True])
def test_the_best_documents_of_some_queries(sparse: bool) -> None:
    rng = np.random.default_rng(0)
    queries, documents = rng.random((5, 6), np.float32), rng.random((9, 6), np.float32)
    as_rows = [StoredVectors.of(csr_matrix(matrix) if sparse else matrix) for matrix in (queries, documents)]
    prepared = PreparedVectors("t", as_rows[0], np.arange(5), as_rows[1], np.arange(9))
    expected = np.argsort(-(queries @ documents.T), axis=1)[:, :4]
    assert best_documents(prepared, 4).docs.tolist() == expected.tolist()
    assert best_documents(prepared, 4, queries=2).docs.tolist() == expected[:2].tolist()
