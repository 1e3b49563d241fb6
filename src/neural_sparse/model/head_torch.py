"""The fused head in plain torch operations, for devices without a kernel of their own."""

import itertools

import torch
from torch import Tensor

BLOCK_SCORES = 1 << 22
BLOCK_PAIRS = 1 << 16


def forward(
    hidden: Tensor, offsets: Tensor, weight: Tensor, bias: Tensor | None, want_winners: bool
) -> tuple[Tensor, Tensor]:
    """Pooled logits [texts, vocabulary] and, if wanted, each one's winner (int16, counted in its text).

    hidden [tokens, width] and weight [vocabulary, width] share one dtype. Scores exist for one block of the
    vocabulary at a time.
    """
    texts, vocabulary = offsets.shape[0] - 1, weight.shape[0]
    dtype = torch.float64 if hidden.dtype == torch.float64 else torch.float32
    pooled = hidden.new_zeros(texts, vocabulary, dtype=dtype)
    winners = hidden.new_zeros((texts, vocabulary) if want_winners else (0, 0), dtype=torch.int16)
    bounds = offsets.tolist()
    step = max(64, BLOCK_SCORES // max(1, len(hidden)))
    for left in range(0, vocabulary, step):
        block = slice(left, left + step)
        scores = _scores(hidden, weight[block], dtype)
        for text, (start, end) in enumerate(itertools.pairwise(bounds)):
            if end > start and want_winners:
                best = scores[start:end].max(0)
                pooled[text, block], winners[text, block] = best.values, best.indices.to(torch.int16)
            elif end > start:
                pooled[text, block] = scores[start:end].amax(0)
    if bias is not None:
        # Rounding is monotone, so adding the bias to the maximum equals the maximum of the sums.
        pooled += bias.to(dtype)
    pooled.relu_()
    pooled[offsets.diff() == 0] = 0
    return pooled, winners


def backward(
    gradient: Tensor, winners: Tensor, hidden: Tensor, offsets: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of hidden and weight for a `gradient` [texts, vocabulary] that is zero where inactive.

    Each active pair adds g * weight[dimension] to its winning token and g * token to the dimension's row.
    """
    hidden_gradient = torch.zeros_like(hidden, dtype=gradient.dtype)
    weight_gradient = torch.zeros_like(weight, dtype=gradient.dtype)
    texts, dimensions = gradient.nonzero(as_tuple=True)
    for part in zip(texts.split(BLOCK_PAIRS), dimensions.split(BLOCK_PAIRS), strict=True):
        amount = gradient[part].unsqueeze(1)
        token = offsets[part[0]] + winners[part]
        hidden_gradient.index_add_(0, token, weight[part[1]].to(amount.dtype) * amount)
        weight_gradient.index_add_(0, part[1], hidden[token].to(amount.dtype) * amount)
    return hidden_gradient, weight_gradient


def _scores(hidden: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    if hidden.dtype != dtype and hidden.device.type == "cuda":
        return torch.mm(hidden, weight.T, out_dtype=dtype)  # keeps the float32 accumulator unrounded
    return torch.mm(hidden, weight.T).to(dtype)
