"""How sparse a set of vectors is."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch


def sparsity_stats(reps: torch.Tensor | sp.csr_matrix) -> dict[str, float]:
    """Statistics of vectors [texts, vocabulary].

    Returns:
        avg_nonzero_terms, min_nonzero_terms, max_nonzero_terms: per text;
        avg_l1_norm: mean sum of weights per text (the guide's "theoretical FLOPS");
        sparsity: share of zeros, 0 to 1;
        vocabulary_used: number of dimensions that are non-zero in at least one text.
    """
    if isinstance(reps, torch.Tensor):
        values = reps.detach().float()
        values = values.to_dense() if values.layout != torch.strided else values
        values = values.reshape(-1, values.shape[-1])
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
