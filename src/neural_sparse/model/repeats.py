"""How often a document's own tokens stand in it, which max pooling forgets."""

from __future__ import annotations

from typing import Any

import torch
from sentence_transformers.base.modules import Module
from torch import Tensor

from neural_sparse.errors import InputError


def check_document_repeats(strength: float) -> float:
    if not 0 <= strength < float("inf"):
        raise InputError(f"document_repeats must be 0 (off) or above, not {strength:g}; 0.5 did well")
    return float(strength)


def repeat_factor(count: Tensor, strength: float) -> Tensor:
    """1 + strength (n - 1) / (n + 1), of tokens that stand n >= 1 times in a document.

    With strength 1 this is BM25's saturation at k1 = 1 without length normalisation, n (k1 + 1) / (n + k1) (Robertson
    and Zaragoza 2009, section 3.4). A token that stands there once keeps its weight.
    """
    return 1 + strength * (count - 1) / (count + 1)


def strengthen_repeats(weights: Tensor, ids: Tensor, offsets: Tensor, strength: float) -> Tensor:
    """Document vectors in which a document's own tokens weigh `repeat_factor` times as much.

    Args:
        weights: [documents, vocabulary].
        ids: int64 [tokens], packed documents; document i owns offsets[i]:offsets[i + 1].

    Returns:
        [documents, vocabulary]; differentiable in `weights`. Tokens without weight stay without.
    """
    if not strength:
        return weights
    lengths = offsets.diff().to(ids.device)
    documents = torch.repeat_interleave(torch.arange(len(lengths), device=ids.device), lengths)
    places, count = torch.unique(documents * weights.shape[1] + ids, return_counts=True)
    places, count = places[count > 1], count[count > 1]
    place = places // weights.shape[1], places % weights.shape[1]
    gain = weights[place] * (repeat_factor(count, strength) - 1).to(weights.dtype)
    return weights.index_put(place, gain, accumulate=True)


class DocumentRepeats(Module):
    """`strengthen_repeats` as a module of sentence-transformers, after SpladePooling.

    Plain sentence-transformers loads it where this package is installed, with `trust_remote_code=True`.
    """

    config_keys: list[str] = ["strength"]  # noqa: RUF012 - as sentence-transformers declares it

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = check_document_repeats(strength)

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        mask = features["attention_mask"].bool()
        offsets = torch.nn.functional.pad(mask.sum(1).cumsum(0), (1, 0))
        vectors = strengthen_repeats(
            features["sentence_embedding"], features["input_ids"][mask], offsets, self.strength
        )
        return {**features, "sentence_embedding": vectors}

    def save(self, output_path: str, *args: object, **kwargs: object) -> None:
        self.save_config(output_path)

    def __repr__(self) -> str:
        return f"DocumentRepeats({self.get_config_dict()})"
