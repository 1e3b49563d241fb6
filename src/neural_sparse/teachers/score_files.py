"""Scores of (query, document) pairs in the forms in which they are passed around.

| ending | content |
|---|---|
| .jsonl | {"query": text, "docs": [text, ...], "scores": [number, ...]} per line: what `PrecomputedTeacher` reads |
| .jsonl, .parquet | query_id, passage ids and scores, as lists or one pair per row (names as in `COLUMNS`) |
| .json, .json.gz | {query id: {passage id: score}} |

All are read one query at a time. Pickles, in which some of these are published, are refused: reading one runs
what is in it.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, TextIO

from neural_sparse.corpora.fields import as_id, as_text
from neural_sparse.corpora.row_file import rows_of
from neural_sparse.data.layouts import checked_scores
from neural_sparse.errors import InputError
from neural_sparse.io.lines import decoded

_READ = 1 << 20  # characters


def members(file: TextIO) -> Iterator[tuple[str, Any]]:
    """Keys and values of the JSON object that a file holds, parsed as it is read.

    Raises:
        JSONDecodeError: the file holds something else, or ends too early.
    """
    decoder = json.JSONDecoder()
    text, place, whole = "", 0, False

    def skip(expected: str) -> str:
        """The next character that is no space, which must be one of `expected`."""
        nonlocal text, place, whole
        while True:
            while place < len(text) and text[place].isspace():
                place += 1
            if place < len(text):
                if text[place] not in expected:
                    raise json.JSONDecodeError(f"expected one of {expected}", text, place)
                place += 1
                return text[place - 1]
            more()

    def more() -> None:
        nonlocal text, place, whole
        if whole:
            raise json.JSONDecodeError("ends too early", text, len(text))
        block = file.read(_READ)
        text, place, whole = text[place:] + block, 0, not block

    def value() -> Any:
        nonlocal place
        while True:
            while place < len(text) and text[place].isspace():
                place += 1
            try:
                found, end = decoder.raw_decode(text, place)
            except json.JSONDecodeError:
                if whole:
                    raise
            else:
                if whole or text[end : end + 1] in (*",:}", *" \t\r\n"):  # else a number may go on
                    place = end
                    return found
            more()

    skip("{")
    mark = skip('"}')
    while mark == '"':
        place -= 1
        key = value()
        skip(":")
        yield key, value()
        if (mark := skip(",}")) == ",":
            mark = skip('"')


COLUMNS = {
    "query": ("query",),
    "docs": ("docs", "documents", "passages"),
    "query_id": ("query_id", "query-id", "qid"),
    "ids": (
        "passage_ids", "passage_id", "document_ids", "document_id", "doc_ids", "doc_id", "corpus_ids",
        "corpus-id", "corpus_id", "pids", "pid",
    ),
    "scores": ("scores", "score"),
}  # fmt: skip


@dataclass(frozen=True)
class Scored:
    """Scores of one query's documents; query and documents are ids or, if `texts`, texts."""

    query: str
    docs: list[str]
    scores: list[float]
    texts: bool


def read_scores(path: str | Path) -> Iterator[Scored]:
    """Scores of a file in any of the forms; rows of one pair each come joined where they stand together.

    Raises:
        InputError: no such file, a pickle, an ending that is none of the above; with the place in the file:
            missing columns (those found are named), lists of different length, a score that is NaN or no
            number, a document that has two scores for one query. Pairs whose score is null are left out.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    name = path.name.lower()
    if ".pkl" in name or ".pickle" in name:
        raise InputError(
            f"{path} is a pickle, and reading one runs any program that is in it; if you trust it, turn it into JSON "
            "{query id: {passage id: score}} elsewhere, with json.dump"
        )
    if name.endswith((".parquet", ".jsonl")):
        return _joined(_rows(path), path)
    if name.endswith((".json", ".json.gz")):
        return _nested(path)
    raise InputError(f"{path}: expected .jsonl, .parquet, .json or .json.gz")


def _rows(path: Path) -> Iterator[Scored]:
    for where, row in rows_of(path):
        if not isinstance(row, Mapping):
            raise InputError(f"{where}: expected a JSON object, found {type(row).__name__}")
        found = {
            role: row[next(name for name in names if name in row)]
            for role, names in COLUMNS.items()
            if any(name in row for name in names)
        }
        texts = {"query", "docs"} <= found.keys()
        if not (texts or {"query_id", "ids"} <= found.keys()) or "scores" not in found:
            raise InputError(
                f"{where}: needs query, docs and scores, or query_id, passage_ids and scores; "
                f"found the columns {', '.join(row)}"
            )
        query, docs = (found["query"], found["docs"]) if texts else (found["query_id"], found["ids"])
        scores = found["scores"]
        if not isinstance(docs, list) and not isinstance(scores, list):
            docs, scores = [docs], [scores]
        yield _checked(query, docs, scores=scores, texts=texts, where=where)


def _checked(query: Any, docs: Any, scores: Any, texts: bool, where: object) -> Scored:
    name, names, values = checked_scores(
        query, docs, scores=scores, where=where, as_name=as_text if texts else as_id
    )
    known = [(doc, score) for doc, score in zip(names, values, strict=True) if score is not None]
    return Scored(name, [doc for doc, _ in known], [score for _, score in known], texts)


def _joined(rows: Iterator[Scored], path: Path) -> Iterator[Scored]:
    """Neighbours of the same query as one."""
    empty = True
    for (query, texts), group in groupby(rows, lambda row: (row.query, row.texts)):
        empty = False
        first, *others = group
        for row in others:
            first.docs.extend(row.docs)
            first.scores.extend(row.scores)
        where = f"{path}, query {query!r:.80}"
        yield _checked(query, first.docs, scores=first.scores, texts=texts, where=where) if others else first
    if empty:
        raise InputError(f"{path}: holds no score")


def _nested(path: Path) -> Iterator[Scored]:
    """{query id: {passage id: score}}, of which only one query is held at a time."""
    with (
        gzip.open(path, "rt", encoding="utf-8-sig")
        if path.suffix == ".gz"
        else path.open(encoding="utf-8-sig") as file
    ):
        try:
            for query, scores in members(file):
                if not isinstance(scores, dict):
                    raise InputError(
                        f"{path}: expected {{query id: {{passage id: score}}}}, found {scores!r:.80}"
                    )
                yield _checked(
                    query,
                    list(scores),
                    scores=list(scores.values()),
                    texts=False,
                    where=f"{path}, query {query}",
                )
        except UnicodeDecodeError as error:
            decoded(error.object, path, path)  # says how to convert it
            raise
        except (json.JSONDecodeError, RecursionError, gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise InputError(
                f"{path}: not valid JSON {{query id: {{passage id: score}}}} ({error})"
            ) from error
