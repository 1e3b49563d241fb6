"""Every command that reads a kind of file gives the same verdict: the same meaning, or a refusal that says where."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from neural_sparse.corpora.collection import Collection
from neural_sparse.corpora.corpus_file import corpus_documents
from neural_sparse.corpora.names import load_collection, load_queries
from neural_sparse.data.cleaning import Cleaning
from neural_sparse.data.prepare import PrepareOptions, _tables, prepare
from neural_sparse.data.source import find_source
from neural_sparse.data.text_table import TextTable
from neural_sparse.data.training_set import load_training_set
from neural_sparse.engines import vectors
from neural_sparse.errors import InputError
from neural_sparse.evaluation.leakage import read_training_texts
from neural_sparse.evaluation.runs import read_run
from neural_sparse.search import encode_corpus as encoding
from neural_sparse.teachers.score_files import read_scores
from neural_sparse.teachers.score_writing import collection_texts

CORPUS = [{"_id": f"d{n}", "title": "", "text": f"café number {n} opens at nine"} for n in range(5)]
QUERIES = [{"_id": f"q{n}", "text": f"when does café {n} open"} for n in range(5)]
QRELS = [f"q{n}\td{n}\t1" for n in range(5)]
PAIRS = [{"query": row["text"], "pos": CORPUS[n]["text"]} for n, row in enumerate(QUERIES)]
SCORES = [{"query": f"café {n}", "docs": [f"a {n}", f"b {n}"], "scores": [2.0, 1.0]} for n in range(5)]
RUN = [f"q{n} Q0 d{n} 1 2.5 café" for n in range(5)]
Rows = list[Any]


class StoppedError(Exception):
    """The command has read its input and would begin its work."""


def stop(*_: object, **__: object) -> None:
    raise StoppedError


@pytest.fixture(autouse=True)
def stop_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "sha256_file", stop)
    for module in ("model.encoder", "engines.vectors"):
        monkeypatch.setattr(f"neural_sparse.{module}.NeuralSparseEncoder", stop)


def until_work(call: Callable[[], object]) -> None:
    with pytest.raises(StoppedError):
        call()


def table(folder: Path, name: str, work: Path) -> list[str]:
    found = TextTable(_tables(find_source(str(folder)), work, 0, False)[name])
    return [found.get(f"{name[0].replace('c', 'd')}{n}") or "" for n in range(5)]


def prepared(path: Path, work: Path) -> int:
    options = PrepareOptions(cleaning=Cleaning(near_duplicates=None))
    return len(prepare([str(path)], work / "out", options))


def by_id(texts: dict[str, str], letter: str) -> list[str]:
    return [texts.get(f"{letter}{n}") or "" for n in range(5)]


# kind -> command -> what it makes of a folder; None: only whether it takes the file.
READERS: dict[str, dict[str, Callable[[Path, Path], Any]]] = {
    "corpus.jsonl": {
        "evaluate": lambda at, _: by_id(dict(zip(*corpus_of(Collection.load(at)), strict=True)), "d"),
        "judge-teachers": lambda at, _: by_id(
            dict(zip(*corpus_of(load_collection(str(at))), strict=True)), "d"
        ),
        "convert": lambda at, _: by_id(collection_texts(at)[1], "d"),
        "prepare": lambda at, work: table(at, "corpus", work),
        "train": lambda at, _: load_training_set([at]) and None,
        "corpus of a recipe": lambda at, _: (
            load_training_set([write(at / "p.jsonl", PAIRS)], at / "corpus.jsonl") and None
        ),
        "encode": lambda at, work: until_work(
            lambda: encoding.encode_corpus("m", at, work / "i", show_progress=False)
        ),
        "export": lambda at, _: until_work(lambda: vectors.vector_source("m", at, None, None)),
    },
    "queries.jsonl": {
        "evaluate": lambda at, _: by_id(Collection.load(at).queries, "q"),
        "decontaminate": lambda at, _: by_id(load_queries(str(at)), "q"),
        "convert": lambda at, _: by_id(collection_texts(at)[0], "q"),
        "prepare": lambda at, work: table(at, "queries", work),
        "train": lambda at, _: load_training_set([at]) and None,
        "export": lambda at, _: by_id(dict(zip(*vectors._queries(at), strict=True)), "q"),
    },
    "qrels/train.tsv": {
        "evaluate": lambda at, _: len(Collection.load(at, "train").qrels),
        "decontaminate": lambda at, _: len(load_queries(str(at), "train")) and None,
        "train": lambda at, _: len(load_training_set([at])),
        "prepare": prepared,
    },
    "pairs.jsonl": {
        "train": lambda at, _: len(load_training_set([at / "pairs.jsonl"])),
        "prepare": lambda at, work: prepared(at / "pairs.jsonl", work),
    },
    "scores.jsonl": {
        "convert": lambda at, _: list(read_scores(at / "scores.jsonl")) and None,
        "train": lambda at, _: load_training_set([at / "scores.jsonl"]) and None,
        "prepare": lambda at, work: prepared(at / "scores.jsonl", work) and None,
    },
    "run.trec": {"evaluate --run, compare": lambda at, _: len(read_run(at / "run.trec"))},
}
GOOD: dict[str, Rows] = {
    "corpus.jsonl": CORPUS,
    "queries.jsonl": QUERIES,
    "qrels/train.tsv": QRELS,
    "pairs.jsonl": PAIRS,
    "scores.jsonl": SCORES,
    "run.trec": RUN,
}
TEXTS_REFUSED: dict[str, Any] = {"number": 3, "true": True, "list": [1], "object": {"a": 1}}
IDS_REFUSED: dict[str, Any] = {"null": None, "fraction": 1.5, "empty": "", "list": ["a"], "true": True}


def corpus_of(collection: Collection) -> tuple[list[str], list[str]]:
    return collection.doc_ids, collection.texts


def lines(rows: Rows) -> list[str]:
    return [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]


def write(path: Path, rows: Rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(("\n".join(lines(rows)) + "\n").encode())
    return path


def changed(rows: Rows, at: int, **values: Any) -> list[str]:
    return lines([row if n != at else {**row, **values} for n, row in enumerate(rows)])


def without(rows: Rows, at: int, key: str) -> list[str]:
    return lines([{k: v for k, v in row.items() if n != at or k != key} for n, row in enumerate(rows)])


def faults(kind: str, draw: random.Random) -> Iterator[tuple[str, bytes, str | None]]:
    """Name, content and, where it must be refused, what the message says of the place."""
    good = lines(GOOD[kind])
    at = draw.randrange(len(good))
    line = rf"line {at + 1}\b"
    text = "\n".join(good) + "\n"
    marked = list(good)
    if kind == "qrels/train.tsv":
        marked[at] = good[at].replace("d", "é", 1)
    first = "line 1" if "é" in marked[0] else line
    yield "utf-16", text.encode("utf-16"), "line 1: .*iconv"
    yield "utf-16-le", text.encode("utf-16-le"), "line 1: .*iconv"
    yield "latin-1", ("\n".join(marked) + "\n").encode("latin-1"), f"{first}.*iconv"
    yield "nul", "\n".join([*good[:at], good[at] + "\0", *good[at + 1 :]]).encode(), f"{line}.*NUL"
    yield "bom", b"\xef\xbb\xbf" + text.encode(), None
    yield "crlf", text.replace("\n", "\r\n").encode(), None
    yield "blank lines", text.replace("\n", "\n\n \n").encode(), None
    yield "no last end", text.rstrip("\n").encode(), None
    yield "empty", b"", ""
    yield "cut", "\n".join([*good[:at], good[at][: len(good[at]) // 2]]).encode(), line
    rows = GOOD[kind]
    if kind == "qrels/train.tsv":
        for name, cells, place in (
            ("unknown id", "qx\tdx\t1", None),
            ("fraction", f"q{at}\td{at}\t0.5", line),
            ("word", f"q{at}\td{at}\tyes", line),
            ("two columns", f"q{at}\td{at}", line),
            ("five columns", "a\tb\tc\td\te", line),
            ("nan", f"q{at}\td{at}\tnan", line),
            ("TREC", f"q{at} 0 d{at} 1", None),
            ("spaces", f"q{at} d{at} 1", None),
        ):
            yield name, "\n".join([*good[:at], cells, *good[at + 1 :]]).encode(), place
        for header in ("query-id\tcorpus-id\tscore", "Query-ID\tCorpus-ID\tScore", "qid\tpid\tlabel"):
            yield header, "\n".join([header, *good]).encode(), None
        yield "two grades", (text + f"q{at}\td{at}\t2").encode(), "line 6"
        yield "repeated", (text + good[at]).encode(), None
    elif kind == "run.trec":
        yield "word", "\n".join([*good[:at], f"q{at} Q0 d{at} 1 high x"]).encode(), line
        yield "repeated", (text + good[at]).encode(), "line 6"
        yield "five columns", "\n".join([*good[:at], "a b c d e"]).encode(), line
    else:
        yield "array", "\n".join([*good[:at], "3", *good[at + 1 :]]).encode(), line
        if kind in ("corpus.jsonl", "queries.jsonl"):
            for name, value in TEXTS_REFUSED.items():
                yield f"text {name}", "\n".join(changed(rows, at, text=value)).encode(), line
            for name, value in IDS_REFUSED.items():
                yield f"id {name}", "\n".join(changed(rows, at, _id=value)).encode(), line
            yield "text null", "\n".join(changed(rows, at, text=None)).encode(), None
            yield (
                "half a character",
                "\n".join([*good, json.dumps({"_id": "x", "text": "\ud83d"})]).encode(),
                None,
            )
            yield "id number", "\n".join([*good, json.dumps({"_id": 7, "text": "seven"})]).encode(), None
            yield "no text", "\n".join(without(rows, at, "text")).encode(), line
            yield "no id", "\n".join(without(rows, at, "_id")).encode(), line
            yield "repeated id", (text + good[at]).encode(), "line 6"
            yield "long line", (text + json.dumps({"_id": "long", "text": "word " * 200_000})).encode(), None
        if kind == "corpus.jsonl":
            yield "title null", "\n".join(changed(rows, at, title=None)).encode(), None
            yield "title number", "\n".join(changed(rows, at, title=3)).encode(), line
        if kind == "pairs.jsonl":
            for name, value in TEXTS_REFUSED.items():
                yield f"query {name}", "\n".join(changed(rows, at, query=value)).encode(), line
                yield f"pos {name}", "\n".join(changed(rows, at, pos=value)).encode(), line
            yield "label 0", "\n".join(changed(rows, at, label=0)).encode(), None
            yield "pos null", "\n".join(changed(rows, at, pos=None)).encode(), None
            yield "no pos", "\n".join(without(rows, at, "pos")).encode(), line
            yield "list", "\n".join([*good, '["another query", "another document"]']).encode(), None
        if kind == "scores.jsonl":
            yield "score word", "\n".join(changed(rows, at, scores=[1, "2"])).encode(), line
            yield "score nan", "\n".join(changed(rows, at, scores=[1, float("nan")])).encode(), line
            yield "score null", "\n".join(changed(rows, at, scores=[1, None])).encode(), None
            yield "score lacking", "\n".join(changed(rows, at, scores=[1])).encode(), line
            yield "doc number", "\n".join(changed(rows, at, docs=["a", 3])).encode(), line
            yield "two scores", "\n".join(changed(rows, at, docs=["a", "a"])).encode(), line
            yield "no scores", "\n".join(without(rows, at, "scores")).encode(), line


@pytest.mark.parametrize("kind", GOOD)
def test_every_command_gives_the_same_verdict(kind: str, tmp_path: Path) -> None:
    tried = 0
    for seed in range(2):
        for name, content, place in faults(kind, random.Random(seed)):
            folder = tmp_path / f"{tried}"
            for good in ("corpus.jsonl", "queries.jsonl", "qrels/train.tsv"):
                write(folder / good, GOOD[good])
            write(folder / "qrels" / "test.tsv", QRELS)
            (folder / kind).write_bytes(content)
            meanings = []
            for command, read in READERS[kind].items():
                tried += 1
                work = tmp_path / f"work-{tried}"
                work.mkdir()
                told = None
                try:
                    meaning = read(folder, work)
                except InputError as error:
                    told = str(error)
                assert (told is None) == (place is None), (kind, name, command, told)
                if told is not None:
                    assert Path(kind).name in told, (name, command)
                    assert re.search(place or "", told, re.DOTALL), (name, command, told)
                elif meaning is not None:
                    meanings.append(meaning)
            assert all(meaning == meanings[0] for meaning in meanings), (kind, name, meanings)
    assert tried >= (300 if kind == "corpus.jsonl" else 20)


def test_idf_reads_texts_as_the_others_do(tmp_path: Path) -> None:
    """It has no use for ids; null is empty, and what is no text is refused."""
    file = write(tmp_path / "corpus.jsonl", [*CORPUS, {"_id": "n", "text": None}])
    assert [text for _, text in corpus_documents(file)][-1] == ""
    assert next(iter(read_training_texts(write(tmp_path / "p.jsonl", PAIRS)))) == PAIRS[0]["query"]
