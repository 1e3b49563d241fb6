from __future__ import annotations

import struct

import numpy as np
import scipy.sparse as sp

from neural_sparse.opensearch.features import stored, truncated


def test_weights_are_cut_to_nine_bits_as_lucene_does() -> None:
    rng = np.random.default_rng(0)
    weights = np.concatenate(
        [np.float32([0, 1, 1.2345678, 3.3, 64]), rng.gamma(1, 2, 500).astype(np.float32)]
    )
    expected = [  # bit by bit, on Python's integers
        struct.unpack("<f", struct.pack("<I", struct.unpack("<I", struct.pack("<f", w))[0] >> 15 << 15))[0]
        for w in weights.tolist()
    ]
    assert truncated(weights).tolist() == expected
    assert truncated(np.float32([1.2345678])).tolist() == [1.234375]  # from Lucene 9.9.1 itself
    assert (truncated(weights) <= weights).all()
    assert (truncated(weights) >= weights * (1 - 2**-8)).all()


def test_stored_vectors_are_cut_and_the_given_ones_untouched() -> None:
    vectors = sp.csr_matrix(np.float32([[1.2345678, 0, 1e-39], [0, 0, 2]]))
    before = vectors.copy()
    assert stored(vectors).toarray().tolist() == [[1.234375, 0, 0], [0, 0, 2]]
    assert stored(vectors).nnz == 2
    assert (vectors != before).nnz == 0
