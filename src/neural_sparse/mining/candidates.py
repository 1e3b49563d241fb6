"""Hard negatives from what retrievers rank high."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from neural_sparse.search import Hits


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
        int64 rows per query, at most `pool`, hardest first: all retrievers' first ranks, then all second
        ranks, and so on, each document once. Fewer where the retrievers found fewer.
    """
    results = []
    for query, known in enumerate(relevant):
        depth = max(ranking.docs.shape[1] for ranking in rankings)
        by_rank = np.full((depth, len(rankings)), -1, np.int64)
        for column, ranking in enumerate(rankings):
            by_rank[: ranking.docs.shape[1], column] = ranking.docs[query]
        flat = by_rank.ravel()
        _, first = np.unique(flat, return_index=True)
        ordered = flat[np.sort(first)]
        results.append(ordered[(ordered >= 0) & ~np.isin(ordered, list(known))][:pool])
    return results
