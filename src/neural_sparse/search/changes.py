"""Posting lists with documents added, removed or stored in 8 bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neural_sparse.search.compiled import compiled
from neural_sparse.search.postings import Postings


def join(parts: Sequence[Postings]) -> Postings:
    """The documents of the first, then of the second, ... (float32, of one width)."""
    offsets = np.sum([part.offsets for part in parts], axis=0)
    docs = np.empty(offsets[-1], np.int32)
    impacts = np.empty(offsets[-1], np.float32)
    heads = offsets[:-1].copy()
    base = 0
    for part in parts:
        append_terms(part.offsets, part.docs, part.impacts, base, heads, docs, impacts)
        base += part.n_docs
    return Postings(offsets, docs, impacts, base)


def keep_documents(postings: Postings, rows: NDArray[np.bool_]) -> Postings:
    """Only the rows marked True in bool [documents], numbered anew in their order."""
    renumbered = np.cumsum(rows, dtype=np.int64).astype(np.int32) - np.int32(1)
    kept = _count_kept(postings.offsets, postings.docs, rows)
    offsets = np.zeros(len(postings.offsets), np.int64)
    np.cumsum(kept, out=offsets[1:])
    docs = np.empty(offsets[-1], np.int32)
    impacts = np.empty(offsets[-1], postings.impacts.dtype)
    _copy_kept(postings.docs, postings.impacts, rows, renumbered, docs, impacts)
    return Postings(offsets, docs, impacts, int(rows.sum()), postings.scale)


def quantized(postings: Postings) -> Postings:
    """Impacts as one byte, in steps of a 255th of the greatest; the smallest become 1 step, never 0."""
    scale = impact_step(float(postings.impacts.max(initial=0)))
    return Postings(
        postings.offsets, postings.docs, to_steps(postings.impacts, scale), postings.n_docs, scale
    )


def impact_step(greatest: float) -> float:
    return greatest / 255 if greatest > 0 else 1.0


def to_steps(impacts: NDArray[np.float32], scale: float) -> NDArray[np.uint8]:
    steps = np.empty(len(impacts), np.uint8)
    _round_to_steps(impacts, 1 / scale, steps)
    return steps


@compiled
def append_terms(
    offsets: NDArray[np.int64],
    docs: NDArray[np.int32],
    impacts: NDArray[np.float32],
    base: int,
    heads: NDArray[np.int64],
    out_docs: NDArray[np.int32],
    out_impacts: NDArray[np.float32],
) -> None:
    """Append each term's postings at heads [terms], documents shifted by `base`.

    `docs` and `impacts` begin with the first term; `offsets` need not begin at 0.
    """
    for term in range(len(offsets) - 1):
        place = heads[term]
        for i in range(offsets[term] - offsets[0], offsets[term + 1] - offsets[0]):
            out_docs[place] = docs[i] + base
            out_impacts[place] = impacts[i]
            place += 1
        heads[term] = place


@compiled
def _count_kept(
    offsets: NDArray[np.int64], docs: NDArray[np.int32], rows: NDArray[np.bool_]
) -> NDArray[np.int64]:
    kept = np.zeros(len(offsets) - 1, np.int64)
    for term in range(len(kept)):
        for i in range(offsets[term], offsets[term + 1]):
            kept[term] += rows[docs[i]]
    return kept


@compiled
def _copy_kept(
    docs: NDArray[np.int32],
    impacts: NDArray[Any],
    rows: NDArray[np.bool_],
    renumbered: NDArray[np.int32],
    out_docs: NDArray[np.int32],
    out_impacts: NDArray[Any],
) -> None:
    place = 0
    for i in range(len(docs)):
        if rows[docs[i]]:
            out_docs[place] = renumbered[docs[i]]
            out_impacts[place] = impacts[i]
            place += 1


@compiled
def _round_to_steps(impacts: NDArray[np.float32], factor: float, steps: NDArray[np.uint8]) -> None:
    for i in range(len(impacts)):
        steps[i] = min(255, max(1, int(impacts[i] * factor + 0.5)))
