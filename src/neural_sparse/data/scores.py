"""Scores of a query's documents in one row of a file, as training data and teachers read them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from neural_sparse.data.fields import as_text
from neural_sparse.errors import InputError


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
