from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from neural_sparse import NeuralSparseEncoder
from neural_sparse.opensearch.packages import save_torchscript
from neural_sparse.opensearch.traced import (
    bound_devices,
    check_operators,
    example_features,
    graph_operators,
    served_encoder,
    trace,
)

LONGEST = 60


@pytest.mark.parametrize("own_words", [0.0, 0.7])
@pytest.mark.parametrize("activation", ["log1p", "double_log1p"])
@pytest.mark.parametrize("architecture", ["bert", "distilbert", "modernbert"])
def test_the_loaded_file_gives_the_models_vectors_for_any_batch_and_length(
    tiny_model: Callable[..., Path], tmp_path: Path, architecture: str, activation: Any, own_words: float
) -> None:
    model = NeuralSparseEncoder(
        tiny_model(architecture), LONGEST, activation=activation, own_words=own_words, device="cpu"
    )
    traced = trace(served_encoder(model), example_features(model))
    check_operators(graph_operators(traced))
    save_torchscript(traced, tmp_path / "model.pt")
    loaded = torch.jit.load(str(tmp_path / "model.pt"))
    generator = torch.Generator().manual_seed(0)
    for batch, length in [(1, 1), (1, 2), (1, 7), (1, 31), (1, LONGEST), (3, 5), (5, 40)]:
        ids = torch.randint(0, model.vocab_size, (batch, length), generator=generator)
        mask = torch.ones_like(ids)
        ids[:, length // 2 :] = ids[:, :1]  # repeated
        for row in range(1, batch):  # the first row stays full
            mask[row, torch.randint(1, length + 1, (1,), generator=generator) :] = 0
        with torch.no_grad():
            output = loaded({"input_ids": ids, "attention_mask": mask})
            expected = model(ids, mask).clone()
        assert list(output) == ["output"]
        special = model.tokenizer.all_special_ids
        expected[:, special] = 0
        torch.testing.assert_close(output["output"], expected, atol=1e-5, rtol=1e-5)
        assert (output["output"][:, special] == 0).all()
        assert expected.max() > 0


def test_the_model_itself_is_left_as_it_was(tiny_model: Callable[..., Path]) -> None:
    model = NeuralSparseEncoder(tiny_model(), device="cpu")
    ids = torch.tensor([[2, 40, 50, 3]])
    before = model(ids)
    served_encoder(model)
    assert torch.equal(model(ids), before)
    assert model.mlm.config._attn_implementation != "eager"
    assert all(parameter.requires_grad for parameter in model.mlm.parameters())


def test_special_tokens_are_silent_even_where_the_weights_would_let_them_speak(
    tiny_model: Callable[..., Path],
) -> None:
    model = NeuralSparseEncoder(tiny_model(), device="cpu")
    with torch.no_grad():
        model.projection.bias[model.tokenizer.all_special_ids] = 5.0
    features = example_features(model)
    output = trace(served_encoder(model), features)(features)["output"]
    assert (output[:, model.tokenizer.all_special_ids] == 0).all()
    assert (model(**features)[:, model.tokenizer.all_special_ids] > 0).all()


@pytest.mark.parametrize("architecture", ["bert", "distilbert"])
def test_the_graph_names_no_device(tiny_model: Callable[..., Path], architecture: str) -> None:
    model = NeuralSparseEncoder(tiny_model(architecture), LONGEST, device="cpu")
    traced = trace(served_encoder(model), example_features(model))
    assert bound_devices(traced) == set()
    # The meta device refuses, as a GPU does, to mix with tensors made elsewhere.
    ids = torch.ones(2, 9, dtype=torch.long, device="meta")
    output = traced.to("meta")({"input_ids": ids, "attention_mask": ids})["output"]
    assert output.shape == (2, model.vocab_size)


def test_a_model_that_looks_at_windows_makes_its_own_mask(tiny_model: Callable[..., Path]) -> None:
    model = NeuralSparseEncoder(tiny_model("modernbert"), LONGEST, device="cpu")
    assert served_encoder(model).made_mask  # the window is wider than any text
    for layer in model.mlm.model.layers:
        if layer.attn.sliding_window is not None:
            layer.attn.sliding_window = 3
    model.mlm.config.local_attention = 4
    module = served_encoder(model)
    assert not module.made_mask
    traced = trace(module, example_features(model))
    assert bound_devices(traced) == {"cpu"}
    ids = torch.arange(LONGEST).remainder(model.vocab_size).repeat(2, 1)
    mask = torch.ones_like(ids)
    mask[1, 20:] = 0
    with torch.no_grad():
        expected = model(ids, mask).clone()
        expected[:, model.tokenizer.all_special_ids] = 0
        torch.testing.assert_close(
            traced({"input_ids": ids, "attention_mask": mask})["output"], expected, atol=1e-5, rtol=1e-5
        )
