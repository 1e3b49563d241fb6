"""The mean of several models' weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from neural_sparse.errors import InputError, refuse_one_string
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.text.tokens import vocabulary


def average_models(models: Sequence[str | Path]) -> NeuralSparseEncoder:
    """One model whose weights, query weights and strengths of own words among them, are the means of those of several
    ("model soup").

    Helps where the models were trained from the same start with other seeds, teachers or settings, and costs
    nothing at inference (arXiv 2203.05482). Models from different starts average to nothing useful.

    Returns:
        A new encoder, on the CPU; longest documents are those of the first model.

    Raises:
        InputError: fewer than two models; another architecture, vocabulary or activation than the first's.
    """
    if len(models) < 2:
        raise InputError("name at least two models to average")
    refuse_one_string(models, "models")
    mean = NeuralSparseEncoder(models[0], device="cpu")
    sums = {name: tensor.double() for name, tensor in mean.state_dict().items()}
    for name in models[1:]:
        other = NeuralSparseEncoder(name, device="cpu")
        if vocabulary(other.tokenizer) != vocabulary(mean.tokenizer):
            raise InputError(f"{name} has another vocabulary than {models[0]}")
        if other.activation != mean.activation:
            raise InputError(
                f"{name} has the activation {other.activation}, {models[0]} has {mean.activation}"
            )
        weights = other.state_dict()
        if {key: value.shape for key, value in weights.items()} != {
            key: value.shape for key, value in sums.items()
        }:
            raise InputError(f"{name} has another architecture than {models[0]}")
        for key, value in weights.items():
            sums[key] += value.double()
    means = {key: value / len(models) for key, value in sums.items()}
    mean.load_state_dict({key: value.to(mean.state_dict()[key].dtype) for key, value in means.items()})
    return mean
