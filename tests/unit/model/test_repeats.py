"""Repeated tokens of a document: the packed way, the plain formula, and sentence-transformers' own modules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SparseEncoder

from neural_sparse import InputError, NeuralSparseEncoder
from neural_sparse.model.encoding import packed_features
from neural_sparse.model.repeats import strengthen_repeats
from neural_sparse.tokens import tokenize

TinyModel = Callable[..., Path]
TEXTS = [
    "",
    "list",
    "list list list",
    "return a new file " * 40,
    "a list of files and a list",
    "한국어 한국어 🦊",
]


def plain(weights: torch.Tensor, texts: list[list[int]], strength: float) -> torch.Tensor:
    """Token by token: 1 + strength (n - 1) / (n + 1)."""
    factors = torch.ones_like(weights)
    for row, text in enumerate(texts):
        for token, count in Counter(text).items():
            factors[row, token] = 1 + strength * (count - 1) / (count + 1)
    return weights * factors


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 3.0])
def test_equals_the_plain_formula_with_gradients(seed: int, strength: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, 30, (7,), generator=generator).tolist()
    texts = [torch.randint(0, 11, (length,), generator=generator).tolist() for length in lengths]
    ids = torch.tensor([token for text in texts for token in text], dtype=torch.int64)
    offsets = torch.tensor([0, *np.cumsum(lengths)])
    weights = torch.rand(7, 11, generator=generator, dtype=torch.float64).sub(0.3).relu().requires_grad_()
    upstream = torch.randn(7, 11, generator=generator, dtype=torch.float64)
    ours, expected = strengthen_repeats(weights, ids, offsets, strength), plain(weights, texts, strength)
    torch.testing.assert_close(ours, expected)
    (gradient,) = torch.autograd.grad(ours, weights, upstream)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, weights, upstream)[0])
    assert ((ours > 0) == (weights > 0)).all()


def test_no_documents_and_no_tokens() -> None:
    empty = torch.empty(0, dtype=torch.int64)
    assert strengthen_repeats(torch.empty(0, 5), empty, torch.tensor([0]), 0.5).shape == (0, 5)
    assert (strengthen_repeats(torch.ones(2, 5), empty, torch.tensor([0, 0, 0]), 0.5) == 1).all()


@pytest.mark.parametrize("architecture", ["bert", "distilbert"])
@pytest.mark.parametrize("cache_tokens", [None, 40])
def test_every_way_into_the_model_counts(
    architecture: str, cache_tokens: int | None, tiny_model: TinyModel
) -> None:
    model = NeuralSparseEncoder(tiny_model(architecture), 60, document_repeats=0.5, device="cpu")
    without = NeuralSparseEncoder(tiny_model(architecture), 60, device="cpu")
    tokens = tokenize(TEXTS, model.tokenizer, 60, special_tokens=True)
    ids = [
        tokens.ids[start:end].tolist() for start, end in zip(tokens.offsets, tokens.offsets[1:], strict=False)
    ]
    expected = plain(torch.from_numpy(without.encode_documents(TEXTS).toarray()), ids, 0.5)
    torch.testing.assert_close(torch.from_numpy(model.encode_documents(TEXTS).toarray()), expected)
    batch = model.tokenizer(TEXTS, padding=True, truncation=True, max_length=60, return_tensors="pt")
    torch.testing.assert_close(model(batch["input_ids"], batch["attention_mask"]).detach(), expected)
    model.cache_tokens = cache_tokens  # GradCache, in training
    trained = model.double()(packed_features(tokens))["sentence_embedding"]
    torch.testing.assert_close(trained.detach().float(), expected)
    (gradient,) = torch.autograd.grad(trained.sum(), model.projection.weight)
    formula = plain(without.double()(packed_features(tokens))["sentence_embedding"], ids, 0.5)
    torch.testing.assert_close(gradient, torch.autograd.grad(formula.sum(), without.projection.weight)[0])


def test_it_is_saved_and_plain_sentence_transformers_does_the_same_or_nothing(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    model = NeuralSparseEncoder(tiny_model(), 60, document_repeats=0.5, device="cpu")
    model.save_pretrained(str(tmp_path / "model"))
    again = NeuralSparseEncoder(tmp_path / "model", device="cpu")
    assert again.document_repeats == 0.5
    expected = model.encode_documents(TEXTS).toarray()
    np.testing.assert_array_equal(again.encode_documents(TEXTS).toarray(), expected)
    with pytest.raises(ValueError, match="DocumentRepeats"):  # rather than vectors without it
        SparseEncoder(str(tmp_path / "model"))
    theirs = SparseEncoder(str(tmp_path / "model"), device="cpu", trust_remote_code=True)
    np.testing.assert_allclose(
        theirs.encode_document(TEXTS, convert_to_sparse_tensor=False).numpy(), expected, atol=1e-5
    )
    off = NeuralSparseEncoder(tmp_path / "model", document_repeats=0, device="cpu")
    off.save_pretrained(str(tmp_path / "off"))
    assert SparseEncoder(str(tmp_path / "off")).encode_document("a b").shape


@pytest.mark.parametrize("strength", [-0.1, float("nan"), float("inf")])
def test_what_is_no_strength(strength: float, tiny_model: TinyModel) -> None:
    with pytest.raises(InputError, match="document_repeats must be 0"):
        NeuralSparseEncoder(tiny_model(), document_repeats=strength)
