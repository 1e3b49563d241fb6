"""More documents of the shape that a model gives, mixed of those that are there: for times in larger collections."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from neural_sparse.search.compiled import compiled

SHARE = 0.75  # of a document's terms, and the rest of another's
VARY = 0.15  # standard deviation of the logarithm of weights


def mixed(vectors: sp.csr_matrix, rows: int, seed: int) -> sp.csr_matrix:
    """Documents that are each three quarters of the terms of one and a quarter of another's, weights varied by 15%.

    Drawn again and again as they are, documents would have equal scores by the thousand, which nothing can skip.

    Args:
        vectors: csr [documents, vocabulary], at least one.

    Returns:
        csr float32 [rows, vocabulary], indices sorted.
    """
    longest = 2 * int(np.diff(vectors.indptr).max())
    indptr = np.zeros(rows + 1, np.int64)
    indices, data = np.empty(rows * longest, np.int32), np.empty(rows * longest, np.float32)
    arrays = (
        vectors.indptr.astype(np.int64),
        vectors.indices.astype(np.int32),
        vectors.data.astype(np.float32),
    )
    end = _mix(*arrays, seed, vectors.shape[1], out_indptr=indptr, out_indices=indices, out_data=data)
    found = sp.csr_matrix((data[:end].copy(), indices[:end].copy(), indptr), shape=(rows, vectors.shape[1]))
    found.sort_indices()
    return found


@compiled
def _mix(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    data: NDArray[np.float32],
    seed: int,
    width: int,
    out_indptr: NDArray[np.int64],
    out_indices: NDArray[np.int32],
    out_data: NDArray[np.float32],
) -> int:
    """How many places of `out_indices` and `out_data` were written."""
    np.random.seed(seed)  # noqa: NPY002  (what numba compiles)
    weights = np.zeros(width, np.float32)
    place = 0
    for row in range(len(out_indptr) - 1):
        pair = np.random.randint(0, len(indptr) - 1), np.random.randint(0, len(indptr) - 1)  # noqa: NPY002
        for side in range(2):
            for i in range(indptr[pair[side]], indptr[pair[side] + 1]):
                if np.random.random() < (SHARE if side == 0 else 1 - SHARE):  # noqa: NPY002
                    weight = data[i] * np.exp(np.random.normal(0, VARY))  # noqa: NPY002
                    weights[indices[i]] = max(weights[indices[i]], weight)
        for side in range(2):
            for i in range(indptr[pair[side]], indptr[pair[side] + 1]):
                if weights[indices[i]] > 0:
                    out_indices[place] = indices[i]
                    out_data[place] = weights[indices[i]]
                    weights[indices[i]] = 0
                    place += 1
        out_indptr[row + 1] = place
    return place
