"""Sparse vectors as rows of scipy matrices, made without a copy too many."""

from __future__ import annotations

import numba
import numpy as np
import scipy.sparse as sp

from neural_sparse.text.ragged import offsets_of


class CsrRows:
    """Rows as they come; `scipy.sparse.vstack` would hold all of them twice.

    Args:
        width: columns.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._data = np.empty(0, np.float32)
        self._indices = np.empty(0, np.int32)
        self._lengths: list[np.ndarray] = []

    def append(self, rows: sp.csr_matrix) -> None:
        """Add rows [any, width]."""
        kept, more = len(self._data), rows.nnz
        # Large arrays grow in place (mremap), so what is there already is not copied.
        self._data.resize(kept + more, refcheck=False)
        self._indices.resize(kept + more, refcheck=False)
        self._data[kept:] = rows.data
        self._indices[kept:] = rows.indices
        self._lengths.append(np.diff(rows.indptr))

    def matrix(self) -> sp.csr_matrix:
        """All rows, float32; takes the arrays over, so nothing can be added any more."""
        lengths = np.concatenate([np.empty(0, np.int64), *self._lengths])
        indptr = offsets_of(lengths)
        data, indices = self._data, self._indices
        del self._data, self._indices
        return sp.csr_matrix((data, indices, indptr), shape=(len(lengths), self._width))


def nonzero_rows(dense: np.ndarray) -> sp.csr_matrix:
    """The non-zero entries of dense vectors, float32 [texts, vocabulary], which lie in memory row by row."""
    indptr = offsets_of(np.count_nonzero(dense, axis=1))
    indices, data = _gather_nonzero(dense, indptr)
    return sp.csr_matrix((data, indices, indptr), shape=dense.shape)


@numba.njit(cache=True, nogil=True)
def _gather_nonzero(array: np.ndarray, indptr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    indices = np.empty(indptr[-1], np.int32)
    data = np.empty(indptr[-1], np.float32)
    for row in range(array.shape[0]):
        place = indptr[row]
        for column in range(array.shape[1]):
            if array[row, column] != 0:
                indices[place] = column
                data[place] = array[row, column]
                place += 1
    return indices, data
