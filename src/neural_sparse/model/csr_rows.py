"""A csr matrix that grows by rows, in the memory of the result alone."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp


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
        indptr = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
        data, indices = self._data, self._indices
        del self._data, self._indices
        return sp.csr_matrix((data, indices, indptr), shape=(len(lengths), self._width))
