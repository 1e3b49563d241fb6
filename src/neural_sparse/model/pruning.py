"""Pruning document vectors (a smaller index for a little relevance), and how sparse they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numba
import numpy as np
import scipy.sparse as sp

from neural_sparse.errors import InputError
from neural_sparse.text.ragged import offsets_of

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Pruning:
    """What of a document's vector is kept.

    Attributes:
        max_ratio: terms that weigh less than this share of the document's heaviest are dropped (OpenSearch's
            `max_ratio`).
        top_k: at most this many terms, the heaviest; among equals those of lower ids.

    Raises:
        InputError: a ratio outside [0, 1), a `top_k` below 1.
    """

    max_ratio: float = 0.0
    top_k: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.max_ratio < 1:
            raise InputError(f"max_ratio must be at least 0 and below 1, not {self.max_ratio}")
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"top_k must be at least 1, not {self.top_k}")

    def __call__(self, vectors: sp.csr_matrix) -> sp.csr_matrix:
        """The vectors without what is pruned; the same object if nothing would be."""
        if not self.max_ratio and self.top_k is None:
            return vectors
        limit = vectors.shape[1] if self.top_k is None else self.top_k
        keep = _kept(
            vectors.indptr, vectors.indices, data=vectors.data, ratio=np.float32(self.max_ratio), limit=limit
        )
        indptr = offsets_of(keep)[vectors.indptr]
        return sp.csr_matrix((vectors.data[keep], vectors.indices[keep], indptr), shape=vectors.shape)


@numba.njit(cache=True, nogil=True)
def _kept(
    indptr: np.ndarray, indices: np.ndarray, data: np.ndarray, ratio: np.float32, limit: int
) -> np.ndarray:
    keep = np.zeros(len(data), np.bool_)
    for row in range(len(indptr) - 1):
        start, end = indptr[row], indptr[row + 1]
        if start == end:
            continue
        weights = data[start:end]
        floor = weights.max() * ratio
        if end - start > limit:
            order = np.argsort(-weights, kind="mergesort")  # stable: lower ids first among equals
            for place in order[:limit]:
                keep[start + place] = weights[place] >= floor
        else:
            for place in range(end - start):
                keep[start + place] = weights[place] >= floor
    return keep


def sparsity_stats(reps: torch.Tensor | sp.csr_matrix) -> dict[str, float]:
    """Statistics of vectors [texts, vocabulary].

    Returns:
        avg_nonzero_terms, min_nonzero_terms, max_nonzero_terms: per text;
        avg_l1_norm: mean sum of weights per text (the guide's "theoretical FLOPS");
        sparsity: share of zeros, 0 to 1;
        vocabulary_used: number of dimensions that are non-zero in at least one text.
    """
    if not sp.issparse(reps):
        values = reps.detach().float()
        values = values.to_dense().reshape(-1, values.shape[-1])
        nonzero = (values != 0).sum(1).cpu().numpy()
        l1 = values.abs().sum(1).cpu().numpy()
        used = int((values != 0).any(0).sum())
        width = values.shape[1]
    else:
        matrix = sp.csr_matrix(reps)
        if not matrix.data.all():
            matrix = matrix.copy()  # the caller's stays as it is
            matrix.eliminate_zeros()
        nonzero = np.diff(matrix.indptr)
        l1 = np.asarray(abs(matrix).sum(axis=1)).ravel()
        used = len(np.unique(matrix.indices))
        width = matrix.shape[1]
    if len(nonzero) == 0:
        nonzero, l1 = np.zeros(1), np.zeros(1)
    return {
        "avg_nonzero_terms": float(nonzero.mean()),
        "min_nonzero_terms": float(nonzero.min()),
        "max_nonzero_terms": float(nonzero.max()),
        "avg_l1_norm": float(l1.mean()),
        "sparsity": float(1 - nonzero.mean() / width),
        "vocabulary_used": float(used),
    }
