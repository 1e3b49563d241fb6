"""Dynamic int8 quantisation: weights of linear layers in 8 bits, activations quantised as they come."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch

from neural_sparse.opensearch.traced import ServedEncoder, served_encoder

if TYPE_CHECKING:
    from neural_sparse.model.encoder import NeuralSparseEncoder


def int8_encoder(model: NeuralSparseEncoder) -> ServedEncoder:
    """`served_encoder` with every linear layer, the output projection among them, in int8; embeddings stay float32."""
    module: Any = served_encoder(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about where quantisation will move to
        return torch.ao.quantization.quantize_dynamic(module, {torch.nn.Linear}, dtype=torch.qint8).eval()
