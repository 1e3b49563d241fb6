"""Queries through a transformer: the documents' own, or one of theirs; saved, and read by sentence-transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SparseEncoder

from neural_sparse import InputError, NeuralSparseEncoder

TinyModel = Callable[..., Path]
KINDS = ("shared", "own")


def siamese(folder: Path, kind: Any) -> NeuralSparseEncoder:
    """A tiny one; an own query encoder whose weights are not the documents'."""
    model = NeuralSparseEncoder(folder, 32, query_encoder=kind, device="cpu")
    if kind == "own":
        torch.manual_seed(1)
        with torch.no_grad():
            for weights in model.routes["query"][0].parameters():
                weights.add_(0.1 * torch.randn_like(weights))
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_read_by_both(kind: str, tiny_model: TinyModel, texts: list[str], tmp_path: Path) -> None:
    model = siamese(tiny_model("bert"), kind)
    queries, documents = model.encode_queries(texts), model.encode_documents(texts)
    same = abs(queries - documents).max() == 0
    assert same == (kind == "shared")
    model.save_pretrained(str(tmp_path))
    weights = sorted(str(file.parent.name) for file in tmp_path.rglob("*.safetensors"))
    assert len(weights) == (1 if kind == "shared" else 2)  # what is shared is saved once
    again = NeuralSparseEncoder(tmp_path, device="cpu")
    assert again.query_encoder == kind
    assert again.max_length == 32
    assert abs(again.encode_queries(texts) - queries).max() == 0
    plain = SparseEncoder(str(tmp_path), device="cpu")
    for encode, ours in ((plain.encode_query, queries), (plain.encode_document, documents)):
        found = encode(texts, convert_to_sparse_tensor=False).numpy()
        np.testing.assert_allclose(found, ours.toarray(), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_packed_queries_are_those_of_the_plain_formula(
    kind: str, tiny_model: TinyModel, texts: list[str]
) -> None:
    model = siamese(tiny_model("roberta"), kind)
    mlm = model.routes["query"][0].model
    for text, found in zip(texts, model.encode_queries(texts).toarray(), strict=True):
        ids = model.tokenizer(text, truncation=True, max_length=32, return_tensors="pt")
        with torch.no_grad():
            hidden = mlm(**{key: ids[key] for key in ("input_ids", "attention_mask")}).logits[0]
            head = mlm.get_output_embeddings()
            expected = (hidden @ head.weight.T + head.bias).amax(0).relu().log1p()
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_kinds_change_into_each_other(tiny_model: TinyModel, texts: list[str]) -> None:
    model = NeuralSparseEncoder(tiny_model("bert"), device="cpu")
    documents = model.encode_documents(texts)
    assert model.query_encoder == "inference-free"
    model.set_query_encoder("own")
    assert len(model.masked_lms) == 2
    assert abs(model.encode_queries(texts) - documents).max() == 0  # begins as a copy
    model.set_query_encoder("shared")
    assert len(model.masked_lms) == 1
    model.set_query_encoder("inference-free")
    assert float(model.query_weights.max()) == 1.0
    assert model.encode_queries(["list"]).nnz == 1


def test_what_looks_queries_up_is_refused(tiny_model: TinyModel, texts: list[str]) -> None:
    model = siamese(tiny_model("bert"), "shared")
    for look in (
        lambda: model.query_weights,
        model.idf_table,
        lambda: model.set_query_weights({"list": 1.0}),
    ):
        with pytest.raises(InputError, match=r"no table of query weights.*query_encoder: shared"):
            look()
    counting = NeuralSparseEncoder(tiny_model("bert"), own_words=2.0, device="cpu")
    with pytest.raises(InputError, match="takes own_words=0"):
        counting.set_query_encoder("own")


def test_two_activations_are_refused(tiny_model: TinyModel, tmp_path: Path) -> None:
    model = siamese(tiny_model("bert"), "own")
    model.routes["query"][1].activation_function = "log1p_relu"
    model.save_pretrained(str(tmp_path))
    with pytest.raises(InputError, match="different activations"):
        NeuralSparseEncoder(tmp_path, device="cpu")
    assert NeuralSparseEncoder(tmp_path, activation="double_log1p", device="cpu").query_encoder == "own"


def test_what_a_query_takes_is_told(tiny_model: TinyModel) -> None:
    looked_up = NeuralSparseEncoder(tiny_model("bert"), device="cpu")
    assert looked_up.query_inference(["sort a list"]) == {"encoder": "inference-free", "gflop": 0.0}
    model = siamese(tiny_model("bert"), "shared")
    layers = 2 * (4 * 24 * 24 + 2 * 24 * 32)  # attention and feed-forward of both layers
    head = 24 * 24 + 24 * model.vocab_size
    tokens = len(model.tokenizer("sort a list")["input_ids"])
    found = model.query_inference(["sort a list"])
    assert found["encoder"] == "shared"
    assert found["gflop"] == pytest.approx(2e-9 * tokens * (layers + head))
