from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path

import pytest

from neural_sparse.corpora.collection import Collection
from neural_sparse.corpora.corpus_file import read_queries
from neural_sparse.corpora.qrels_file import read_qrels, write_qrels
from neural_sparse.errors import InputError


def write(folder: Path, corpus: list[dict], queries: list[dict], qrels: str, split: str = "test") -> Path:
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in corpus))
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    (folder / "qrels" / f"{split}.tsv").write_text(qrels)
    return folder


CORPUS = [{"_id": "d1", "title": "T", "text": "one"}, {"_id": "d2", "text": "two"}]
QUERIES = [{"_id": "q1", "text": "first"}, {"_id": "q2", "text": "second"}]
HEADER = "query-id\tcorpus-id\tscore\n"


def test_reads_what_it_wrote(tmp_path: Path) -> None:
    loaded = Collection.load(write(tmp_path / "c", CORPUS, QUERIES, HEADER + "q1\td1\t2\nq1\td2\t0\n"))
    assert (loaded.name, loaded.doc_ids, loaded.texts) == ("c", ["d1", "d2"], ["T one", "two"])
    assert loaded.queries == {"q1": "first"}
    assert loaded.qrels == {"q1": {"d1": 2, "d2": 0}}
    loaded.save(tmp_path / "again" / "c")
    assert Collection.load(tmp_path / "again" / "c") == loaded


def test_unknown_ids_are_counted_said_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    qrels = HEADER + "q1\td1\t1\nq1\tnone\t1\nq9\td1\t1\nq2\tnone\t1\n"
    with caplog.at_level(logging.WARNING):
        loaded = Collection.load(write(tmp_path / "c", CORPUS, QUERIES, qrels))
    assert loaded.qrels == {"q1": {"d1": 1}}
    assert "left out 1 judged queries" in caplog.text
    assert "2 judgements of documents" in caplog.text


def test_negative_grades_count_as_zero_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        loaded = Collection.load(
            write(tmp_path / "c", CORPUS, QUERIES, "q1\td1\t-1\nq1\td2\t1\nq2\td1\t-1\n")
        )
    assert loaded.qrels == {"q1": {"d1": 0, "d2": 1}, "q2": {"d1": 0}}
    assert len(caplog.records) == 1
    assert "2 negative grades" in caplog.text


@pytest.mark.parametrize("grade", ["0.5", "high", "nan", "", "inf"])
def test_grades_that_are_no_whole_number_are_named(tmp_path: Path, grade: str) -> None:
    (tmp_path / "test.tsv").write_text(f"{HEADER}q1\td1\t1\nq1\td2\t{grade}\n")
    with pytest.raises(InputError, match=r"test\.tsv, line 3: the grade"):
        read_qrels(tmp_path / "test.tsv")


def test_trec_qrels_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("q1 0 d1 1\nq1 0 d2 0\n")
    (tmp_path / "b.tsv").write_text("q1\t0\td1\t1.0\n")
    assert read_qrels(tmp_path / "a.txt") == {"q1": {"d1": 1, "d2": 0}}
    assert read_qrels(tmp_path / "b.tsv") == {"q1": {"d1": 1}}
    write_qrels(tmp_path / "c.tsv", {"q1": {"d1": 1}})
    assert read_qrels(tmp_path / "c.tsv") == {"q1": {"d1": 1}}


@pytest.mark.parametrize("lacking", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"])
def test_a_lacking_file_is_named(tmp_path: Path, lacking: str) -> None:
    folder = write(tmp_path / "c", CORPUS, QUERIES, "q1\td1\t1\n")
    (folder / lacking).unlink()
    with pytest.raises(InputError, match=f"lacks {lacking}"):
        Collection.load(folder)


def test_a_lacking_split_names_those_there_are(tmp_path: Path) -> None:
    folder = write(tmp_path / "c", CORPUS, QUERIES, "q1\td1\t1\n", split="dev")
    with pytest.raises(InputError, match="splits found: dev"):
        Collection.load(folder)


@pytest.mark.parametrize(
    ("corpus", "queries", "qrels", "message"),
    [
        ([], QUERIES, "q1\td1\t1\n", "corpus is empty"),
        ([*CORPUS, CORPUS[0]], QUERIES, "q1\td1\t1\n", "'d1' occurs twice"),
        (CORPUS, [*QUERIES, QUERIES[0]], "q1\td1\t1\n", "'q1' occurs twice"),
        ([{"_id": "d1"}], QUERIES, "q1\td1\t1\n", r"corpus\.jsonl, line 1: lacks 'text'"),
        (CORPUS, QUERIES, "q1\td1\n", r"test\.tsv, line 1"),
        (CORPUS, QUERIES, "q1\tother\t1\n", "no judgement names"),
        (CORPUS, QUERIES, HEADER, r"test\.tsv: holds no judgement"),
    ],
)
def test_bad_input_is_named(tmp_path: Path, corpus: list, queries: list, qrels: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Collection.load(write(tmp_path / "c", corpus, queries, qrels))


def test_malformed_json_names_file_and_line(tmp_path: Path) -> None:
    folder = write(tmp_path / "c", CORPUS, QUERIES, "q1\td1\t1\n")
    with (folder / "corpus.jsonl").open("a") as out:
        out.write('{"_id": "d3", \n')
    with pytest.raises(InputError, match=r"corpus\.jsonl, line 3: not valid JSON"):
        Collection.load(folder)


def test_from_dicts() -> None:
    made = Collection.of(
        {"d1": {"title": "T", "text": "one"}, "d2": "two"},
        {"q1": "first", "q2": "second"},
        {"q1": {"d1": 1, "zz": 1}},
    )
    assert (made.doc_ids, made.texts) == (["d1", "d2"], ["T one", "two"])
    assert (made.queries, made.qrels) == ({"q1": "first"}, {"q1": {"d1": 1}})
    with pytest.raises(InputError, match="corpus is empty"):
        Collection.of({}, {"q": "x"}, {"q": {"d": 1}})
    with pytest.raises(InputError, match="'d1': lacks 'text'"):
        Collection.of({"d1": {"title": "T"}}, {"q": "x"}, {"q": {"d1": 1}})


def test_queries_of_any_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("first\n\nsecond, too\n")
    (tmp_path / "a.tsv").write_text("1\tfirst\n3\tsecond, too\n")
    (tmp_path / "b.tsv").write_text("qid\ttext\n1\tfirst\n3\tsecond, too\n")
    (tmp_path / "a.jsonl.gz").write_bytes(
        gzip.compress(b'{"_id": 1, "text": "first"}\n{"_id": 3, "text": "second, too"}')
    )
    for name in ("a.txt", "a.tsv", "b.tsv", "a.jsonl.gz"):
        assert read_queries(tmp_path / name) == {"1": "first", "3": "second, too"}, name
    (tmp_path / "b.txt").write_text("\n")
    with pytest.raises(InputError, match=r"b.txt: holds no query"):
        read_queries(tmp_path / "b.txt")
