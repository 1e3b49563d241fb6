"""Selecting the k best documents: keys that sort by score, then document row, and a selection over them.

A key is an int64: the float32 score's bits, mapped so that integer order is numeric order, above the
complement of the document row. A greater key is a better hit and no two keys are equal, so ties need no care.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neural_sparse.search.compiled import compiled

ROW_MASK = 0xFFFFFFFF


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


@compiled
def write_hits(
    keys: NDArray[np.int64], n: int, k: int, docs: NDArray[np.int32], scores: NDArray[np.float32]
) -> None:
    """Sort the best min(n, k) of keys[:n] into docs [>= k] and scores [>= k]."""
    bits = np.empty(1, np.int32)
    score = bits.view(np.float32)
    if n > k:
        select_top(keys, n, k)
        n = k
    ordered = np.sort(keys[:n])
    for rank in range(n):
        key = ordered[n - 1 - rank]
        high = np.int32(key >> 32)
        bits[0] = high if high >= 0 else high ^ 0x7FFFFFFF
        docs[rank] = ROW_MASK - (key & ROW_MASK)
        scores[rank] = score[0]


@compiled
def top_of_row(
    row: NDArray[np.float32], base: int, k: int, docs: NDArray[np.int32], scores: NDArray[np.float32]
) -> None:
    """The k best of a dense row of scores of any sign; entry i belongs to document base + i."""
    capacity = k + max(k, 256)
    keys = np.empty(capacity, np.int64)
    score = np.empty(1, np.float32)
    bits = score.view(np.int32)
    n = 0
    threshold = np.float32(-np.inf)
    for i in range(len(row)):
        if row[i] > threshold:
            score[0] = row[i] + np.float32(0)  # -0.0 becomes 0.0
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
                high32 = np.int32(worst >> 32)
                bits[0] = high32 if high32 >= 0 else high32 ^ 0x7FFFFFFF
                threshold = score[0]
    write_hits(keys, n, k, docs, scores)
