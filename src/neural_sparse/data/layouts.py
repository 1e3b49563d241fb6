"""Rows in the layouts that training data come in, made examples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from neural_sparse.data.example import Example
from neural_sparse.errors import InputError

# Names that data sets give their columns, the likeliest first. A source of its own names goes by `fields`.
QUERY = ("query", "anchor", "question", "sentence1", "title")
POSITIVE = (
    "pos",
    "positive",
    "positives",
    "positive_passages",
    "answer",
    "answers",
    "passage",
    "document",
    "context",
    "abstract",
    "body",
    "text",
    "sentence2",
)
NEGATIVE = ("neg", "negs", "negative", "negatives", "negative_passages")
EXPECTED = (
    '["query", "document"], ["query", "document", "negative"], {"set": [...]}, {query, pos}, {query, pos, negs} '
    "or {query, docs, scores}"
)


def examples_of(row: Any, fields: Mapping[str, str], where: str, draw: int = 0) -> list[Example]:
    """The examples of one row; several where a query has several relevant documents.

    Args:
        row: a list [query, relevant(, negative...)], or a mapping: {"set": [...]} (two of its texts, chosen
            by `draw`), {query, docs, scores}, or columns for the query, the relevant documents (a text or a
            list) and perhaps negatives.
        fields: names of the columns "query", "positive", "negative" where they are unusual.
        where: file and line, for messages.
        draw: any number; equal numbers choose equally.

    Raises:
        InputError: columns that are missing (those found are named), or values that are no texts.
    """
    if isinstance(row, Sequence) and not isinstance(row, str):
        if len(row) < 2 or not all(isinstance(text, str) for text in row):
            raise InputError(
                f"{where}: a list must hold a query, a document and perhaps negatives, all texts"
            )
        return [Example(row[0], tuple(row[1:]))]
    if not isinstance(row, Mapping):
        raise InputError(f"{where}: expected {EXPECTED}, found {type(row).__name__}")
    if "set" in row and not fields:
        return _from_set(row["set"], where, draw)
    query_name = _column(row, fields, "query", QUERY)
    if "docs" in row and "scores" in row and query_name is not None:
        return [_scored(row[query_name], row["docs"], row["scores"], where)]
    positive_name = _column(row, fields, "positive", [name for name in POSITIVE if name != query_name])
    if query_name is None or positive_name is None:
        lacking = "a query" if query_name is None else "a relevant document"
        raise InputError(
            f"{where}: no column for {lacking}; found: {', '.join(map(str, row)) or 'none'}. "
            f"Expected {EXPECTED}, or name the columns with --fields query=NAME,positive=NAME,negative=NAME"
        )
    query = _texts(row[query_name], f"{where}, {query_name}")
    if len(query) != 1:
        raise InputError(f"{where}, {query_name}: expected one text, found {len(query)}")
    negatives = _negatives(row, fields, where)
    return [
        Example(query[0], (text, *negatives))
        for text in _texts(row[positive_name], f"{where}, {positive_name}")
    ]


def _column(row: Mapping[str, Any], fields: Mapping[str, str], role: str, names: Sequence[str]) -> str | None:
    if role in fields:
        return fields[role] if fields[role] in row else None
    return next((name for name in names if name in row), None)


def _negatives(row: Mapping[str, Any], fields: Mapping[str, str], where: str) -> list[str]:
    """All negatives of a row: one column of texts or lists, or numbered columns negative_1, negative_2, ..."""
    name = _column(row, fields, "negative", NEGATIVE)
    if name is None and "negative" in fields:
        raise InputError(f"{where}: no column {fields['negative']!r}; found: {', '.join(map(str, row))}")
    if name is not None:
        return [] if row[name] is None else _texts(row[name], f"{where}, {name}")
    numbered = [name for name in row if isinstance(name, str) and name.startswith("negative_")]
    return [text for name in numbered for text in _texts(row[name], f"{where}, {name}")]


def _texts(value: Any, where: str) -> list[str]:
    """A text, a list of texts, or of {text, title?} mappings, as texts."""
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    texts = [
        f"{one.get('title') or ''} {one['text']}".strip()
        if isinstance(one, Mapping) and "text" in one
        else one
        for one in values
    ]
    if not all(isinstance(text, str) for text in texts):
        raise InputError(f"{where}: expected a text or a list of texts, found {value!r:.80}")
    return texts


def _from_set(texts: Any, where: str, draw: int) -> list[Example]:
    if (
        not isinstance(texts, Sequence)
        or isinstance(texts, str)
        or not all(isinstance(t, str) for t in texts)
    ):
        raise InputError(f"{where}: a set must be a list of texts")
    if len(texts) < 2:
        return []
    first = draw % len(texts)
    second = (first + 1 + draw // len(texts) % (len(texts) - 1)) % len(texts)
    return [Example(texts[first], (texts[second],))]


def _scored(query: Any, documents: Any, scores: Any, where: str) -> Example:
    """The best-scored document is the relevant one; the rest are negatives, best first."""
    if (
        not isinstance(query, str)
        or not isinstance(documents, Sequence)
        or not isinstance(scores, Sequence)
        or len(documents) != len(scores)
        or not all(isinstance(text, str) for text in documents)
    ):
        raise InputError(f"{where}: query must be a text, docs texts, and scores as many numbers")
    for score in scores:
        if score is not None and (
            isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score)
        ):
            raise InputError(f"{where}: scores must be finite numbers or null, found {score!r}")
    if all(score is None for score in scores):
        raise InputError(f"{where}: no document has a score")
    order = sorted(
        range(len(scores)), key=lambda at: -math.inf if scores[at] is None else scores[at], reverse=True
    )
    return Example(
        query,
        tuple(documents[at] for at in order),
        tuple(None if scores[at] is None else float(scores[at]) for at in order),
    )
