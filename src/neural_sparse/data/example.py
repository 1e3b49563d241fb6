"""A training example on its way from a source to a prepared folder."""

from __future__ import annotations

from typing import NamedTuple


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
