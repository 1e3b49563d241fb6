"""Own words of a document: packed, padded, by the plain formula, and in sentence-transformers' own modules."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SparseEncoder

from neural_sparse import InputError, NeuralSparseEncoder
from neural_sparse.model.encoding import packed_features
from neural_sparse.model.own_words import K1, B, OwnWords, mean_word_count
from neural_sparse.text.tokens import tokenize, vocabulary

TinyModel = Callable[..., Path]
TEXTS = [
    "",
    "list",
    "list list list",
    "return a new file " * 40,
    "a list of files and a file, the and of",
    "the of and",
    "한국어 한국어 🦊",
]


def plain(strength: torch.Tensor, classes: list[int], mean: float, texts: list[list[int]]) -> torch.Tensor:
    """Robertson and Zaragoza 2009, equation 3.14, token by token."""
    rows = []
    for text in texts:
        count = Counter(classes[token] for token in text if classes[token] >= 0)
        norm = K1 * (1 - B + B * count.total() / mean)
        saturated = [count[one] / (count[one] + norm) if one in count else 0.0 for one in classes]
        rows.append(strength * torch.tensor(saturated, dtype=strength.dtype))
    return torch.stack(rows)


@pytest.mark.parametrize("seed", range(8))
def test_both_ways_equal_the_plain_formula_with_gradients(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, 30, (7,), generator=generator).tolist()
    texts = [torch.randint(0, 13, (length,), generator=generator).tolist() for length in lengths]
    classes = [-1, 0, 1, 1, 2, 3, 3, 3, -1, 4, 5, 6, 0]
    strength = torch.rand(13, generator=generator) * (torch.tensor(classes) >= 0)
    words = OwnWords(strength, torch.tensor(classes), mean_length=9.0).requires_grad_()
    ids = torch.tensor([token for text in texts for token in text], dtype=torch.int64)
    offsets = torch.tensor([0, *np.cumsum(lengths)])
    weights = torch.rand(7, 13, generator=generator).sub(0.3).relu().requires_grad_()
    upstream = torch.randn(7, 13, generator=generator)
    ours = words.add(weights, words.counts(ids.numpy(), offsets.numpy()))
    expected = weights + plain(words.strength, classes, 9.0, texts)
    torch.testing.assert_close(ours, expected)
    wanted = (weights, words.strength)
    for ours_gradient, plain_gradient in zip(
        torch.autograd.grad(ours, wanted, upstream),
        torch.autograd.grad(expected, wanted, upstream),
        strict=True,
    ):
        torch.testing.assert_close(ours_gradient, plain_gradient)
    mask = torch.zeros(7, max(lengths) + 2, dtype=torch.int64)
    padded = torch.full_like(mask, 4)  # padding of a token that counts
    for row, text in enumerate(texts):
        mask[row, : len(text)] = 1
        padded[row, : len(text)] = torch.tensor(text, dtype=torch.int64)
    torch.testing.assert_close(words.of_padded(padded, mask), plain(words.strength, classes, 9.0, texts))


def test_no_documents_no_tokens_and_nothing_that_counts() -> None:
    words = OwnWords(torch.tensor([0.0, 2.0]), torch.tensor([-1, 0]), 5.0)

    def nothing(counted: OwnWords, ids: list[int], offsets: list[int]) -> bool:
        counts = counted.counts(np.array(ids, np.int64), np.array(offsets))
        weights = torch.ones(len(offsets) - 1, 2)
        return torch.equal(counted.add(weights, counts), weights)

    assert nothing(words, [], [0])
    assert nothing(words, [], [0, 0, 0])
    assert nothing(words, [0, 0], [0, 2])
    silent = OwnWords(torch.zeros(2), torch.tensor([-1, -1]), 5.0)
    assert nothing(silent, [0, 1], [0, 2])
    assert (silent.of_padded(torch.tensor([[0, 1]]), torch.ones(1, 2)) == 0).all()


def test_words_count_and_stopwords_do_not(tiny_model: TinyModel) -> None:
    model = NeuralSparseEncoder(tiny_model("bert"), 60, own_words=2.0, device="cpu")
    without = NeuralSparseEncoder(tiny_model("bert"), 60, device="cpu")
    names = vocabulary(model.tokenizer)
    added = (model.encode_documents(["the file"]) - without.encode_documents(["the file"])).toarray()[0]
    assert 0 < added[names.index("file")] < 2
    assert added[names.index("the")] == 0
    assert added[model.tokenizer.all_special_ids].max() == 0


@pytest.mark.parametrize("architecture", ["bert", "distilbert"])
@pytest.mark.parametrize("cache_tokens", [None, 40])
def test_every_way_into_the_model_counts(
    architecture: str, cache_tokens: int | None, tiny_model: TinyModel
) -> None:
    model = NeuralSparseEncoder(tiny_model(architecture), 60, own_words=0.5, device="cpu")
    without = NeuralSparseEncoder(tiny_model(architecture), 60, device="cpu")
    words = model.own_words
    assert words is not None
    words.requires_grad_()
    tokens = tokenize(TEXTS, model.tokenizer, 60, special_tokens=True)
    ids = [tokens.take(np.array([row])).ids.tolist() for row in range(len(TEXTS))]
    classes, mean = words.classes.tolist(), float(words.mean_length)
    bare = torch.from_numpy(without.encode_documents(TEXTS).toarray())
    expected = bare + plain(words.strength, classes, mean, ids)
    torch.testing.assert_close(torch.from_numpy(model.encode_documents(TEXTS).toarray()), expected.detach())
    batch = model.tokenizer(TEXTS, padding=True, truncation=True, max_length=60, return_tensors="pt")
    torch.testing.assert_close(model(batch["input_ids"], batch["attention_mask"]), expected)
    model.cache_tokens = cache_tokens  # GradCache, in training
    trained = model.double()(packed_features(tokens))["sentence_embedding"]
    formula = without.double()(packed_features(tokens))["sentence_embedding"]
    formula = formula + plain(words.strength, classes, mean, ids)
    torch.testing.assert_close(trained, formula, atol=1e-6, rtol=1e-6)
    wanted = (model.projection.weight, words.strength), (without.projection.weight, words.strength)
    of_model = torch.autograd.grad(trained.square().sum(), wanted[0])
    of_formula = torch.autograd.grad(formula.square().sum(), wanted[1])
    torch.testing.assert_close(of_model, of_formula, atol=1e-5, rtol=1e-5)


def test_it_is_saved_and_plain_sentence_transformers_does_the_same_or_nothing(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    model = NeuralSparseEncoder(tiny_model(), 60, device="cpu")
    model.set_own_words(0.5, mean_length=7)
    assert model.own_words is not None
    with torch.no_grad():
        model.own_words.strength.mul_(torch.rand(model.vocab_size))  # as after training
    model.save_pretrained(str(tmp_path / "model"))
    again = NeuralSparseEncoder(tmp_path / "model", device="cpu")
    expected = model.encode_documents(TEXTS).toarray()
    np.testing.assert_array_equal(again.encode_documents(TEXTS).toarray(), expected)
    np.testing.assert_array_equal(copy.deepcopy(again).encode_documents(TEXTS).toarray(), expected)
    with pytest.raises(ValueError, match="OwnWords"):  # rather than vectors without it
        SparseEncoder(str(tmp_path / "model"))
    theirs = SparseEncoder(str(tmp_path / "model"), device="cpu", trust_remote_code=True)
    np.testing.assert_allclose(
        theirs.encode_document(TEXTS, convert_to_sparse_tensor=False).numpy(), expected, atol=1e-5
    )
    off = NeuralSparseEncoder(tmp_path / "model", own_words=0, device="cpu")
    assert off.own_words is None
    off.save_pretrained(str(tmp_path / "off"))
    assert SparseEncoder(str(tmp_path / "off")).encode_document("a b").shape


def test_the_mean_length_counts_what_counts(tiny_model: TinyModel) -> None:
    tokenizer = NeuralSparseEncoder(tiny_model(), 60, device="cpu").tokenizer
    tokens = tokenize(["the list, the list", "list", ""], tokenizer, 60, special_tokens=True)
    assert mean_word_count(tokens.ids, 3, tokenizer) == 1  # list, list, list
    assert mean_word_count(tokens.ids[:0], 0, tokenizer) == 1


@pytest.mark.parametrize("strength", [-0.1, float("nan"), float("inf")])
def test_what_is_no_strength(strength: float, tiny_model: TinyModel) -> None:
    with pytest.raises(InputError, match="own_words must be 0"):
        NeuralSparseEncoder(tiny_model(), own_words=strength)
