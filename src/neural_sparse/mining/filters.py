"""Candidates for hard negatives and filters against false ones: pure functions of arrays [queries, candidates]."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from neural_sparse.search import Hits
from neural_sparse.text.ragged import Indices, segment_ids

Mask = NDArray[np.bool_]


def union_by_rank(rankings: Sequence[NDArray[np.integer]]) -> Indices:
    """All rankings' first ranks, then all second ranks, and so on, each document once.

    Args:
        rankings: document rows [queries, depth] of each retriever, -1 where it found fewer; depths may differ.

    Returns:
        int64 [queries, sum of depths], the rest filled with -1.

    >>> union_by_rank([np.array([[4, 2]]), np.array([[7, 4]])])
    array([[ 4,  7,  2, -1]])
    """
    depth = max(ranking.shape[1] for ranking in rankings)
    by_rank = np.full((len(rankings[0]), depth, len(rankings)), -1, np.int64)
    for column, ranking in enumerate(rankings):
        by_rank[:, : ranking.shape[1], column] = ranking
    flat = by_rank.reshape(len(by_rank), -1)
    if len(rankings) > 1:
        order = np.argsort(flat, axis=1, kind="stable")
        ordered = np.take_along_axis(flat, order, 1)
        again = np.zeros(flat.shape, np.bool_)
        np.put_along_axis(again, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], 1)
        flat = np.where(again, -1, flat)
    return compress(flat, flat >= 0)[:, : sum(ranking.shape[1] for ranking in rankings)]


def compress(rows: Indices, keep: Mask) -> Indices:
    """The kept entries of each row moved to the front, in order; -1 behind. Both [queries, candidates]."""
    order = np.argsort(~keep, axis=1, kind="stable")
    return np.take_along_axis(np.where(keep, rows, -1), order, 1)


def among(rows: NDArray[np.integer], sets: Sequence[Collection[int]]) -> Mask:
    """Which entries of `rows` [queries, candidates] are in their query's set."""
    sizes = np.array([len(one) for one in sets], np.int64)
    members = np.fromiter((row for one in sets for row in one), np.int64, sizes.sum())
    width = max(int(rows.max(initial=0)), int(members.max(initial=0))) + 1
    codes = segment_ids(sizes) * width + members
    return np.isin(np.arange(len(rows))[:, None] * width + rows, codes) & (rows >= 0)


def hard_negatives(
    rankings: Sequence[Hits], relevant: Sequence[Collection[int]], pool: int
) -> list[np.ndarray]:
    """The best-ranked documents that are not known to be relevant, a union of rankings by rank.

    Args:
        rankings: one per retriever, all over the same queries and documents; each should be at least
            `pool` plus the largest number of relevant documents deep.
        relevant: document rows known to be relevant, per query.
        pool: how many to keep per query.

    Returns:
        int64 rows per query, at most `pool`, hardest first. Fewer where the retrievers found fewer.

    >>> bm25 = Hits(np.array([[4, 2, 0]]), np.array([[9.0, 5.0, 4.0]]))
    >>> dense = Hits(np.array([[7, 4, 2]]), np.array([[0.8, 0.7, 0.1]]))
    >>> hard_negatives([bm25, dense], relevant=[{4}], pool=2)
    [array([7, 2])]
    """
    union = union_by_rank([ranking.docs for ranking in rankings])
    kept = compress(union, (union >= 0) & ~among(union, relevant))[:, :pool]
    return [row[row >= 0] for row in kept]


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
