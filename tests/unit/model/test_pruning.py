"""Pruning against the definition."""

import numpy as np
import pytest
import scipy.sparse as sp

from neural_sparse.errors import InputError
from neural_sparse.model.pruning import Pruning


def plain(row: np.ndarray, max_ratio: float, top_k: int | None) -> np.ndarray:
    kept = np.where(row >= np.float32(max_ratio) * row.max(), row, 0)
    if top_k is not None:
        lightest = sorted(range(len(row)), key=lambda term: (-row[term], term))[top_k:]
        kept[lightest] = 0
    return kept


@pytest.mark.parametrize("max_ratio", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("top_k", [None, 1, 3, 100])
@pytest.mark.parametrize("seed", range(3))
def test_is_the_definition(max_ratio: float, top_k: int | None, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Few different values, so that many are equal; rows without any.
    dense = (rng.integers(0, 4, (12, 30)) * (rng.random((12, 30)) < 0.4)).astype(np.float32)
    dense[[0, 5]] = 0
    pruned = Pruning(max_ratio, top_k)(sp.csr_matrix(dense))
    np.testing.assert_array_equal(pruned.toarray(), [plain(row, max_ratio, top_k) for row in dense])
    assert pruned.has_sorted_indices
    assert (pruned.data > 0).all()


def test_nothing_to_do() -> None:
    vectors = sp.csr_matrix(np.eye(3, dtype=np.float32))
    assert Pruning()(vectors) is vectors


@pytest.mark.parametrize("settings", [{"max_ratio": 1.0}, {"max_ratio": -0.1}, {"top_k": 0}])
def test_refuses(settings: dict[str, float]) -> None:
    with pytest.raises(InputError):
        Pruning(**settings)
