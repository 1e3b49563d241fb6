"""The fused masked-LM head: projection onto the vocabulary and max pooling without the logits.

A learned sparse encoder needs relu(max over a text's tokens of h W^T + b), one row per text. Plain code
makes the logits [texts, sequence, vocabulary] first, and keeps them for the backward pass. Here they
exist only as one block of scratch at a time, and the backward pass touches only the (text, dimension)
pairs that stayed positive and received a gradient, each at the one token that won. Since log1p is
monotone, activations are applied to the pooled values afterwards and give the same numbers.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK_TOKENS = 1024
BLOCK_DIMENSIONS = 512
DENSE_SHARE = 0.25


def pooled_logits(hidden: Tensor, offsets: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """relu(max over each text's tokens of hidden @ weight.T + bias), without ever holding the logits.

    hidden: [tokens, width], packed (no padding); offsets: int64 [texts + 1], text i owns the rows
    offsets[i]:offsets[i + 1]; weight: [vocabulary, width]; bias: [vocabulary] or None.
    Returns float32 [texts, vocabulary] (float64 for float64 input). A text without tokens gives zeros; NaN
    anywhere in a column reaches the output. Differentiable in hidden, weight and bias; where tokens tie, the
    first gets the gradient. Under autocast the products run in its dtype and accumulate in float32.
    """
    dtype = torch.promote_types(hidden.dtype, weight.dtype)
    device = hidden.device.type
    if dtype != torch.float64 and torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    needs_gradient = torch.is_grad_enabled() and (
        hidden.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    )
    return _forward(hidden, offsets, weight, bias, dtype, needs_gradient)[0]


def pack(hidden: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Drop the padding: [batch, sequence, width] and a 0/1 mask [batch, sequence] -> (packed, offsets).

    packed: [tokens, width]; offsets: int64 [batch + 1], as `pooled_logits` takes them. Differentiable.
    """
    mask = attention_mask.bool()
    offsets = torch.zeros(mask.shape[0] + 1, dtype=torch.int64, device=hidden.device)
    torch.cumsum(mask.sum(1), 0, out=offsets[1:])
    return hidden[mask], offsets


@torch.library.custom_op("neural_sparse::pooled_logits", mutates_args=())
def _forward(
    hidden: Tensor,
    offsets: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    dtype: torch.dtype,
    needs_gradient: bool,
) -> tuple[Tensor, Tensor]:
    hidden, weight = hidden.to(dtype).contiguous(), weight.to(dtype).contiguous()
    bounds = offsets.tolist()
    pooled = _pool(hidden, bounds, weight)
    if bias is not None:
        # Rounding is monotone, so adding the bias to the maximum equals the maximum of the sums.
        pooled += bias.to(pooled.dtype)
    pooled.relu_()
    for text, (start, end) in enumerate(zip(bounds, bounds[1:], strict=False)):
        if start == end:
            pooled[text] = 0
    return pooled, hidden.new_empty(0, dtype=torch.int16)


@_forward.register_fake
def _(
    hidden: Tensor,
    offsets: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    dtype: torch.dtype,
    needs_gradient: bool,
) -> tuple[Tensor, Tensor]:
    texts, vocabulary = offsets.shape[0] - 1, weight.shape[0]
    return hidden.new_empty(texts, vocabulary, dtype=_output_dtype(dtype)), hidden.new_empty(
        0, dtype=torch.int16
    )


@torch.library.custom_op("neural_sparse::pooled_logits_backward", mutates_args=())
def _backward(
    gradient: Tensor,
    pooled: Tensor,
    winners: Tensor,
    hidden: Tensor,
    offsets: Tensor,
    weight: Tensor,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    packed, projection = hidden.to(dtype).contiguous(), weight.to(dtype).contiguous()
    # `~(<= 0)` keeps NaN, as the gradient of relu does.
    gradient = torch.where((pooled <= 0) | (gradient == 0), 0, gradient)
    bounds = offsets.tolist()
    share = int(torch.count_nonzero(gradient)) / max(1, gradient.numel())
    grads = (_dense_backward if share > DENSE_SHARE else _sparse_backward)(
        gradient, packed, bounds, projection
    )
    return grads[0].to(hidden.dtype), grads[1].to(weight.dtype), gradient.sum(0)


@_backward.register_fake
def _(
    gradient: Tensor,
    pooled: Tensor,
    winners: Tensor,
    hidden: Tensor,
    offsets: Tensor,
    weight: Tensor,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.empty_like(hidden, memory_format=torch.contiguous_format),
        torch.empty_like(weight, memory_format=torch.contiguous_format),
        gradient.new_empty(gradient.shape[1]),
    )


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    hidden, offsets, weight, bias, dtype, _ = inputs
    ctx.save_for_backward(output[0], output[1], hidden, offsets, weight)
    ctx.dtype, ctx.bias_dtype = dtype, None if bias is None else bias.dtype


def _autograd(ctx, gradient: Tensor, _winners: Tensor | None) -> tuple:  # type: ignore[no-untyped-def]
    pooled, winners, hidden, offsets, weight = ctx.saved_tensors
    grads = _backward(gradient, pooled, winners, hidden, offsets, weight, ctx.dtype)
    bias_gradient = None if ctx.bias_dtype is None else grads[2].to(ctx.bias_dtype)
    return grads[0], None, grads[1], bias_gradient, None, None


_forward.register_autograd(_autograd, setup_context=_setup_context)


def _output_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _groups(bounds: list[int]) -> Iterator[tuple[int, int]]:
    """Runs of consecutive texts of at most BLOCK_TOKENS tokens together (or one longer text)."""
    first = 0
    for text in range(1, len(bounds)):
        if text == len(bounds) - 1 or bounds[text + 1] - bounds[first] > BLOCK_TOKENS:
            yield first, text
            first = text


def _scratch(hidden: Tensor, bounds: list[int], vocabulary: int) -> Tensor:
    rows = max((bounds[b] - bounds[a] for a, b in _groups(bounds)), default=0)
    return hidden.new_empty(rows * min(BLOCK_DIMENSIONS, vocabulary))


def _pool(hidden: Tensor, bounds: list[int], weight: Tensor) -> Tensor:
    """max over each text's tokens of hidden @ weight.T: [texts, vocabulary]; -inf for a text without tokens."""
    vocabulary = weight.shape[0]
    pooled = hidden.new_full((len(bounds) - 1, vocabulary), float("-inf"), dtype=_output_dtype(hidden.dtype))
    scratch = _scratch(hidden, bounds, vocabulary)
    for left in range(0, vocabulary, BLOCK_DIMENSIONS):
        columns = slice(left, min(left + BLOCK_DIMENSIONS, vocabulary))
        for first, last in _groups(bounds):
            base, rows = bounds[first], bounds[last] - bounds[first]
            scores = scratch[: rows * (columns.stop - left)].view(rows, columns.stop - left)
            torch.mm(hidden[base : base + rows], weight[columns].T, out=scores)
            for text in range(first, last):
                if bounds[text + 1] > bounds[text]:
                    pooled[text, columns] = scores[bounds[text] - base : bounds[text + 1] - base].amax(0)
    return pooled


def _sparse_backward(
    gradient: Tensor, hidden: Tensor, bounds: list[int], weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Text by text: find the winning token of the active dimensions again, then gather and scatter."""
    hidden_gradient = torch.zeros_like(hidden, dtype=gradient.dtype)
    weight_gradient = torch.zeros_like(weight, dtype=gradient.dtype)
    for text, row in enumerate(gradient):
        active = row.nonzero().squeeze(1)
        if not len(active):
            continue
        tokens = slice(bounds[text], bounds[text + 1])
        gathered, amount = weight[active], row[active].unsqueeze(1)
        winner = torch.mm(hidden[tokens], gathered.T).argmax(0)
        hidden_gradient[tokens].index_add_(0, winner, gathered.to(row.dtype) * amount)
        weight_gradient.index_add_(0, active, hidden[tokens][winner].to(row.dtype) * amount)
    return hidden_gradient, weight_gradient


def _dense_backward(
    gradient: Tensor, hidden: Tensor, bounds: list[int], weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Block by block: score again, place each text's gradient at its winner, two matrix products."""
    hidden_gradient = torch.zeros_like(hidden, dtype=gradient.dtype)
    weight_gradient = torch.zeros_like(weight, dtype=gradient.dtype)
    for left in range(0, weight.shape[0], BLOCK_DIMENSIONS):
        columns = slice(left, min(left + BLOCK_DIMENSIONS, weight.shape[0]))
        for first, last in _groups(bounds):
            tokens = slice(bounds[first], bounds[last])
            scores = torch.mm(hidden[tokens], weight[columns].T)
            placed = torch.zeros_like(scores, dtype=gradient.dtype)
            for text in range(first, last):
                start, end = bounds[text] - tokens.start, bounds[text + 1] - tokens.start
                if end > start:
                    winner = scores[start:end].argmax(0, keepdim=True)
                    placed[start:end].scatter_(0, winner, gradient[text : text + 1, columns])
            hidden_gradient[tokens].addmm_(placed, weight[columns].to(placed.dtype))
            weight_gradient[columns].addmm_(placed.T, hidden[tokens].to(placed.dtype))
    return hidden_gradient, weight_gradient
