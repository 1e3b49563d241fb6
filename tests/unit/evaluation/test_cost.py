from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix, random_array

from neural_sparse.errors import InputError
from neural_sparse.evaluation.cost import Cost, flops_metric, measure_cost

DOCS = csr_matrix(np.array([[1.0, 0.5, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 0]], dtype=np.float32))
QUERIES = csr_matrix(np.array([[1.0, 0, 0, 3.0], [0, 2.0, 0, 0]], dtype=np.float32))


def test_figures_worked_by_hand() -> None:
    cost = measure_cost(QUERIES, DOCS, vocabulary=["the", "cat", "sat", "mat"], index_bytes=99)
    assert cost.flops == pytest.approx(1 / 2 * 2 / 3 + 1 / 2 * 1 / 3)
    assert cost.doc_l1 == pytest.approx(3.5 / 3)
    assert cost.doc_terms == pytest.approx(1.0)
    assert cost.query_terms == pytest.approx(1.5)
    assert cost.empty_documents == 1
    assert cost.longest_postings == [("the", pytest.approx(2 / 3)), ("cat", pytest.approx(1 / 3))]
    assert cost.saturation == pytest.approx(0.5)
    assert cost.index_bytes == 99
    assert Cost.from_dict(cost.to_dict()) == cost


def test_flops_is_the_mean_number_of_shared_terms_over_all_pairs() -> None:
    rng = np.random.default_rng(3)
    for shape in ((5, 7, 30), (1, 1, 4), (20, 3, 11)):
        queries = csr_matrix(random_array((shape[0], shape[2]), density=0.3, rng=rng))
        docs = csr_matrix(random_array((shape[1], shape[2]), density=0.4, rng=rng))
        pairs = (queries.toarray() > 0).astype(float) @ (docs.toarray() > 0).T
        assert flops_metric(queries, docs) == pytest.approx(pairs.mean(), abs=1e-12)


def test_stored_zeros_are_not_terms() -> None:
    docs = csr_matrix((np.array([0.0, 2.0]), np.array([0, 1]), np.array([0, 2])), shape=(1, 4))
    assert flops_metric(QUERIES, docs) == pytest.approx(0.5)
    assert measure_cost(QUERIES, docs).doc_terms == 1


def test_other_vocabularies_are_refused() -> None:
    with pytest.raises(InputError, match="same tokenizer"):
        flops_metric(QUERIES[:, :3], DOCS)
    with pytest.raises(InputError, match="at least one"):
        measure_cost(QUERIES[:0], DOCS)
