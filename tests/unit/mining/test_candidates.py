from __future__ import annotations

import numpy as np
import pytest

from neural_sparse.mining.filters import hard_negatives
from neural_sparse.search import Hits
from neural_sparse.training.inputs import candidate_pairs


def hits(rows: list[list[int]]) -> Hits:
    docs = np.array(rows, np.int32)
    return Hits(
        docs, np.where(docs < 0, -np.inf, -np.arange(docs.shape[1], dtype=np.float32)).astype(np.float32)
    )


def test_by_hand() -> None:
    first, second = hits([[3, 1, 4, 5], [7, -1, -1, -1]]), hits([[1, 9, 3], [-1, -1, -1]])
    mined = hard_negatives([first, second], [{4}, {0}], 3)
    # ranks in turn: 3 1 | 1 9 | 4 3 | 5 .; 4 is relevant
    assert [rows.tolist() for rows in mined] == [[3, 1, 9], [7]]
    assert hard_negatives([first], [{3, 1, 4, 5}, {7}], 9)[0].tolist() == []


@pytest.mark.parametrize("seed", range(6))
def test_equals_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries, pool = 5, int(rng.integers(1, 8))
    rankings = [
        hits(
            [
                [*rng.permutation(20)[: depth - holes], *[-1] * holes]
                for holes in rng.integers(0, depth, queries)
            ]
        )
        for depth in rng.integers(1, 9, 3)
    ]
    relevant = [set(rng.integers(0, 20, 4).tolist()) for _ in range(queries)]
    for query, mined in enumerate(hard_negatives(rankings, relevant, pool)):
        expected: list[int] = []
        for rank in range(10):
            for ranking in rankings:
                if rank < ranking.docs.shape[1]:
                    row = int(ranking.docs[query, rank])
                    if row >= 0 and row not in relevant[query] and row not in expected:
                        expected.append(row)
        assert mined.tolist() == expected[:pool]
        assert mined.dtype == np.int64


def test_pairs_of_positives_and_negatives() -> None:
    from neural_sparse.data.training_set import TrainingSet

    data = TrainingSet(["a", "a", "b"], list("vwxy"), np.array([0, 3, 2]))
    data.negatives = [np.array([1]), np.array([1]), np.array([], np.int64)]
    assert candidate_pairs(data).tolist() == [[0, 0], [0, 1], [1, 3], [1, 1], [2, 2]]
