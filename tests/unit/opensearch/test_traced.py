from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from neural_sparse import NeuralSparseEncoder
from neural_sparse.opensearch.archive import save_torchscript
from neural_sparse.opensearch.operators import check_operators, graph_operators
from neural_sparse.opensearch.traced import example_features, served_encoder, trace

LONGEST = 60


@pytest.mark.parametrize("activation", ["log1p", "double_log1p"])
@pytest.mark.parametrize("architecture", ["bert", "distilbert", "modernbert"])
def test_the_loaded_file_gives_the_models_vectors_for_any_batch_and_length(
    tiny_model: Callable[..., Path], tmp_path: Path, architecture: str, activation: str
) -> None:
    model = NeuralSparseEncoder(tiny_model(architecture), LONGEST, activation=activation, device="cpu")  # type: ignore[arg-type]
    traced = trace(served_encoder(model), example_features(model))
    check_operators(graph_operators(traced))
    save_torchscript(traced, tmp_path / "model.pt")
    loaded = torch.jit.load(str(tmp_path / "model.pt"))
    generator = torch.Generator().manual_seed(0)
    for batch, length in [(1, 1), (1, 2), (1, 7), (1, 31), (1, LONGEST), (3, 5), (5, 40)]:
        ids = torch.randint(0, model.vocab_size, (batch, length), generator=generator)
        mask = torch.ones_like(ids)
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
