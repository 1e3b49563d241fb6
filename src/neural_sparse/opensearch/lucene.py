"""What Lucene makes of a weight: FeatureField keeps 9 significant bits."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

MIN_WEIGHT = float(np.finfo(np.float32).tiny)  # FeatureField takes positive normal floats only


def truncated(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 weights >= 0 as FeatureField stores them: cut, not rounded, to 9 significant bits."""
    bits = np.ascontiguousarray(weights, np.float32).view(np.uint32)
    return (bits >> np.uint32(15) << np.uint32(15)).view(np.float32)


def stored(vectors: sp.csr_matrix) -> sp.csr_matrix:
    """Document vectors as the index holds them; weights too small to be stored are left out.

    >>> stored(sp.csr_matrix([[0.1, 0.0, 3.0]])).data.tolist()
    [0.099853515625, 3.0]
    """
    csr = sp.csr_matrix(vectors, dtype=np.float32, copy=True)
    csr.data = truncated(np.where(csr.data < MIN_WEIGHT, np.float32(0), csr.data))
    csr.eliminate_zeros()
    return csr
