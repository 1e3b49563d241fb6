"""Exact search: term at a time within blocks of documents, top k by skipping what cannot enter.

A block of scores stays in the first-level cache, so accumulating, selecting and clearing it never touch main
memory, and the scratch does not grow with the corpus. Products of float32 numbers are exact in float64; scores
are summed there and rounded to float32 once, so that the order of the terms does not show. Groups of documents
none of which beats the threshold are skipped with one vectorised comparison; the others become candidates. A
histogram of the candidates' scores tells at once when k of them reach a higher score, which becomes the
threshold: no heap is kept, and a selection is needed only when many scores are nearly equal.

A candidate is an int64 key: the float32 score's bits, mapped so that integer order is numeric order, above the
complement of the document row. A greater key is a better hit and no two keys are equal, so ties need no care.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neural_sparse.search.compiled import compiled

ROW_MASK = 0xFFFFFFFF
NO_HIT = -(2**63)


@compiled
def select_top(keys: NDArray[np.int64], n: int, k: int) -> None:
    """Reorder keys[:n] so that its k greatest come first, in no particular order (Hoare's selection)."""
    low, high, target = 0, n - 1, k - 1
    while low < high:
        # Part keys[low..high] around a pivot, then go on with the side that holds place k - 1.
        pivot = keys[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while keys[i] > pivot:
                i += 1
            while keys[j] < pivot:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                i += 1
                j -= 1
        if target <= j:
            high = j
        elif target >= i:
            low = i
        else:
            return


def write_hits(keys: NDArray[np.int64], docs: NDArray[np.int32], scores: NDArray[np.float32]) -> None:
    """Sort keys [queries, n] of positive scores in place; write them, best first, to docs and scores.

    docs, scores: [queries, >= n]. NO_HIT becomes document -1 with score 0.
    """
    keys.sort(axis=1)  # numpy's sort is vectorised, numba's is not
    _write_sorted(keys, docs, scores)


@compiled
def _write_sorted(keys: NDArray[np.int64], docs: NDArray[np.int32], scores: NDArray[np.float32]) -> None:
    score = np.empty(1, np.float32)
    bits = score.view(np.int32)
    last = keys.shape[1] - 1
    for query in range(len(keys)):
        for place in range(last + 1):
            key = keys[query, last - place]
            if key == NO_HIT:
                docs[query, place], scores[query, place] = -1, 0
            else:
                bits[0] = np.int32(key >> 32)
                docs[query, place] = ROW_MASK - (key & ROW_MASK)
                scores[query, place] = score[0]


@compiled
def top_of_rows(block: NDArray[np.float32], base: int, k: int, best: NDArray[np.int64]) -> None:
    """Fill best [queries, k] with the keys of the k best of each dense row, unsorted, NO_HIT behind.

    block: [queries, documents], scores of any sign; column i belongs to document base + i.
    """
    capacity = k + max(k, 256)
    keys = np.empty(capacity, np.int64)
    score = np.empty(1, np.float32)
    bits = score.view(np.int32)
    for query in range(len(block)):
        n = 0
        threshold = np.float32(-np.inf)
        for i in range(block.shape[1]):
            if block[query, i] > threshold:
                score[0] = block[query, i] + np.float32(0)  # -0.0 becomes 0.0
                high = np.int64(bits[0])
                if high < 0:  # negative floats grow downwards as integers
                    high ^= 0x7FFFFFFF
                keys[n] = (high << 32) | (ROW_MASK - (base + i))
                n += 1
                # Full: keep the k best; the worst of them is what the next ones have to beat.
                if n == capacity:
                    select_top(keys, n, k)
                    n = k
                    worst = keys[0]
                    for j in range(1, k):
                        worst = min(worst, keys[j])
                    worst_high = np.int32(worst >> 32)
                    bits[0] = worst_high if worst_high >= 0 else worst_high ^ 0x7FFFFFFF
                    threshold = score[0]
        if n > k:
            select_top(keys, n, k)
            n = k
        for i in range(n):
            best[query, i] = keys[i]
        best[query, n:] = NO_HIT


BLOCK = 4096  # documents; x 8 bytes = 32 KB
GROUP = 64
SHIFT = 16  # a bucket of the histogram is a float32 without its last 16 bits: steps of less than 1 percent


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
    best: NDArray[np.int64],
) -> None:
    """Fill best [last - first, k] with the keys of each query's k best, unsorted, NO_HIT behind.

    allowed: bool [documents], which may be hits; empty for all of them.
    """
    filtered = len(allowed) > 0
    accumulator = np.zeros(BLOCK, np.float64)  # scores of the block at hand; all 0 between blocks
    capacity = 2 * k + 1024
    keys = np.empty(capacity, np.int64)
    found = np.empty(GROUP + 1, np.int64)
    histogram = np.zeros(1 << (31 - SHIFT), np.int32)
    score = np.empty(1, np.float32)
    bits = score.view(np.int32)  # the same four bytes: positive floats are ordered as their bits are
    for query in range(first, last):
        # A cursor into each posting list; lists are sorted by document, so it only moves forward.
        start = query_offsets[query]
        n_terms = query_offsets[query + 1] - start
        cursors = np.empty(n_terms, np.int64)
        ends = np.empty(n_terms, np.int64)
        for j in range(n_terms):
            cursors[j] = offsets[query_terms[start + j]]
            ends[j] = offsets[query_terms[start + j] + 1]
        n = 0
        threshold = 0.0
        lowest = 0  # bucket of the threshold
        reached = 0  # candidates in this bucket and above
        histogram[:] = 0
        for base in range(0, n_docs, BLOCK):
            # 1. Accumulate: every term adds weight x impact to the documents of this block that hold it.
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
            # 2. Select: only what is above the threshold becomes a candidate.
            for group in range(0, BLOCK, GROUP):
                better = 0  # one vectorised comparison tells whether the group is worth a closer look
                for i in range(group, group + GROUP):
                    better += accumulator[i] > threshold
                if better == 0:
                    continue
                # `found` is written for each document; the place only advances for those above the threshold.
                hits = 0
                for i in range(group, group + GROUP):  # without a branch, which would be mispredicted
                    found[hits] = i
                    hits += accumulator[i] > threshold
                for j in range(hits):
                    doc = base + found[j]
                    if filtered and not allowed[doc]:
                        continue
                    score[0] = accumulator[found[j]]
                    if bits[0] == 0:  # rounded to no score at all
                        continue
                    keys[n] = (np.int64(bits[0]) << 32) | (ROW_MASK - doc)
                    n += 1
                    # Count it by its score's leading bits, for the threshold below.
                    bucket = bits[0] >> SHIFT
                    if bucket >= lowest:
                        histogram[bucket] += 1
                        reached += 1
                # 3. Raise the threshold to the highest bucket that k candidates reach or exceed. Later documents of
                # an equal score rank behind, so from then on only greater scores can enter.
                if reached - histogram[lowest] >= k:
                    while reached - histogram[lowest] >= k:
                        reached -= histogram[lowest]
                        lowest += 1
                    bits[0] = lowest << SHIFT
                    threshold = max(threshold, np.float64(score[0]))
                # 4. The buckets are too coarse for many scores that are nearly equal: then select among the keys.
                if n > capacity - GROUP:
                    select_top(keys, n, k)
                    n = k
                    worst = keys[0]
                    for i in range(1, k):
                        worst = min(worst, keys[i])
                    bits[0] = np.int32(worst >> 32)
                    threshold = np.float64(score[0])
            accumulator[:] = 0.0
        if n > k:
            select_top(keys, n, k)
            n = k
        for i in range(n):
            best[query - first, i] = keys[i]
        best[query - first, n:] = NO_HIT
