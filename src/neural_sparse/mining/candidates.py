"""Candidates for hard negatives: what retrievers rank high, as arrays [queries, candidates]."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from neural_sparse.search import Hits

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]


def union_by_rank(rankings: Sequence[NDArray[np.integer]]) -> Rows:
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


def compress(rows: Rows, keep: Mask) -> Rows:
    """The kept entries of each row moved to the front, in order; -1 behind. Both [queries, candidates]."""
    order = np.argsort(~keep, axis=1, kind="stable")
    return np.take_along_axis(np.where(keep, rows, -1), order, 1)


def among(rows: NDArray[np.integer], sets: Sequence[Collection[int]]) -> Mask:
    """Which entries of `rows` [queries, candidates] are in their query's set."""
    sizes = [len(one) for one in sets]
    members = np.fromiter((row for one in sets for row in one), np.int64, sum(sizes))
    width = max(int(rows.max(initial=0)), int(members.max(initial=0))) + 1
    codes = np.repeat(np.arange(len(sets)), sizes) * width + members
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
