"""Scores in every form: what goes out comes back, and what is wrong is named."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_sparse.errors import InputError
from neural_sparse.teachers import PrecomputedTeacher, TeacherCache
from neural_sparse.teachers import score_files as json_members
from neural_sparse.teachers.score_files import Scored, members, read_scores
from neural_sparse.teachers.score_writing import candidate_scores, translated, write_scores
from neural_sparse.teachers.teacher import PreparedPairs
from neural_sparse.text.keys import first_rows

ROWS = [Scored("q1", ["d1", "d2"], [1.5, -2.25], False), Scored("q2", ["d2"], [0.0], False)]
TEXTS = [Scored("a query", ["한국어", "two\nlines"], [1.5, -2.25], True)]


def read(path: Path) -> list[Scored]:
    return list(read_scores(path))


@pytest.mark.parametrize("name", ["scores.jsonl", "scores.parquet", "scores.json", "scores.json.gz"])
def test_ids_come_back(tmp_path: Path, name: str) -> None:
    assert write_scores(tmp_path / name, ROWS) == 3
    assert read(tmp_path / name) == ROWS
    before = (tmp_path / name).read_bytes()
    write_scores(tmp_path / name, read(tmp_path / name))
    assert (tmp_path / name).read_bytes() == before


def test_texts_are_what_a_precomputed_teacher_reads(tmp_path: Path) -> None:
    write_scores(tmp_path / "scores.jsonl", TEXTS)
    assert read(tmp_path / "scores.jsonl") == TEXTS
    teacher = PrecomputedTeacher(tmp_path / "scores.jsonl").prepare(
        ["a query"], ["x", "two\nlines", "한국어"], None, TeacherCache()
    )
    scores, known = teacher.scores(np.array([0]), np.arange(3), np.ones((1, 3), bool))
    assert known.tolist() == [[False, True, True]]
    assert scores[0, 1:].tolist() == [-2.25, 1.5]
    for name in ("scores.json", "scores.parquet"):
        with pytest.raises(InputError, match="there are only texts"):
            write_scores(tmp_path / name, TEXTS)
        assert not (tmp_path / name).exists()


def test_the_names_in_use_on_the_hub(tmp_path: Path) -> None:
    file = tmp_path / "scores.jsonl"
    for ids, values in (("document_ids", "scores"), ("passage_id", "score"), ("corpus-id", "score")):
        rows = [{"query_id": 1, ids: [10, 11], values: [0.5, 1]}, {"query_id": "2", ids: [10], values: [2]}]
        file.write_text("\n".join(map(json.dumps, rows)))
        assert read(file) == [Scored("1", ["10", "11"], [0.5, 1.0], False), Scored("2", ["10"], [2.0], False)]
    pq.write_table(
        pa.table({"qid": ["1", "1", "2"], "passage_id": ["a", "b", "a"], "score": [1.0, 2.0, 3.0]}),
        tmp_path / "pairs.parquet",
    )
    assert read(tmp_path / "pairs.parquet") == [
        Scored("1", ["a", "b"], [1.0, 2.0], False),
        Scored("2", ["a"], [3.0], False),
    ]


GOOD = {"query_id": "1", "passage_ids": ["a", "b"], "scores": [1, 2]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"qid": "1", "text": "a", "score": 1},
            r"line 2: needs query, docs and scores, .* found the columns qid, text",
        ),
        ({**GOOD, "scores": [1, float("nan")]}, r"line 2: scores must be finite numbers or null, found nan"),
        ({**GOOD, "scores": [1, float("inf")]}, "found inf"),
        ({**GOOD, "scores": [1, "2"]}, "found '2'"),
        ({**GOOD, "scores": [1, True]}, "found True"),
        ({**GOOD, "scores": [1]}, "lists of one length"),
        ({**GOOD, "scores": 1}, "lists of one length"),
        ({**GOOD, "passage_ids": ["a", None]}, "a document must be a text or a whole number, found null"),
        ({"query": 3, "docs": ["a"], "scores": [1]}, "the query must be a text, found a number"),
        ({**GOOD, "passage_ids": ["a", "a"]}, r"line 2: document 'a' has two scores, 1.0 and 2.0"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    file = tmp_path / "scores.jsonl"
    file.write_text(json.dumps({**GOOD, "query_id": "0"}) + "\n" + json.dumps(row))
    with pytest.raises(InputError, match=message):
        read(file)


def test_a_score_that_is_null_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "scores.jsonl").write_text(json.dumps({**GOOD, "scores": [1, None]}))
    assert read(tmp_path / "scores.jsonl") == [Scored("1", ["a"], [1.0], False)]


def test_neighbours_that_contradict_each_other(tmp_path: Path) -> None:
    (tmp_path / "scores.jsonl").write_text(json.dumps(GOOD) + "\n" + json.dumps({**GOOD, "scores": [2, 2]}))
    with pytest.raises(
        InputError, match=r"scores.jsonl, query '1': document 'a' has two scores, 1.0 and 2.0"
    ):
        read(tmp_path / "scores.jsonl")


@given(
    st.lists(
        st.tuples(st.sampled_from("pq"), st.sampled_from("abc"), st.sampled_from([1.0, 2.0, None])),
        min_size=1,
    )
)
@settings(max_examples=200, deadline=None)
def test_pairs_of_a_row_each_are_what_lists_of_them_are(pairs: list[tuple[str, str, float | None]]) -> None:
    """Neighbours of one query, put together by hand; refused where, and only where, one of them contradicts."""
    expected: list[Scored] = []
    contradicts = False
    for query, doc, score in pairs:
        if not expected or expected[-1].query != query:
            expected.append(Scored(query, [], [], False))
        row = expected[-1]
        if score is None:
            continue
        if doc not in row.docs:
            row.docs.append(doc)
            row.scores.append(score)
        contradicts |= row.scores[row.docs.index(doc)] != score
    with TemporaryDirectory() as folder:
        file = Path(folder) / "scores.jsonl"
        lines = [dict(zip(("query_id", "passage_id", "score"), pair, strict=True)) for pair in pairs]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        if contradicts:
            with pytest.raises(InputError, match="has two scores"):
                read(file)
        else:
            assert read(file) == expected


def test_equal_repeats_count_once(tmp_path: Path) -> None:
    file = tmp_path / "scores.jsonl"
    rows = [{**GOOD, "scores": [1, 1], "passage_ids": ["a", "a"]}, {**GOOD, "passage_ids": ["a", "c"]}]
    file.write_text("\n".join(map(json.dumps, rows)))
    assert read(file) == [Scored("1", ["a", "c"], [1.0, 2.0], False)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("scores.pkl.gz", b"", "is a pickle, and reading one runs any program"),
        ("scores.csv", b"", "expected .jsonl, .parquet, .json or .json.gz"),
        ("scores.json", b"[1]", "not valid JSON"),
        ("scores.json", b'{"a": 3}', "found 3"),
        ("scores.json", b'{"a": {"b": 1}, }', "not valid JSON"),
        ("scores.json", b'{"a": {"b": 1}', "not valid JSON"),
        ("scores.json", b'{"a": {"b": NaN}}', "query a: scores must be finite numbers or null, found nan"),
        ("scores.json.gz", b'{"a": {}}', "not valid JSON"),
        ("scores.parquet", b"PAR1", "scores.parquet: cut short or damaged"),
    ],
)
def test_files_of_another_kind(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / name)


def test_no_file_and_no_form(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "absent.json")
    with pytest.raises(InputError, match=r"cannot write .*out\.csv"):
        write_scores(tmp_path / "out.csv", ROWS)
    with pytest.raises(InputError, match="query 'q1' comes again"):
        write_scores(tmp_path / "out.json", [*ROWS, ROWS[0]])
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_stopped_half_way(tmp_path: Path) -> None:
    whole = gzip.compress(json.dumps({str(i): {"a": i} for i in range(1000)}).encode())
    (tmp_path / "scores.json.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not valid JSON"):
        read(tmp_path / "scores.json.gz")


values = st.recursive(
    st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(
    content=st.dictionaries(st.text(max_size=4), values, max_size=5),
    block=st.integers(1, 40),
    indent=st.none() | st.integers(0, 2),
)
def test_an_object_in_pieces_is_the_object(content: dict[str, Any], block: int, indent: int | None) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_members, "_READ", block)
        assert dict(members(io.StringIO(json.dumps(content, indent=indent)))) == content


QUERIES = {"q1": "first", "q2": "second"}
DOCUMENTS = {"d1": "one", "d2": "two", "d3": "one"}


class TestTranslated:
    def test_there_and_back(self) -> None:
        texts = list(translated(ROWS, QUERIES, DOCUMENTS, texts=True))
        assert texts == [
            Scored("first", ["one", "two"], [1.5, -2.25], True),
            Scored("second", ["two"], [0.0], True),
        ]
        assert list(translated(texts, QUERIES, DOCUMENTS, texts=False)) == ROWS
        assert list(translated(ROWS, {}, {}, texts=False)) == ROWS

    def test_what_the_collection_lacks(self, caplog: pytest.LogCaptureFixture) -> None:
        rows = [*ROWS, Scored("q3", ["d1"], [1.0], False), Scored("q2", ["d9", "d1"], [1.0, 2.0], False)]
        assert sum(len(row.docs) for row in translated(rows, QUERIES, DOCUMENTS, True)) == 4
        assert "2 pairs left out" in caplog.text
        with pytest.raises(InputError, match="knows none of the 3 pairs"):
            list(translated(ROWS, {}, DOCUMENTS, True))
        with pytest.raises(InputError, match="the file is empty"):
            list(translated([], {}, {}, True))


def test_candidates_of_equal_queries_are_joined() -> None:
    queries, documents = ["a", "b", "a"], ["x", "y", "z"]
    pairs = np.array([[0, 1], [1, 0], [2, 2], [2, 1], [1, 1]])
    teacher = PreparedPairs(
        "t", first_rows(queries), first_rows(documents), pairs, np.array([1, 2, 3, 4, np.nan], np.float32)
    )
    assert list(candidate_scores(teacher, queries, documents, pairs)) == [
        Scored("a", ["y", "z"], [4.0, 3.0], True),
        Scored("b", ["x"], [2.0], True),
    ]
