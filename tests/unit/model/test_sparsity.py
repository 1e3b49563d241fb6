from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from neural_sparse.model.pruning import sparsity_stats

DENSE = torch.tensor([[0.0, 2.0, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
BY_HAND = {
    "avg_nonzero_terms": 1.0,
    "min_nonzero_terms": 0.0,
    "max_nonzero_terms": 2.0,
    "avg_l1_norm": 3.5 / 3,
    "sparsity": 1 - 3 / 12,
    "vocabulary_used": 2.0,
}


@pytest.mark.parametrize(
    "reps",
    [
        DENSE,
        DENSE.to_sparse(),
        DENSE.to_sparse_csr(),
        DENSE.clone().requires_grad_(),
        DENSE.bfloat16(),
        sp.csr_matrix(DENSE.numpy()),
        sp.csc_matrix(DENSE.numpy()),
    ],
    ids=["dense", "coo", "csr", "grad", "bf16", "scipy-csr", "scipy-csc"],
)
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_by_hand(reps: torch.Tensor | sp.csr_matrix) -> None:
    assert sparsity_stats(reps) == pytest.approx(BY_HAND)


def test_one_vector_and_none() -> None:
    assert sparsity_stats(DENSE[0])["avg_nonzero_terms"] == 2
    for nothing in (torch.zeros(0, 4), sp.csr_matrix((0, 4), dtype=np.float32)):
        stats = sparsity_stats(nothing)
        assert stats["avg_nonzero_terms"] == stats["avg_l1_norm"] == 0
        assert stats["sparsity"] == 1


def test_stored_zeros_do_not_count_and_the_matrix_stays_as_it_is() -> None:
    matrix = sp.csr_matrix((np.array([0.0, 3.0], np.float32), [1, 2], [0, 2]), shape=(1, 4))
    assert sparsity_stats(matrix)["avg_nonzero_terms"] == 1
    assert matrix.nnz == 2
