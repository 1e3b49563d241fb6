"""The ensemble over teachers whose scores are known by construction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from neural_sparse.errors import InputError
from neural_sparse.teachers import BM25Teacher, EnsembleTeacher, PrecomputedTeacher, TeacherCache
from neural_sparse.teachers.bi_encoder import PreparedVectors
from neural_sparse.teachers.cross_encoder import CrossEncoderTeacher
from neural_sparse.teachers.rows import StoredVectors


class Lengths:
    """Scores a query of length q against a document of length d by q * d."""

    name = "lengths"
    in_batch = True

    def prepare(
        self, queries: Sequence[str], documents: Sequence[str], pairs: Any, cache: TeacherCache
    ) -> PreparedVectors:
        return PreparedVectors(self.name, *_lengths(queries), *_lengths(documents))


def _lengths(texts: Sequence[str]) -> tuple[StoredVectors, NDArray[np.int64]]:
    return StoredVectors.of(np.array([[len(text)] for text in texts], dtype=np.float32)), np.arange(
        len(texts)
    )


def pair_file(path: Path, *rows: tuple[str, list[str], list[float]]) -> PrecomputedTeacher:
    lines = [json.dumps({"query": query, "docs": docs, "scores": scores}) for query, docs, scores in rows]
    path.write_text("\n".join(lines))
    return PrecomputedTeacher(path)


def test_in_batch_and_pair_teachers_together(tmp_path: Path) -> None:
    queries, documents = ["q", "qq"], ["a", "aaa", "aaaaa", "aaaaaaaaa"]
    pairs = pair_file(
        tmp_path / "s.jsonl",
        ("q", ["a", "aaa", "aaaaa"], [4.0, 2.0, 3.0]),
        ("qq", ["aaaaaaaaa", "a"], [-1.0, -3.0]),
    )
    ensemble = EnsembleTeacher(teachers=[(Lengths(), 0.5), (pairs, 0.5)], scale_constant=10.0)
    prepared = ensemble.prepare(queries, documents)
    # columns: aaaaaaaaa, a, aaa; own candidates of q: a, aaa; of qq: aaaaaaaaa
    own = np.array([[False, True, True], [True, False, False]])
    target, known = prepared.scores(torch.tensor([0, 1]), torch.tensor([3, 0, 1]), own)
    # lengths: 9, 1, 3 -> 1, 0, .25 for both queries. pairs: q: a 4, aaa 2 -> .25, 0, as the lengths' 0 and .25;
    # qq: of one candidate nothing is known
    torch.testing.assert_close(target, torch.tensor([[10.0, 1.25, 1.25], [10.0, 0.0, 2.5]]))
    assert known.all()
    assert target.dtype == torch.float32


def test_raw_scores_stay_available(tmp_path: Path) -> None:
    prepared = EnsembleTeacher(teachers=[(Lengths(), 1.0)]).prepare(["qq"], ["a", "aaa"])
    ((scores, known),) = prepared.teacher_scores([0], [1, 0], [[True, False]])
    assert scores.tolist() == [[6.0, 2.0]]
    assert known.all()


def test_entries_that_only_a_pair_teacher_could_know_are_masked(tmp_path: Path) -> None:
    pairs = pair_file(tmp_path / "s.jsonl", ("q", ["a", "b", "c"], [1.0, 2.0, 5.0]))
    prepared = EnsembleTeacher(teachers=[(pairs, 1.0)], scale_constant=4.0).prepare(
        ["q"], ["a", "b", "c", "d"]
    )
    target, known = prepared.scores([0], [0, 1, 2, 3], np.array([[True, True, True, True]]))
    assert target.tolist() == [[0.0, 1.0, 4.0, 0.0]]
    assert known.tolist() == [[True, True, True, False]]


def test_a_list_of_two_is_warned_about_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pairs = pair_file(tmp_path / "s.jsonl", ("q", ["a", "b"], [1.0, 2.0]))
    prepared = EnsembleTeacher(teachers=[(pairs, 1.0)]).prepare(["q"], ["a", "b"])
    for _ in range(3):
        prepared.scores([0], [0, 1], [[True, True]])
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "hard label" in caplog.text


def test_no_warning_where_a_teacher_scores_the_whole_batch(caplog: pytest.LogCaptureFixture) -> None:
    prepared = EnsembleTeacher(teachers=[(Lengths(), 1.0)]).prepare(["q"], ["a", "b"])
    prepared.scores([0], [0, 1], [[True, True]])
    assert not caplog.records


def test_score_of_documents_and_of_candidate_lists() -> None:
    ensemble = EnsembleTeacher(teachers=[(Lengths(), 1.0)], scale_constant=8.0)
    assert ensemble.score(["q", "qq"], ["a", "aa", "aaaaa"]).tolist() == [[0.0, 2.0, 8.0]] * 2
    lists = ensemble.score(["q", "qq"], [["a", "aa", "aaaaa"], ["aaaa", "aaa", "aaaa"]])
    assert lists.tolist() == [[0.0, 2.0, 8.0], [8.0, 0.0, 8.0]]


def test_score_warns_once_about_lists_of_two(caplog: pytest.LogCaptureFixture) -> None:
    ensemble = EnsembleTeacher(teachers=[(Lengths(), 1.0)])
    for _ in range(3):
        ensemble.score(["q"], [["a", "aa"]])
    assert len(caplog.records) == 1


def test_score_marks_what_nobody_knows(tmp_path: Path) -> None:
    pairs = pair_file(tmp_path / "s.jsonl", ("q", ["a", "b", "c"], [1.0, 2.0, 5.0]))
    scores = EnsembleTeacher(teachers=[(pairs, 1.0)], scale_constant=4.0).score(["q"], ["c", "d", "a", "b"])
    torch.testing.assert_close(scores, torch.tensor([[4.0, torch.nan, 0.0, 1.0]]), equal_nan=True)


@pytest.mark.parametrize("documents", [[["a", "b"], ["a"]], [["a", "b"]], [["a", "b"], "c"], [[], []], []])
def test_candidate_lists_must_fit_the_queries(documents: Any) -> None:
    with pytest.raises(InputError):
        EnsembleTeacher(teachers=[(Lengths(), 1.0)]).score(["q", "qq"], documents)


def test_bm25_scores_the_collection_it_was_given() -> None:
    import bm25s

    documents = ["parse a JSON file", "write text to a file", "sort numbers", "", "file file file"]
    queries = ["json file", "sorting", "unseen words only"]
    prepared = BM25Teacher(stemmer=None, stopwords=None).prepare(queries, documents, None, TeacherCache())
    scores, known = prepared.scores(np.arange(3), np.arange(5), np.ones((3, 5), dtype=bool))
    assert known.all()
    index = bm25s.BM25(method="lucene", k1=0.9, b=0.4)
    words = [[word for word in document.lower().split() if len(word) > 1] for document in documents]
    index.index(words, show_progress=False)
    np.testing.assert_allclose(scores[0], index.get_scores(["json", "file"]), rtol=1e-4)
    assert scores[1:].sum() == 0  # without a stemmer, "sorting" is not "sort"
    assert prepared.document_vectors().shape[0] == 5
    assert prepared.query_vectors().shape[0] == 3


def test_a_cross_encoder_must_know_its_pairs() -> None:
    with pytest.raises(InputError, match="pairs="):
        CrossEncoderTeacher("some/reranker").prepare(["q"], ["d"], None, TeacherCache())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "at least one teacher"),
        ({"dense_teacher_name": "m", "precision": "float8"}, "float32, bfloat16"),
        ({"teachers": [(Lengths(), -1.0)]}, "not negative"),
        ({"teachers": [(Lengths(), 0.0)]}, "not all 0"),
        ({"teachers": [(Lengths(), float("nan"))]}, "finite"),
        ({"teachers": [(Lengths(), 1.0)], "scale_constant": 0.0}, "positive"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EnsembleTeacher(**arguments)


@pytest.mark.parametrize(("queries", "documents"), [([], ["a"]), (["q"], [])])
def test_nothing_to_prepare(queries: list[str], documents: list[str]) -> None:
    with pytest.raises(InputError, match="at least one"):
        EnsembleTeacher(teachers=[(Lengths(), 1.0)]).prepare(queries, documents)
