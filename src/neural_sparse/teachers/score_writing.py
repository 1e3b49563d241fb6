"""Scores of (query, document) pairs written: a teacher's scores of candidates, by text or, translated, by id."""

from __future__ import annotations

import gzip
import io
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import TextIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from neural_sparse.corpora.corpus_file import read_corpus, read_queries
from neural_sparse.errors import InputError
from neural_sparse.io.files import replacing
from neural_sparse.teachers.score_files import Scored
from neural_sparse.teachers.teacher import PreparedTeacher
from neural_sparse.text.keys import first_rows

logger = logging.getLogger(__name__)


def collection_texts(folder: str | Path) -> tuple[dict[str, str], dict[str, str]]:
    """Queries and documents by id, of a folder with queries.jsonl and corpus.jsonl; held in memory.

    Raises:
        InputError: a missing file, a malformed line.
    """
    folder = Path(folder)
    return read_queries(folder / "queries.jsonl"), dict(
        zip(*read_corpus(folder / "corpus.jsonl"), strict=True)
    )


def translated(
    rows: Iterable[Scored], queries: Mapping[str, str], documents: Mapping[str, str], texts: bool
) -> Iterator[Scored]:
    """Scores with texts instead of ids (`texts`), or with ids instead of texts.

    Args:
        queries, documents: text by id. A text of several ids becomes the first of them.

    Raises:
        InputError: not one pair is known. Some unknown ones are left out, and counted in a warning.
    """
    if not texts:
        queries, documents = _first_ids(queries), _first_ids(documents)
    unknown, kept = 0, 0
    example = ""
    for row in rows:
        if row.texts == texts:
            kept += len(row.docs)
            yield row
            continue
        query = queries.get(row.query)
        pairs = {
            documents[doc]: score
            for doc, score in zip(row.docs, row.scores, strict=True)
            if query is not None and doc in documents
        }
        if lost := len(row.docs) - len(pairs):
            unknown += lost
            example = example or f"query {row.query!r:.60}, documents {row.docs[:2]!r:.80}"
        if query is not None and pairs:
            kept += len(pairs)
            yield Scored(query, list(pairs), list(pairs.values()), texts)
    if not kept:
        raise InputError(
            f"the collection knows none of the {unknown:,} pairs ({example or 'the file is empty'})"
        )
    if unknown:
        logger.warning(
            "%d pairs left out: the collection lacks them, or has the text twice (%s)", unknown, example
        )


def _first_ids(texts: Mapping[str, str]) -> dict[str, str]:
    ids: dict[str, str] = {}
    for name, text in texts.items():
        ids.setdefault(text, name)
    return ids


def candidate_scores(
    teacher: PreparedTeacher, queries: Sequence[str], documents: Sequence[str], pairs: NDArray[np.int64]
) -> Iterator[Scored]:
    """A teacher's raw scores of (query row, document row) pairs [P, 2], query by query.

    Examples of the same query are joined; pairs that the teacher does not know are left out.
    """
    pairs = np.unique(np.column_stack((first_rows(queries)[pairs[:, 0]], pairs[:, 1])), axis=0)
    bounds = np.flatnonzero(np.diff(pairs[:, 0], prepend=-1, append=-1))
    for begin, end in pairwise(bounds):
        part = pairs[begin:end]
        own = np.ones((1, len(part)), np.bool_)
        scores, known = teacher.scores(part[:1, 0], part[:, 1], own)
        texts = [documents[row] for row in part[known[0], 1].tolist()]
        unique = dict(zip(texts, scores[0, known[0]].tolist(), strict=True))
        if unique:
            yield Scored(queries[int(part[0, 0])], list(unique), list(unique.values()), texts=True)


def write_scores(path: str | Path, rows: Iterable[Scored]) -> int:
    """Write scores in the form that the file's ending names; returns the number of pairs.

    Texts go to .jsonl as {query, docs, scores}, ids to .jsonl and .parquet as query_id, passage_ids, scores and to
    .json and .json.gz as {query id: {passage id: score}}.

    Raises:
        InputError: another ending, or texts for a form that holds ids; the file cannot be written.
    """
    path, name = Path(path), Path(path).name.lower()
    if name.endswith(".jsonl"):
        write = _write_lines
    elif name.endswith((".json", ".json.gz")):
        write = _write_nested
    elif name.endswith(".parquet"):
        write = _write_parquet
    else:
        raise InputError(f"cannot write {path}: expected .jsonl, .parquet, .json or .json.gz")
    count = 0

    def counted() -> Iterator[Scored]:
        nonlocal count
        for row in rows:
            if row.texts and write is not _write_lines:
                raise InputError(
                    f"{path.name} holds ids, and there are only texts; write .jsonl, or name a collection"
                )
            count += len(row.docs)
            yield row

    with replacing(path) as temporary:
        write(temporary, counted(), name)
    return count


def _write_lines(path: Path, rows: Iterator[Scored], name: str) -> None:
    with path.open("w", encoding="utf-8") as out:
        for row in rows:
            keys = ("query", "docs") if row.texts else ("query_id", "passage_ids")
            line = {keys[0]: row.query, keys[1]: row.docs, "scores": row.scores}
            out.write(json.dumps(line, ensure_ascii=False) + "\n")


def _write_nested(path: Path, rows: Iterator[Scored], name: str) -> None:
    def write(out: TextIO) -> None:
        seen: set[str] = set()
        out.write("{")
        for number, row in enumerate(rows):
            out.write(",\n" if number else "\n")
            if row.query in seen:
                raise InputError(f"query {row.query!r} comes again later in the file; sort it by query first")
            seen.add(row.query)
            scores = dict(zip(row.docs, row.scores, strict=True))
            out.write(f"{json.dumps(row.query)}: {json.dumps(scores)}")
        out.write("\n}\n")

    if name.endswith(".gz"):
        # Without name and time, so that equal scores are equal files.
        with (
            path.open("wb") as raw,
            gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
            io.TextIOWrapper(packed, encoding="utf-8") as text,
        ):
            write(text)
    else:
        with path.open("w", encoding="utf-8") as out:
            write(out)


def _write_parquet(path: Path, rows: Iterator[Scored], name: str) -> None:
    schema = pa.schema(
        [
            ("query_id", pa.string()),
            ("passage_ids", pa.list_(pa.string())),
            ("scores", pa.list_(pa.float64())),
        ]
    )
    with pq.ParquetWriter(path, schema) as out:
        while block := list(islice(rows, 4096)):
            columns = [
                [row.query for row in block],
                [row.docs for row in block],
                [row.scores for row in block],
            ]
            out.write_table(pa.table(dict(zip(schema.names, columns, strict=True)), schema=schema))
