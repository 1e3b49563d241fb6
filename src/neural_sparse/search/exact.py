"""Exact search: term at a time within blocks of documents, top k by skipping what cannot enter.

A block of scores stays in the first-level cache, so accumulating, selecting and clearing it never touch main
memory, and the scratch does not grow with the corpus. Scores are summed in float64 and rounded to float32
once: they do not depend on the order of the terms. Groups of documents none of which beats the k-th best
score so far are skipped with one vectorised comparison; the others are collected, and each time the
collection is full, a selection keeps the best k (no heap, no pass over all documents).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neural_sparse.search.compiled import compiled
from neural_sparse.search.topk import ROW_MASK, select_top, write_hits

BLOCK = 4096  # documents; x 8 bytes = 32 KB
GROUP = 64


@compiled
def search_block_at_a_time(
    query_offsets: NDArray[np.int64],
    query_terms: NDArray[np.int32],
    query_weights: NDArray[np.float64],
    first: int,
    last: int,
    offsets: NDArray[np.int64],
    docs: NDArray[np.int32],
    impacts: NDArray[Any],
    n_docs: int,
    allowed: NDArray[np.bool_],
    k: int,
    out_docs: NDArray[np.int32],
    out_scores: NDArray[np.float32],
) -> None:
    """Fill rows first:last of out_docs and out_scores [queries, >= k] (preset to -1 and 0).

    allowed: bool [documents], which may be hits; empty for all of them.
    """
    filtered = len(allowed) > 0
    accumulator = np.zeros(BLOCK, np.float64)
    capacity = k + max(k, 256) + GROUP
    keys = np.empty(capacity, np.int64)
    score = np.empty(1, np.float32)
    bits = score.view(np.int32)
    for query in range(first, last):
        start = query_offsets[query]
        n_terms = query_offsets[query + 1] - start
        cursors = np.empty(n_terms, np.int64)
        ends = np.empty(n_terms, np.int64)
        for j in range(n_terms):
            cursors[j] = offsets[query_terms[start + j]]
            ends[j] = offsets[query_terms[start + j] + 1]
        n = 0
        threshold = 0.0
        for base in range(0, n_docs, BLOCK):
            limit = base + BLOCK
            touched = False
            for j in range(n_terms):
                cursor = cursors[j]
                end = ends[j]
                if cursor < end and docs[cursor] < limit:
                    touched = True
                    weight = query_weights[start + j]
                    while cursor < end:
                        doc = docs[cursor]
                        if doc >= limit:
                            break
                        accumulator[doc - base] += weight * impacts[cursor]
                        cursor += 1
                    cursors[j] = cursor
            if not touched:
                continue
            for group in range(0, BLOCK, GROUP):
                better = 0
                for i in range(group, group + GROUP):
                    better += accumulator[i] > threshold
                if better == 0:
                    continue
                for i in range(group, group + GROUP):
                    if accumulator[i] > threshold and not (filtered and not allowed[base + i]):
                        score[0] = accumulator[i]
                        keys[n] = (np.int64(bits[0]) << 32) | (ROW_MASK - (base + i))
                        n += 1
                if n > capacity - GROUP:
                    select_top(keys, n, k)
                    n = k
                    worst = keys[0]
                    for i in range(1, k):
                        worst = min(worst, keys[i])
                    # Later documents of an equal score rank behind, so only greater ones can enter.
                    bits[0] = np.int32(worst >> 32)
                    threshold = np.float64(score[0])
            accumulator[:] = 0.0
        write_hits(keys, n, k, out_docs[query], out_scores[query])
