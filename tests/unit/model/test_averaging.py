"""The mean of models' weights, and what cannot be averaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from neural_sparse import InputError, NeuralSparseEncoder
from neural_sparse.cli.average import average
from neural_sparse.model.averaging import average_models

TinyModel = Callable[..., Path]


def variant(folder: Path, output: Path, seed: int, own_words: float | None = None) -> Path:
    """The model with other weights on both sides."""
    model = NeuralSparseEncoder(folder, 32, own_words=own_words, device="cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.mlm.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
        model.query_weights.mul_(seed + 1)
    model.save_pretrained(str(output))
    return output


def test_every_weight_is_the_mean(tiny_model: TinyModel, tmp_path: Path) -> None:
    folders = [variant(tiny_model("bert"), tmp_path / str(seed), seed, 1.0 + seed) for seed in range(3)]
    average([str(folder) for folder in folders], tmp_path / "mean")
    mean = NeuralSparseEncoder(tmp_path / "mean").state_dict()
    states = [NeuralSparseEncoder(folder).state_dict() for folder in folders]
    for name, value in mean.items():
        expected = sum(state[name] for state in states) / 3
        torch.testing.assert_close(value, expected, check_dtype=value.is_floating_point())
    assert NeuralSparseEncoder(tmp_path / "mean").query_weights.max() == 2  # of 1, 2 and 3
    own_words = NeuralSparseEncoder(tmp_path / "mean").own_words
    assert own_words is not None
    assert own_words.strength.max() == 2  # of 1, 2 and 3
    assert not (mean["0.sub_modules.query.0.weight"] == states[0]["0.sub_modules.query.0.weight"]).all()
    with pytest.raises(InputError, match="exists; choose another output"):
        average([str(folder) for folder in folders], tmp_path / "mean")


def test_what_cannot_be_averaged(tiny_model: TinyModel, tmp_path: Path) -> None:
    bert = tiny_model("bert")
    with pytest.raises(InputError, match="at least two"):
        average_models([bert])
    other = NeuralSparseEncoder(bert, activation="double_log1p", device="cpu")
    other.save_pretrained(str(tmp_path / "double"))
    with pytest.raises(InputError, match="activation double_log1p"):
        average_models([bert, tmp_path / "double"])
    with pytest.raises(InputError, match=r"another (architecture|vocabulary)"):
        average_models([bert, tiny_model("distilbert")])
    model = NeuralSparseEncoder(bert, device="cpu")
    with torch.no_grad():
        model.projection.weight[7, 0] = torch.nan
    model.save_pretrained(str(tmp_path / "nan"))
    with pytest.raises(InputError, match="the weights hold NaN or infinity"):
        average_models([bert, tmp_path / "nan"])
