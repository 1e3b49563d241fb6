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
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neural_sparse.errors import InputError
from neural_sparse.files import read_jsonl
from neural_sparse.teachers.json_members import members

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
            number, a document that has two scores for one query.
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
    if name.endswith(".parquet"):
        return _joined(_rows(_parquet_rows(path), path, "row"))
    if name.endswith(".jsonl"):
        return _joined(_rows(read_jsonl(path), path, "entry"))
    if name.endswith((".json", ".json.gz")):
        return _nested(path)
    raise InputError(f"{path}: expected .jsonl, .parquet, .json or .json.gz")


def _rows(rows: Iterable[Mapping[str, Any]], path: Path, word: str) -> Iterator[Scored]:
    for number, row in enumerate(rows, start=1):
        where = f"{path}, {word} {number}"
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
        yield _checked(query, docs, scores, texts, where)


def _checked(query: Any, docs: Any, scores: Any, texts: bool, where: str) -> Scored:
    if not isinstance(docs, list) or not isinstance(scores, list) or len(docs) != len(scores):
        raise InputError(f"{where}: documents and scores must be lists of one length")
    kinds = (str,) if texts else (str, int)
    if not all(isinstance(value, kinds) and not isinstance(value, bool) for value in (query, *docs)):
        raise InputError(f"{where}: query and documents must be {'texts' if texts else 'ids'}")
    for score in scores:
        if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
            raise InputError(f"{where}: the score {score!r} is not a finite number")
    return Scored(str(query), [str(doc) for doc in docs], [float(score) for score in scores], texts)


def _joined(rows: Iterator[Scored]) -> Iterator[Scored]:
    """Neighbours of the same query as one."""
    open_: Scored | None = None
    for row in rows:
        if open_ is not None and open_.query == row.query and open_.texts == row.texts:
            open_.docs.extend(row.docs)
            open_.scores.extend(row.scores)
            continue
        if open_ is not None:
            yield _without_repeats(open_)
        open_ = row
    if open_ is not None:
        yield _without_repeats(open_)


def _without_repeats(row: Scored) -> Scored:
    unique: dict[str, float] = {}
    for doc, score in zip(row.docs, row.scores, strict=True):
        if unique.setdefault(doc, score) != score:
            raise InputError(
                f"query {row.query!r:.80} has two scores for document {doc!r:.80}: {unique[doc]} and {score}"
            )
    return Scored(row.query, list(unique), list(unique.values()), row.texts)


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(1024):
                yield from batch.to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        if getattr(error, "errno", None):  # Arrow's own have none
            raise
        raise InputError(f"{path}: not a Parquet file ({error})") from error


def _nested(path: Path) -> Iterator[Scored]:
    """{query id: {passage id: score}}, of which only one query is held at a time."""
    with (
        gzip.open(path, "rt", encoding="utf-8")
        if path.suffix == ".gz"
        else path.open(encoding="utf-8") as file
    ):
        try:
            for query, scores in members(file):
                if not isinstance(scores, dict):
                    raise InputError(
                        f"{path}: expected {{query id: {{passage id: score}}}}, found {scores!r:.80}"
                    )
                yield _checked(query, list(scores), list(scores.values()), False, f"{path}, query {query}")
        except (json.JSONDecodeError, UnicodeDecodeError, gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise InputError(
                f"{path}: not valid JSON {{query id: {{passage id: score}}}} ({error})"
            ) from error
