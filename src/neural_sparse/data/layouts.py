"""Rows in the layouts that training data come in, made examples; the one check of {query, docs, scores}."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from neural_sparse.corpora.fields import as_text, document_fields, with_title
from neural_sparse.errors import InputError


class Example(NamedTuple):
    """A query and documents, or documents alone.

    Attributes:
        query: None where a source has documents that no query goes with.
        documents: the relevant one first, then hard negatives.
        scores: one per document, None where a teacher gave none; empty without scores.
    """

    query: str | None
    documents: tuple[str, ...]
    scores: tuple[float | None, ...] = ()


def checked_scores(
    query: Any, docs: Any, scores: Any, where: object, as_name: Callable[..., str] = as_text
) -> tuple[str, list[str], list[float | None]]:
    """Query, documents and scores of a row, null for a score that nobody knows; a repeated document once.

    Args:
        as_name: `as_text`, or `as_id` where ids stand for texts.

    Raises:
        InputError: lists of different length, a score that is no finite number, two scores of one document.
    """
    if not isinstance(docs, list) or not isinstance(scores, list) or len(docs) != len(scores):
        raise InputError(f"{where}: documents and scores must be lists of one length")
    name = as_name(query, where, "the query")
    found: dict[str, float | None] = {}
    for doc, score in zip(docs, scores, strict=True):
        if score is not None and not _is_finite(score):
            raise InputError(f"{where}: scores must be finite numbers or null, found {score!r:.60}")
        value = None if score is None else float(score)
        key = as_name(doc, where, "a document")
        if found.setdefault(key, value) != value:
            raise InputError(f"{where}: document {key!r:.80} has two scores, {found[key]} and {value}")
    return name, list(found), list(found.values())


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


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
LABEL = ("label", "score", "relevance", "similarity", "is_relevant", "is_duplicate", "grade")
IRRELEVANT = (
    *("false", "no", "irrelevant", "not_relevant", "not relevant", "negative", "contradiction", "neutral"),
    *("not_duplicate", "not_entailment", "nan"),
)
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")
EXPECTED = (
    '["query", "document"], ["query", "document", "negative"], {"set": [...]}, {query, pos}, {query, pos, negs} '
    "or {query, docs, scores}"
)


def examples_of(row: Any, fields: Mapping[str, str], where: object, draw: int = 0) -> list[Example]:
    """The examples of one row; several where a query has several relevant documents.

    A label or score that is not above 0 says that the documents are not relevant: such a row gives no example.

    Args:
        row: a list [query, relevant(, negative...)] or [query, document, label], or a mapping: {"set": [...]} (two
            of its texts, chosen by `draw`), {query, docs, scores}, {query, docs, labels}, or columns for the query,
            the relevant documents (a text or a list) and perhaps negatives or a label.
        fields: names of the columns "query", "positive", "negative", "label" where they are unusual.
        where: file and line, for messages.
        draw: any number; equal numbers choose equally.

    Raises:
        InputError: columns that are missing (those found are named), or values that are no texts.
    """
    if isinstance(row, Sequence) and not isinstance(row, str):
        return _from_list(row, where)
    if not isinstance(row, Mapping):
        raise InputError(f"{where}: expected {EXPECTED}, found {type(row).__name__}")
    if "set" in row and not fields:
        return _from_set(row["set"], where, draw)
    query_name = _column(row, fields, "query", QUERY)
    for name in ("scores", "labels"):
        if "docs" in row and name in row and query_name is not None:
            return _scored(
                row[query_name], row["docs"], scores=row[name], where=where, labels=name == "labels"
            )
    positive_name = _column(row, fields, "positive", [name for name in POSITIVE if name != query_name])
    if query_name is None or positive_name is None:
        lacking = "a query" if query_name is None else "a relevant document"
        raise InputError(
            f"{where}: no column for {lacking}; found: {', '.join(map(str, row)) or 'none'}. "
            f"Expected {EXPECTED}, or name the columns with --fields query=NAME,positive=NAME,negative=NAME"
        )
    query = _texts(row[query_name], where, query_name)
    if len(query) != 1:
        raise InputError(f"{where}, {query_name}: expected one text, found {len(query)}")
    negatives = _negatives(row, fields, where)
    positives = _texts(row[positive_name], where, positive_name)
    label_name = _column(row, fields, "label", LABEL)
    if label_name is None or label_name in (query_name, positive_name):
        return [Example(query[0], (text, *negatives)) for text in positives]
    labels = row[label_name]
    if not isinstance(labels, list):
        labels = [labels] * len(positives)
    if len(labels) != len(positives):
        raise InputError(
            f"{where}, {label_name}: {len(labels)} labels for {len(positives)} texts of {positive_name}"
        )
    relevant = [_is_relevant(label, where, label_name) for label in labels]
    found = list(zip(positives, relevant, strict=True))
    negatives += [text for text, judged in found if not judged]
    return [Example(query[0], (text, *negatives)) for text, judged in found if judged]


def _from_list(row: Sequence[Any], where: object) -> list[Example]:
    """[query, document], with a label behind it or negatives; a negative that is a number alone is none."""
    cells, label = list(row), None
    if len(cells) == 3 and _is_number(cells[2]):
        label = cells.pop()
    if len(cells) < 2:
        raise InputError(
            f"{where}: a list must hold a query, a document and perhaps negatives, all texts; found {len(cells)}"
        )
    texts = [as_text(cell, where, "each cell") for cell in cells]
    if label is not None and not _is_relevant(label, where):
        return []
    return [Example(texts[0], (texts[1], *(text for text in texts[2:] if not _is_number(text))))]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, str) and bool(_NUMBER.fullmatch(value)))


def _is_relevant(label: Any, where: object, name: str = "label") -> bool:
    """Whether a label or score says so: a number above 0, true, or a word that does not deny it; null says nothing.

    Raises:
        InputError: a list, an object, a number that is not finite.
    """
    if label is None:
        return True
    if isinstance(label, str) and not _is_number(label):
        return label.strip().lower() not in IRRELEVANT
    if not _is_number(label) or not math.isfinite(float(label)):
        raise InputError(
            f"{where}: {name} must be a number, above 0 for a relevant document, found {label!r:.60}; "
            "leave the column out, or turn it into numbers"
        )
    return float(label) > 0


def _column(row: Mapping[str, Any], fields: Mapping[str, str], role: str, names: Sequence[str]) -> str | None:
    if role in fields:
        return fields[role] if fields[role] in row else None
    return next((name for name in names if name in row), None)


def _negatives(row: Mapping[str, Any], fields: Mapping[str, str], where: object) -> list[str]:
    """All negatives of a row: one column of texts or lists, or numbered columns negative_1, negative_2, ..."""
    name = _column(row, fields, "negative", NEGATIVE)
    if name is None and "negative" in fields:
        raise InputError(f"{where}: no column {fields['negative']!r}; found: {', '.join(map(str, row))}")
    names = [name] if name is not None else [one for one in row if str(one).startswith("negative_")]
    found = (text for one in names for text in _texts(row[one], where, str(one)))
    return [text for text in found if text]


def _texts(value: Any, where: object, name: str) -> list[str]:
    """A text, a list of texts, or of {text, title?} mappings, as texts; null is an empty one."""
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return [
        with_title(*document_fields(one, where)) if isinstance(one, Mapping) else as_text(one, where, name)
        for one in values
    ]


def _from_set(texts: Any, where: object, draw: int) -> list[Example]:
    if not isinstance(texts, Sequence) or isinstance(texts, str):
        raise InputError(f"{where}: a set must be a list of texts")
    texts = [as_text(text, where, "a text of a set") for text in texts]
    if len(texts) < 2:
        return []
    first = draw % len(texts)
    second = (first + 1 + draw // len(texts) % (len(texts) - 1)) % len(texts)
    return [Example(texts[first], (texts[second],))]


def _scored(query: Any, documents: Any, scores: Any, where: object, labels: bool) -> list[Example]:
    """The best-scored document is the relevant one, or all of label 1; the rest are negatives, best first."""
    asked, texts, values = checked_scores(query, documents, scores, where)
    known = [value for value in values if value is not None]
    if not known or not any(known):  # nobody knows a score, or all are 0: none is said to be relevant
        return []
    order = sorted(range(len(values)), key=lambda at: _known(values[at]), reverse=True)
    relevant = order[:1]
    if labels or set(known) <= {0.0, 1.0}:
        relevant = [at for at in order if _known(values[at]) > 0]
    others = [at for at in order if at not in relevant]
    return [
        Example(
            asked,
            tuple(texts[at] for at in (first, *others)),
            () if labels else tuple(values[at] for at in (first, *others)),
        )
        for first in relevant
    ]


def _known(score: float | None) -> float:
    return -math.inf if score is None else score
