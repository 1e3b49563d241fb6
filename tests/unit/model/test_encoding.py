from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch

import neural_sparse.text.tokens
from neural_sparse import InputError, NeuralSparseEncoder
from neural_sparse.model.encoding import encode_documents, packed_features, to_csr
from neural_sparse.text.tokens import tokenize


@pytest.fixture(scope="module")
def model(tiny_model: Callable[..., Path]) -> NeuralSparseEncoder:
    return NeuralSparseEncoder(tiny_model("bert"), max_length=24)


@pytest.mark.parametrize("density", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_to_csr(density: float, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    dense = torch.rand(7, 33, generator=generator) * (torch.rand(7, 33, generator=generator) < density)
    dense = dense.to(dtype)
    for layout in (dense, dense.T.contiguous().T):  # contiguous and not
        matrix = to_csr(layout)
        np.testing.assert_array_equal(matrix.toarray(), dense.float().numpy())
        assert matrix.dtype == np.float32
        assert matrix.nnz == int((dense != 0).sum())
        assert matrix.has_sorted_indices
    assert to_csr(dense[:0]).shape == (0, 33)


def test_rows_come_back_in_order_whatever_the_batches(model: NeuralSparseEncoder, texts: list[str]) -> None:
    rng = np.random.default_rng(0)
    words = " ".join(texts).split()
    documents = [" ".join(rng.choice(words, rng.integers(0, 40))) for _ in range(30)]
    whole = encode_documents(model, documents)
    assert whole.shape == (30, model.vocab_size)
    assert whole.dtype == np.float32
    assert whole.has_sorted_indices
    assert (whole.data > 0).all()
    for tokens_per_batch in (1, 40, 100):
        parts = encode_documents(model, documents, tokens_per_batch)
        np.testing.assert_allclose(parts.toarray(), whole.toarray(), atol=2e-5)
    for row in (0, 7, 29):
        np.testing.assert_allclose(
            encode_documents(model, [documents[row]]).toarray()[0], whole[row].toarray()[0], atol=2e-5
        )


def test_a_corpus_is_tokenized_window_by_window(
    model: NeuralSparseEncoder, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    words = " ".join(texts).split()
    documents = [" ".join(rng.choice(words, rng.integers(0, 40))) for _ in range(50)]
    whole = encode_documents(model, documents)
    sizes: list[int] = []
    tokenize_one = neural_sparse.text.tokens.tokenize
    monkeypatch.setattr(
        "neural_sparse.text.tokens.tokenize",
        lambda texts, *more: (sizes.append(len(texts)), tokenize_one(texts, *more))[1],
    )
    monkeypatch.setattr("neural_sparse.text.tokens.WINDOW_TEXTS", 8)
    parts = encode_documents(model, documents)
    assert sizes == [8, 8, 8, 8, 8, 8, 2]
    assert parts.has_sorted_indices
    assert (parts.indices.dtype, parts.data.dtype) == (whole.indices.dtype, whole.data.dtype)
    np.testing.assert_allclose(parts.toarray(), whole.toarray(), atol=2e-5)
    again = encode_documents(model, documents)
    assert (again.data.tobytes(), again.indices.tobytes()) == (parts.data.tobytes(), parts.indices.tobytes())


def test_equals_sentence_transformers_encode(model: NeuralSparseEncoder, texts: list[str]) -> None:
    theirs = model.encode_document(texts, convert_to_sparse_tensor=False, batch_size=2)
    np.testing.assert_allclose(model.encode_documents(texts).toarray(), theirs.numpy(), atol=2e-5)
    queries = model.encode_query(texts, convert_to_sparse_tensor=False)
    np.testing.assert_allclose(model.encode_queries(texts).toarray(), queries.numpy(), atol=1e-6)


def test_no_texts_and_an_empty_one(model: NeuralSparseEncoder) -> None:
    nothing = encode_documents(model, [])
    assert isinstance(nothing, sp.csr_matrix)
    assert nothing.shape == (0, model.vocab_size)
    assert encode_documents(model, [""]).shape == (1, model.vocab_size)
    with pytest.raises(InputError, match="text 1 is float"):
        encode_documents(model, ["a", float("nan")])  # type: ignore[list-item]


def test_texts_are_cut_at_the_length_limit(model: NeuralSparseEncoder) -> None:
    long, cut = "list file new " * 50, " ".join(("list file new " * 50).split()[: 24 - 2])
    one, other = model.encode_documents([long, cut]).toarray()
    np.testing.assert_allclose(one, other, atol=2e-5)  # rows of one batch may be rounded in different ways
    assert np.abs(one - model.encode_documents([cut[: len(cut) // 2]]).toarray()).max() > 1e-3


def test_the_mode_of_the_model_is_left_as_it_was(model: NeuralSparseEncoder, texts: list[str]) -> None:
    before = encode_documents(model, texts)
    model.train()
    try:
        assert (encode_documents(model, texts) != before).nnz == 0  # no dropout
        assert model.training
    finally:
        model.eval()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_packed_features(model: NeuralSparseEncoder) -> None:
    tokens = tokenize(["list", "a new file"], model.tokenizer, 8, special_tokens=True)
    features = packed_features(tokens)
    assert features["input_ids"].tolist() == tokens.ids.tolist()
    assert features["offsets"].tolist() == [0, 3, 8]
    assert features["task"] == "document"


def test_weights_that_are_not_finite_are_reported(tiny_model: Callable[..., Path]) -> None:
    model = NeuralSparseEncoder(tiny_model("bert"), max_length=24)
    with torch.no_grad():
        model.projection.weight[7] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        encode_documents(model, ["open a file"])


def test_the_same_bytes_with_any_number_of_threads(model: NeuralSparseEncoder, texts: list[str]) -> None:
    """Batches are computed side by side, each by one core."""
    rng = np.random.default_rng(2)
    words = " ".join(texts).split()
    documents = [" ".join(rng.choice(words, rng.integers(0, 40))) for _ in range(60)]
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(encode_documents(model, documents, 40))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        np.testing.assert_array_equal(other.data, found[0].data)
        np.testing.assert_array_equal(other.indices, found[0].indices)
        np.testing.assert_array_equal(other.indptr, found[0].indptr)
    assert found[0].nnz
