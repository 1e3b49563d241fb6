"""Pooled logits by a bound first: what is above zero is found, all of it, with the values of the plain products."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_sparse.model import encoding, head_bound
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.model.head import pooled_logits
from neural_sparse.model.head_bound import HeadBound


def texts_of(lengths: list[int], width: int, vocabulary: int, seed: int, *, low_rank: bool = True) -> Any:
    """hidden, offsets, weight, bias: a subspace with most of the energy, and a bias that keeps few pairs above zero."""
    torch.manual_seed(seed)
    offsets = torch.tensor([0, *np.cumsum(lengths)])
    hidden = torch.randn(sum(lengths), width)
    if low_rank:
        few = max(1, width // 8)
        hidden = 0.05 * hidden + torch.randn(sum(lengths), few) @ torch.randn(few, width)
    weight = torch.randn(vocabulary, width) / width**0.5
    bias = torch.randn(vocabulary) - float((hidden @ weight.T).quantile(0.95)) if sum(lengths) else None
    return hidden, offsets, weight, bias


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=6),
    width=st.sampled_from([1, 3, 16, 48, 128]),
    vocabulary=st.sampled_from([1, 17, 600]),
    seed=st.integers(0, 10_000),
    low_rank=st.booleans(),
    with_bias=st.booleans(),
)
def test_it_is_pooled_logits(
    lengths: list[int], width: int, vocabulary: int, seed: int, low_rank: bool, with_bias: bool
) -> None:
    hidden, offsets, weight, bias = texts_of(lengths, width, vocabulary, seed, low_rank=low_rank)
    bias = bias if with_bias else None
    bound = HeadBound()
    with torch.inference_mode():
        for _ in range(2):  # the basis made, and kept
            expected = pooled_logits(hidden, offsets, weight, bias)
            found = bound.pooled(hidden, offsets, weight, bias)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
            far = (expected > 1e-5) | (expected == 0)  # from where rounding decides
            assert torch.equal((found > 0)[far], (expected > 0)[far])


def test_few_pairs_are_multiplied_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, offsets, weight, bias = texts_of([200, 150, 90], 128, 2000, 1)
    seen = []
    plain = head_bound._at

    def at(bounds: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        seen.append(bounds.count_nonzero().item() / bounds.numel())
        return plain(bounds, *args, **kwargs)

    monkeypatch.setattr(head_bound, "_at", at)
    highest = pooled_logits(hidden, offsets, weight, None)
    bias, bound = bias * 0 - float(highest.quantile(0.99)), HeadBound()
    found = bound.pooled(hidden, offsets, weight, bias)
    assert bound.pays
    assert 0 < (found > 0).float().mean() <= seen[0] < head_bound.MANY
    torch.testing.assert_close(found, pooled_logits(hidden, offsets, weight, bias))


def test_where_the_bound_says_nothing_everything_is_multiplied() -> None:
    hidden, offsets, weight, _ = texts_of([20, 30], 64, 300, 2, low_rank=False)
    bound = HeadBound()
    found = bound.pooled(hidden, offsets, weight, None)
    assert not bound.pays
    assert torch.equal(found, pooled_logits(hidden, offsets, weight, None))


@pytest.mark.parametrize("place", ["hidden", "weight", "first batch"])
def test_not_a_number_reaches_the_result(place: str) -> None:
    hidden, offsets, weight, bias = texts_of([20, 30, 10], 64, 300, 3)
    bias, bound = bias - 30, HeadBound()
    if place != "first batch":
        bound.pooled(hidden, offsets, weight, bias)
        assert bound.pays
    if place == "weight":
        bound, weight[7, 3] = HeadBound(), torch.nan
    else:
        hidden[25, 3] = torch.nan
    expected = pooled_logits(hidden, offsets, weight, bias)
    found = bound.pooled(hidden, offsets, weight, bias)
    assert expected.isnan().any()
    assert torch.equal(found.isnan(), expected.isnan())


def test_documents_are_encoded_by_it(
    tiny_model: Any, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = NeuralSparseEncoder(tiny_model())
    with torch.no_grad():
        model.projection.bias -= 0.1
    plain = model.encode_documents(texts)
    used = []
    pooled = HeadBound.pooled

    def counted(self: HeadBound, *args: Any) -> torch.Tensor:
        used.append(self)
        return pooled(self, *args)

    monkeypatch.setattr(encoding, "FEWEST_TOKENS", 0)
    monkeypatch.setattr(HeadBound, "pooled", counted)
    found = model.encode_documents(texts, tokens_per_batch=64)
    assert len(used) > 1
    assert len(set(map(id, used))) == 1
    assert found.shape == plain.shape
    assert abs(found - plain).max() < 1e-5
