"""Weights as answers show them."""

from __future__ import annotations

import numpy as np

from neural_sparse.serve.systems import _short, _shortened


def test_many_weights_are_shortened_as_each_is() -> None:
    rng = np.random.default_rng(0)
    weights = np.concatenate([10.0 ** rng.uniform(-12, 4, 2000), [0, 1e-20, 9.99995, 0.1, 1, 99_999]])
    weights = weights.astype(np.float32)
    assert _shortened(weights) == [_short(weight) for weight in weights.tolist()]


def test_great_weights_keep_what_is_before_the_point() -> None:
    assert _shortened(np.array([123_456.5, 1e6], np.float32)) == [123_456.0, 1e6]
