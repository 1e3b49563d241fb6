from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.sparse as sp

from neural_sparse import InputError
from neural_sparse.opensearch.features import (
    escaped,
    neural_sparse_query,
    query_tokens,
    rank_feature_query,
    vector_objects,
)


def test_names_without_dots() -> None:
    assert escaped(["cat", ".", "...", "##.", "%", ""]) == ["cat", "%2E", "%2E%2E%2E", "##%2E", "%25", ""]
    names = [".", "%2E", "%", "%25", "%252E"]
    assert len(set(escaped(names))) == len(names)
    with pytest.raises(InputError, match="two tokens"):
        escaped(["a", "a"])


def test_vectors_as_json_keep_every_bit() -> None:
    rng = np.random.default_rng(1)
    vectors = sp.random(40, 30, 0.3, "csr", rng=rng, data_rvs=lambda size: rng.gamma(1, 2, size)).astype(
        np.float32
    )
    names = [f't"{n}\\ä' if n % 7 else "" for n in range(30)]
    rows = [json.loads(line) for line in vector_objects(vectors, names)]
    dense = vectors.toarray()
    for row, found in zip(dense, rows, strict=True):
        expected = {name: weight for name, weight in zip(names, row.tolist(), strict=True) if name and weight}
        assert {name: float(np.float32(weight)) for name, weight in found.items()} == expected
    assert query_tokens(vectors, names) == [
        {name: weight for name, weight in zip(names, row.tolist(), strict=True) if name and weight}
        for row in dense
    ]


def test_vectors_that_no_index_could_hold() -> None:
    tiny = sp.csr_matrix(np.float32([[1e-39, 1e-5, 2]]))
    assert list(vector_objects(tiny, ["a", "b", "c"])) == ['{"b":1e-05,"c":2.0}']
    assert list(vector_objects(sp.csr_matrix((2, 3), dtype=np.float32), ["a", "b", "c"])) == ["{}", "{}"]
    with pytest.raises(InputError, match="weights must be >= 0 and finite"):
        list(vector_objects(sp.csr_matrix([[-1.0]]), ["a"]))
    with pytest.raises(InputError, match="3 dimensions and the vocabulary 2 tokens"):
        list(vector_objects(tiny, ["a", "b"]))
    with pytest.raises(InputError, match="encode them with the model"):
        query_tokens(tiny, ["a", "b"])


def test_query_bodies() -> None:
    assert rank_feature_query({"cat": 2.5, "##s": 1.0}, "embedding") == {
        "bool": {
            "should": [
                {"rank_feature": {"field": "embedding.cat", "linear": {}, "boost": 2.5}},
                {"rank_feature": {"field": "embedding.##s", "linear": {}, "boost": 1.0}},
            ]
        }
    }
    assert neural_sparse_query({"cat": 2.5}, "embedding") == {
        "neural_sparse": {"embedding": {"query_tokens": {"cat": 2.5}}}
    }
    for query in (rank_feature_query, neural_sparse_query):
        assert query({}, "embedding") == {"match_none": {}}
        with pytest.raises(InputError, match="above 64"):
            query({"cat": 65.0}, "embedding")
        with pytest.raises(InputError, match=r"1,025 tokens .*max_clause_count"):
            query({f"t{n}": 1.0 for n in range(1025)}, "embedding")
