"""Both sides of a model for Elasticsearch's machine learning: outputs [1, vocabulary], equal to the model's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neural_sparse import InputError, NeuralSparseEncoder
from neural_sparse.engines.elastic_model import OPERATORS, SIDES, write_elasticsearch_model
from neural_sparse.opensearch.traced import graph_operators
from neural_sparse.text.tokens import vocabulary


def encoder_of(folder: Path, **settings: Any) -> NeuralSparseEncoder:
    model = NeuralSparseEncoder(folder, 32, device="cpu", **settings)
    if model.query_encoder == "inference-free":
        special = set(model.tokenizer.all_special_tokens)
        names = vocabulary(model.tokenizer)
        model.set_query_weights(
            {name: 0.0 if name in special else row % 7 / 3 for row, name in enumerate(names)}
        )
    return model


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [("bert", {"own_words": 2.0}), ("distilbert", {"activation": "double_log1p"})],
)
def test_a_text_padded_or_not_has_the_models_weights(
    tiny_model: Callable[..., Path], tmp_path: Path, architecture: str, settings: dict[str, Any]
) -> None:
    model = encoder_of(tiny_model(architecture), **settings)
    about = write_elasticsearch_model(model, tmp_path / "out")
    assert [check["what"] for check in about["parity"]] == [f"Elasticsearch: {side}" for side in SIDES]
    assert all(check["difference"] <= 1e-4 for check in about["parity"])
    text = "a cat sat on the mat and the cat"
    ids = torch.tensor([model.tokenizer(text)["input_ids"]])
    padding = torch.full((1, 4), model.tokenizer.pad_token_id)
    expected = {"documents": model.encode_documents([text]), "queries": model.encode_queries([text])}
    for side, vector in expected.items():
        module = torch.jit.load(tmp_path / "out" / side / "traced_pytorch_model.pt")
        assert {name.split(".")[0] for name in graph_operators(module)} <= OPERATORS
        long = torch.cat([ids, padding], 1)
        mask = torch.cat([torch.ones_like(ids), torch.zeros_like(padding)], 1)
        for given, seen in ((ids, torch.ones_like(ids)), (long, mask)):
            found = module(given, seen, torch.zeros_like(given), torch.arange(given.shape[1])[None])
            assert found.shape == (1, model.vocab_size)
            np.testing.assert_allclose(found.numpy(), vector.toarray(), atol=1e-5)
        config = json.loads((tmp_path / "out" / side / "config.json").read_text())
        bert = config["inference_config"]["text_expansion"]["tokenization"]["bert"]
        assert bert["max_sequence_length"] == {"documents": 32, "queries": 512}[side]
        names = json.loads((tmp_path / "out" / side / "vocabulary.json").read_text())
        assert names == {"vocabulary": vocabulary(model.tokenizer)}


def test_what_elasticsearch_cannot_run_is_refused(
    tiny_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for architecture, settings, said in (
        ("roberta", {}, "tokenizer is not BERT's"),
        ("bert", {"query_encoder": "shared"}, "query_encoder=inference-free"),
    ):
        with pytest.raises(InputError, match=said):
            write_elasticsearch_model(encoder_of(tiny_model(architecture), **settings), tmp_path / "out")
    monkeypatch.setattr("neural_sparse.engines.elastic_model.OPERATORS", OPERATORS - {"aten::layer_norm"})
    with pytest.raises(InputError, match="aten::layer_norm, which Elasticsearch"):
        write_elasticsearch_model(encoder_of(tiny_model()), tmp_path / "out")
    assert not (tmp_path / "out").exists()
