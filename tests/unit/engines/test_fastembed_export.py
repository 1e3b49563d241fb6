"""What fastembed loads: its steps give the model's vectors. fastembed itself: tests/integration/test_fastembed.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neural_sparse import InputError, NeuralSparseEncoder
from neural_sparse.engines.fastembed import write_fastembed
from neural_sparse.text.tokens import vocabulary

pytest.importorskip("onnxruntime")


def encoder_of(folder: Path, **settings: Any) -> NeuralSparseEncoder:
    model = NeuralSparseEncoder(folder, 32, device="cpu", **settings)
    if model.query_encoder == "inference-free":
        model.set_query_weights({name: row % 7 / 3 for row, name in enumerate(vocabulary(model.tokenizer))})
    return model


@pytest.mark.parametrize(
    ("architecture", "activation"),
    [("bert", "log1p"), ("distilbert", "double_log1p"), ("xlm-roberta", "log1p"), ("roberta", "log1p")],
)
def test_its_steps_give_the_models_vectors(
    tiny_model: Callable[..., Path], tmp_path: Path, architecture: str, activation: Any
) -> None:
    model = encoder_of(tiny_model(architecture), activation=activation)
    about = write_fastembed(model, tmp_path / "out")
    assert all(check["difference"] <= check["limit"] for check in about["parity"])
    config = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert config == {"model_max_length": 32, "pad_token": model.tokenizer.pad_token}
    assert 0 not in json.loads((tmp_path / "out" / "idf.json").read_text()).values()


def test_what_its_class_cannot_do_is_refused(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    for settings, fix in (
        ({"own_words": 2.0}, "--format onnx"),
        ({"query_encoder": "shared"}, "query_encoder=inference-free"),
    ):
        with pytest.raises(InputError, match=fix):
            write_fastembed(encoder_of(tiny_model(), **settings), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_vectors_are_not_exported(
    tiny_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.Tensor.exp", lambda tensor: tensor + 1)
    with pytest.raises(InputError, match="does not score as the model does"):
        write_fastembed(encoder_of(tiny_model()), tmp_path / "out")
    assert not (tmp_path / "out").exists()
