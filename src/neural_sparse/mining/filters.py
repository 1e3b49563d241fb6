"""Filters against false negatives: pure functions of arrays [queries, candidates]."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
Scores = NDArray[np.float32]


def rank_window(known_relevant: Mask, present: Mask, first: int, last: int) -> tuple[Mask, Mask]:
    """Which candidates have ranks `first` to `last` (counted from 1), known relevant ones not counted.

    Args:
        known_relevant, present: bool [queries, candidates], candidates by rank.

    Returns:
        The candidates in the window, and the known relevant ones passed on the way to its end.
    """
    unknown = present & ~known_relevant
    rank = np.cumsum(unknown, axis=1)
    return unknown & (rank >= first) & (rank <= last), known_relevant & present & (rank < last)


def too_close(
    scores: Scores,
    positive: Scores,
    absolute_margin: float | None = None,
    relative_margin: float | None = None,
    max_score: float | None = None,
) -> Mask:
    """Candidates that a teacher scores so near the positive that they are probably relevant themselves.

    Positive-aware mining (NV-Retriever, arXiv 2407.15831, section 3): a negative has at most
    positive - absolute_margin (TopK-MarginPos), and at most positive - relative_margin * |positive|
    (TopK-PercPos with a percentage of 1 - relative_margin; the modulus keeps the bound below a positive
    that scores below 0, as logits of cross-encoders do), and at most max_score (TopK-Abs).

    Args:
        scores: float32 [queries, candidates].
        positive: float32 [queries].
    """
    bound = np.full(len(positive), np.inf)
    known = positive.astype(np.float64)
    if absolute_margin is not None:
        bound = np.minimum(bound, known - absolute_margin)
    if relative_margin is not None:
        bound = np.minimum(bound, known - relative_margin * np.abs(known))
    if max_score is not None:
        bound = np.minimum(bound, max_score)
    return scores > bound[:, None]


def pick(
    passing: Mask,
    order: NDArray[np.integer],
    count: int,
    judge: Callable[[Mask], Mask] | None = None,
) -> tuple[Mask, Mask]:
    """The first `count` candidates of each query that pass.

    Args:
        passing: bool [queries, candidates], what cheap filters let through.
        order: int [queries, candidates], the place of each candidate in the order of choice.
        judge: a filter too dear to run on everything: which of the marked candidates to drop. It sees no
            candidate twice, and only as many as are needed to find `count` that it lets through.

    Returns:
        The chosen ones and those that `judge` dropped, bool [queries, candidates].
    """
    chosen, dropped = np.zeros_like(passing), np.zeros_like(passing)
    open_ = passing.copy()
    while True:
        wanted = count - chosen.sum(1, keepdims=True)
        # Place of each open candidate among the open ones of its query.
        place = np.where(open_, order, np.iinfo(np.int64).max)
        rank = np.argsort(np.argsort(place, axis=1, kind="stable"), axis=1, kind="stable")
        now = open_ & (rank < wanted)
        if not now.any():
            return chosen, dropped
        bad = judge(now) & now if judge is not None else np.zeros_like(now)
        chosen |= now & ~bad
        dropped |= bad
        open_ &= ~now
