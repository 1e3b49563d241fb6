"""The fused masked-LM head: projection onto the vocabulary and max pooling without the logits.

A learned sparse encoder needs relu(max over a text's tokens of h W^T + b), one row per text. Plain code
makes the logits [texts, sequence, vocabulary] first, and keeps them for the backward pass. Here they
exist only as one block of scratch at a time, and what is kept is the winning token of each (text,
dimension): the backward pass touches only the pairs that stayed positive and received a gradient, and
computes no scores again. Since log1p is monotone, activations are applied to the pooled values afterwards
and give the same numbers.
"""

import importlib.util
from types import ModuleType

import torch
from torch import Tensor

from neural_sparse.errors import InputError
from neural_sparse.model import head_cpu, head_torch


def pooled_logits(
    hidden: Tensor,
    offsets: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    longest: int | None = None,
    columns: Tensor | None = None,
) -> Tensor:
    """relu(max over each text's tokens of hidden @ weight.T + bias), without ever holding the logits.

    hidden: [tokens, width], packed (no padding); offsets: int64 [texts + 1], text i owns the rows
    offsets[i]:offsets[i + 1]; weight: [vocabulary, width]; bias: [vocabulary] or None; longest: tokens of the
    longest text, where it is known; columns: int64 [columns], distinct dimensions, if only these are wanted.
    Returns float32 [texts, vocabulary] or [texts, columns] (float64 for float64 input). A text without tokens
    gives zeros; NaN anywhere in a column reaches the output. Differentiable in hidden, weight and bias; where computed
    scores tie, the first token gets the gradient. Under autocast the products run in its dtype and accumulate
    in float32.
    """
    dtype = torch.promote_types(hidden.dtype, weight.dtype)
    device = hidden.device.type
    if dtype != torch.float64 and torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    train = torch.is_grad_enabled() and (
        hidden.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    )
    longest = -1 if longest is None else longest
    return _forward(
        hidden,
        offsets,
        weight=weight,
        bias=bias,
        columns=columns,
        dtype=dtype,
        want_winners=train,
        longest=longest,
    )[0]


def pack(hidden: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Drop the padding: [batch, sequence, width] and a 0/1 mask [batch, sequence] -> (packed, offsets).

    packed: [tokens, width]; offsets: int64 [batch + 1], as `pooled_logits` takes them. Differentiable.
    """
    mask = attention_mask.bool()
    offsets = torch.zeros(mask.shape[0] + 1, dtype=torch.int64, device=hidden.device)
    torch.cumsum(mask.sum(1), 0, out=offsets[1:])
    # Indexing with the mask itself would be the same, but its backward pass is about ten times slower on CPU.
    return hidden.flatten(0, 1).index_select(0, mask.flatten().nonzero().squeeze(1)), offsets


@torch.library.custom_op("neural_sparse::pooled_logits", mutates_args=())
def _forward(
    hidden: Tensor,
    offsets: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    columns: Tensor | None,
    dtype: torch.dtype,
    want_winners: bool,
    longest: int,
) -> tuple[Tensor, Tensor]:
    limit = torch.iinfo(torch.int16).max
    if longest < 0 and len(hidden) > limit:
        longest = int(offsets.diff().max())
    if longest > limit:
        raise InputError(f"a text has {longest} tokens, the head takes at most 32767: truncate it")
    # Rows are gathered once, for the kernels read each several times; that costs nothing beside the product.
    weight, bias = _rows(weight, columns), None if bias is None else _rows(bias, columns)
    hidden, weight = hidden.to(dtype).contiguous(), weight.to(dtype).contiguous()
    return _implementation(hidden.device.type, dtype).forward(hidden, offsets, weight, bias, want_winners)


@_forward.register_fake
def _(
    hidden: Tensor,
    offsets: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    columns: Tensor | None,
    dtype: torch.dtype,
    want_winners: bool,
    longest: int,
) -> tuple[Tensor, Tensor]:
    shape = offsets.shape[0] - 1, (weight if columns is None else columns).shape[0]
    output = torch.float64 if dtype == torch.float64 else torch.float32
    winners = hidden.new_empty(shape if want_winners else (0, 0), dtype=torch.int16)
    return hidden.new_empty(shape, dtype=output), winners


@torch.library.custom_op("neural_sparse::pooled_logits_backward", mutates_args=())
def _backward(
    gradient: Tensor,
    pooled: Tensor,
    winners: Tensor,
    hidden: Tensor,
    offsets: Tensor,
    weight: Tensor,
    columns: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    gradient = torch.where(pooled <= 0, 0, gradient)  # a NaN passes, as it does through relu
    by_hidden, by_weight = _implementation(hidden.device.type, gradient.dtype).backward(
        gradient, winners, hidden.contiguous(), offsets, _rows(weight, columns).contiguous()
    )
    by_weight, by_bias = by_weight.to(weight.dtype), gradient.sum(0)
    if columns is not None:
        by_weight, by_bias = (_spread(part, columns, len(weight)) for part in (by_weight, by_bias))
    return by_hidden.to(hidden.dtype), by_weight, by_bias


@_backward.register_fake
def _(
    gradient: Tensor,
    pooled: Tensor,
    winners: Tensor,
    hidden: Tensor,
    offsets: Tensor,
    weight: Tensor,
    columns: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    by_hidden, by_weight = hidden.new_empty(hidden.shape), weight.new_empty(weight.shape)
    return by_hidden, by_weight, gradient.new_empty(weight.shape[0])


def _rows(table: Tensor, columns: Tensor | None) -> Tensor:
    return table if columns is None else table.index_select(0, columns)


def _spread(rows: Tensor, columns: Tensor, count: int) -> Tensor:
    """A tensor of `count` rows, `rows` at `columns` and 0 elsewhere."""
    whole = rows.new_zeros(count, *rows.shape[1:])
    whole[columns] = rows
    return whole


def _save(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    hidden, offsets, weight, bias, columns, *_ = inputs
    ctx.save_for_backward(*output, hidden, offsets, weight, columns)
    ctx.bias_dtype = None if bias is None else bias.dtype


def _gradients(ctx, gradient: Tensor, _: Tensor | None) -> tuple:  # type: ignore[no-untyped-def]
    by_hidden, by_weight, by_bias = _backward(gradient, *ctx.saved_tensors)
    by_bias = None if ctx.bias_dtype is None else by_bias.to(ctx.bias_dtype)
    return by_hidden, None, by_weight, by_bias, None, None, None, None


_forward.register_autograd(_gradients, setup_context=_save)


def _implementation(device: str, dtype: torch.dtype) -> ModuleType:
    if device == "cpu":
        return head_cpu
    if device == "cuda" and dtype != torch.float64 and importlib.util.find_spec("triton"):
        return importlib.import_module("neural_sparse.model.head_triton")
    return head_torch
