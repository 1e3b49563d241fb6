"""Teachers that know single pairs: the lookup table and the precomputed file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from neural_sparse.data.prepare import prepare
from neural_sparse.errors import InputError
from neural_sparse.teachers.cache import TeacherCache
from neural_sparse.teachers.precomputed import PrecomputedTeacher
from neural_sparse.teachers.teacher import PreparedPairs
from neural_sparse.text.keys import first_rows

QUERIES = ["q0", "q1", "q0"]
DOCUMENTS = ["d0", "d1", "d2", "d1"]
ALL = np.ones((3, 4), dtype=bool)
NAN = np.nan


def prepared(pairs: list[list[int]], scores: list[float]) -> PreparedPairs:
    return PreparedPairs(
        "t",
        first_rows(QUERIES),
        first_rows(DOCUMENTS),
        np.array(pairs, dtype=np.int64).reshape(-1, 2),
        np.array(scores, dtype=np.float32),
    )


def test_equal_texts_share_their_scores() -> None:
    table = prepared([[0, 1], [1, 2]], [5.0, 7.0])
    scores, known = table.scores(np.arange(3), np.arange(4), ALL)
    expected = [[NAN, 5, NAN, 5], [NAN, NAN, 7, NAN], [NAN, 5, NAN, 5]]
    np.testing.assert_array_equal(scores, np.array(expected, dtype=np.float32))
    np.testing.assert_array_equal(known, ~np.isnan(expected))


def test_only_own_candidates_are_looked_at() -> None:
    own = np.array([[False, True], [True, False]])
    scores, known = prepared([[0, 1], [1, 2], [1, 1]], [5.0, 7.0, 9.0]).scores(
        np.array([1, 0]), np.array([2, 1]), own
    )
    assert not known[0, 0]
    assert scores[0, 1] == 9.0
    assert not known[1].any()


def test_the_last_of_equal_pairs_counts() -> None:
    scores, _ = prepared([[0, 0], [2, 0]], [1.0, 2.0]).scores(np.array([0]), np.array([0]), ALL[:1, :1])
    assert scores.tolist() == [[2.0]]


def test_an_empty_table_knows_nothing() -> None:
    _, known = prepared([], []).scores(np.arange(3), np.arange(4), ALL)
    assert not known.any()


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_file_of_scores(tmp_path: Path) -> None:
    path = write(
        tmp_path / "scores.jsonl",
        {"query": "q1", "docs": ["d0", "d1", "elsewhere"], "scores": [1, -2.5, 3]},
        {"query": "한국어", "docs": ["d0"], "scores": [4]},
        {"query": "q0", "docs": ["d2", "d0"], "scores": [None, 8]},
        {"query": "q1", "docs": ["d0"], "scores": [6]},
    )
    teacher = PrecomputedTeacher(path).prepare(QUERIES, DOCUMENTS, None, TeacherCache())
    scores, known = teacher.scores(np.arange(3), np.arange(4), ALL)
    expected = [[8, NAN, NAN, NAN], [6, -2.5, NAN, -2.5], [8, NAN, NAN, NAN]]
    np.testing.assert_array_equal(scores, np.array(expected, dtype=np.float32))
    np.testing.assert_array_equal(known, ~np.isnan(expected))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"query": "q0", "docs": ["d0"]}, "line 2: needs query, docs and scores"),
        ({"query": "q0", "docs": ["d0"], "scores": [1, 2]}, "line 2: .*one length"),
        ({"query": "q0", "docs": "d0", "scores": [1]}, "line 2: .*lists of one length"),
        ({"query": 3, "docs": ["d0"], "scores": [1]}, "line 2: .* must be a text"),
        ({"query": "q0", "docs": [7], "scores": [1]}, "line 2: .* must be a text"),
        ({"query": "q0", "docs": ["d0"], "scores": ["high"]}, "line 2: scores must be finite numbers"),
        ({"query": "q0", "docs": ["d0"], "scores": [float("nan")]}, "line 2: scores must be finite numbers"),
        ({"query": "q0", "docs": ["d0"], "scores": [True]}, "line 2: scores must be finite numbers"),
    ],
)
def test_a_malformed_file(tmp_path: Path, row: object, message: str) -> None:
    path = write(tmp_path / "scores.jsonl", {"query": "q0", "docs": ["d0"], "scores": [1]}, row)
    with pytest.raises(InputError, match=message):
        PrecomputedTeacher(path).prepare(QUERIES, DOCUMENTS, None, TeacherCache())


def test_a_file_about_other_texts(tmp_path: Path) -> None:
    path = write(tmp_path / "scores.jsonl", {"query": "q0", "docs": ["D0"], "scores": [1]})
    with pytest.raises(InputError, match="none of its 1 pairs"):
        PrecomputedTeacher(path).prepare(QUERIES, DOCUMENTS, None, TeacherCache())


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        PrecomputedTeacher(tmp_path / "none.jsonl").prepare(QUERIES, DOCUMENTS, None, TeacherCache())


def test_prepared_data_with_scores(tmp_path: Path) -> None:
    path = write(
        tmp_path / "scores.jsonl",
        {"query": "q1", "docs": ["d0", "d1", "elsewhere"], "scores": [1, -2.5, 3]},
        {"query": "q0", "docs": ["d2", "d0"], "scores": [None, 8]},
        {"query": "apart", "docs": ["d2", "d0"], "scores": [7, 8]},
    )
    plain = write(tmp_path / "plain.jsonl", {"query": "q1", "pos": "d2"}, {"query": "no score", "pos": "d1"})
    prepare([str(plain), str(path)], tmp_path / "data")
    here = np.arange(3), np.arange(4), ALL
    scores, known = (
        PrecomputedTeacher(tmp_path / "data").prepare(QUERIES, DOCUMENTS, None, TeacherCache()).scores(*here)
    )
    expected = [[8, NAN, NAN, NAN], [1, -2.5, NAN, -2.5], [8, NAN, NAN, NAN]]
    np.testing.assert_array_equal(scores, np.array(expected, dtype=np.float32))
    np.testing.assert_array_equal(known, ~np.isnan(expected))


def test_prepared_data_without_scores(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.jsonl", {"query": "q1", "pos": "d2"})
    prepare([str(plain)], tmp_path / "data")
    with pytest.raises(InputError, match="data holds no scores; prepare lines of"):
        PrecomputedTeacher(tmp_path / "data").prepare(QUERIES, DOCUMENTS, None, TeacherCache())
