"""Selecting the k best documents: keys that sort by score, then document row, and a selection over them.

A key is an int64: the float32 score's bits, mapped so that integer order is numeric order, above the
complement of the document row. A greater key is a better hit and no two keys are equal, so ties need no care.
"""

from __future__ import annotations

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
    best_first = keys[:, ::-1]
    none = best_first == NO_HIT
    bits = (best_first >> 32).astype(np.int32)
    width = keys.shape[1]
    docs[:, :width] = np.where(none, -1, ROW_MASK - (best_first & ROW_MASK))
    scores[:, :width] = np.where(none, np.float32(0), bits.view(np.float32))


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
                if high < 0:
                    high ^= 0x7FFFFFFF
                keys[n] = (high << 32) | (ROW_MASK - (base + i))
                n += 1
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
        best[query, :n] = keys[:n]
        best[query, n:] = NO_HIT
