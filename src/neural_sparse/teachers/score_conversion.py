"""Ids to texts and back: scores are published by id, and teachers are asked by text."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from neural_sparse.data.corpus_file import read_corpus
from neural_sparse.data.queries_file import read_queries
from neural_sparse.errors import InputError
from neural_sparse.teachers.score_files import Scored

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
