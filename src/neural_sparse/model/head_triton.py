"""The fused head on CUDA: Triton kernels that keep every score on the chip.

Forward: one program per text and block of the vocabulary multiplies tile by tile, accumulates in float32
and keeps a running maximum with its token, so that no score is written out (the idea of Sparton,
arXiv 2603.25011, on packed texts). Backward: gather for the weights, scatter for the tokens, over active
pairs alone. Runs on CPU tensors under TRITON_INTERPRET=1, which is how the tests check it without a GPU.
"""

import contextlib

import torch
import triton
import triton.language as tl
from torch import Tensor

from neural_sparse.model import head_torch


def forward(
    hidden: Tensor, offsets: Tensor, weight: Tensor, bias: Tensor | None, want_winners: bool
) -> tuple[Tensor, Tensor]:
    """Pooled logits [texts, vocabulary] and, if wanted, each one's winner (int16, counted in its text).

    hidden [tokens, width] and weight [vocabulary, width] share one dtype, float32 or less, and are
    contiguous. float32 is multiplied exactly unless torch.backends.cuda.matmul.allow_tf32 says otherwise.
    """
    texts, (vocabulary, width) = offsets.shape[0] - 1, weight.shape
    pooled = hidden.new_empty(texts, vocabulary, dtype=torch.float32)
    winners = hidden.new_empty((texts, vocabulary) if want_winners else (0, 0), dtype=torch.int16)
    if not pooled.numel():
        return pooled, winners
    single = hidden.dtype == torch.float32
    # Short texts would leave most of a tall tile empty. These sizes are estimates: no GPU has timed them yet.
    tokens = 64 if single or hidden.shape[0] < 96 * texts else 128
    dimensions, depth = 128, 32 if single else 64
    with _on(hidden):
        _maxima[texts, triton.cdiv(vocabulary, dimensions)](
            hidden,
            offsets,
            weight,
            weight if bias is None else bias,
            pooled,
            winners,
            vocabulary,
            width,
            HAS_BIAS=bias is not None,
            WANT_WINNERS=want_winners,
            PRECISION="tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee",
            WHOLE=width % depth == 0,
            TOKENS=tokens,
            DIMENSIONS=dimensions,
            DEPTH=depth,
            num_warps=8,
            num_stages=3,
        )
    return pooled, winners


def backward(
    gradient: Tensor, winners: Tensor, hidden: Tensor, offsets: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of hidden and weight for a `gradient` [texts, vocabulary] that is zero where inactive.

    The tokens are summed with atomic additions, in no fixed order; under
    torch.use_deterministic_algorithms the torch operations take over.
    """
    if torch.are_deterministic_algorithms_enabled():
        return head_torch.backward(gradient, winners, hidden, offsets, weight)
    gradient = gradient.contiguous()
    (texts, vocabulary), width = gradient.shape, weight.shape[1]
    hidden_gradient = torch.zeros_like(hidden, dtype=torch.float32)
    weight_gradient = torch.zeros_like(weight, dtype=torch.float32)
    if not gradient.numel():
        return hidden_gradient, weight_gradient
    shared = gradient, winners, offsets
    depth = min(256, triton.next_power_of_2(width))
    with _on(hidden):
        grid = triton.cdiv(vocabulary, 16), triton.cdiv(width, depth)
        _add_to_dimensions[grid](
            *shared, hidden, weight_gradient, texts, vocabulary, width, DIMENSIONS=16, DEPTH=depth
        )
        grid = texts, triton.cdiv(vocabulary, 16)
        _add_to_tokens[grid](*shared, weight, hidden_gradient, vocabulary, width, DIMENSIONS=16, DEPTH=depth)
    return hidden_gradient, weight_gradient


def _on(tensor: Tensor) -> contextlib.AbstractContextManager:
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()


@triton.jit
def _maxima(  # type: ignore[no-untyped-def]
    hidden,
    offsets,
    weight,
    bias,
    pooled,
    winners,
    vocabulary,
    width,
    HAS_BIAS: tl.constexpr,
    WANT_WINNERS: tl.constexpr,
    PRECISION: tl.constexpr,
    WHOLE: tl.constexpr,
    TOKENS: tl.constexpr,
    DIMENSIONS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    text = tl.program_id(0).to(tl.int64)
    start, end = tl.load(offsets + text), tl.load(offsets + text + 1)
    dimension = tl.program_id(1) * DIMENSIONS + tl.arange(0, DIMENSIONS)
    row = tl.minimum(dimension, vocabulary - 1).to(tl.int64)
    best = tl.full([DIMENSIONS], float("-inf"), tl.float32)
    winner = tl.zeros([DIMENSIONS], tl.int32)
    final = (end - start).to(tl.int32) - 1
    spoiled = tl.zeros([DIMENSIONS], tl.int32)
    for first in range(0, final + 1, TOKENS):
        # Past the end the last token is repeated: a repeat ties and the first wins, so no mask is needed.
        token = tl.minimum(first + tl.arange(0, TOKENS), final)
        scores = tl.zeros([TOKENS, DIMENSIONS], tl.float32)
        for left in range(0, width, DEPTH):
            depth = left + tl.arange(0, DEPTH)
            at_hidden = hidden + (start + token)[:, None] * width + depth[None, :]
            at_weight = weight + row[None, :] * width + depth[:, None]
            if WHOLE:
                h, w = tl.load(at_hidden), tl.load(at_weight)
            else:
                h = tl.load(at_hidden, mask=depth[None, :] < width, other=0.0)
                w = tl.load(at_weight, mask=depth[:, None] < width, other=0.0)
            scores = tl.dot(h, w, scores, input_precision=PRECISION)
        highest = tl.max(scores, 0)
        spoiled = tl.maximum(spoiled, tl.max((scores != scores).to(tl.int32), 0))  # max passes over NaN
        if WANT_WINNERS:
            leader = tl.min(tl.where(scores == highest[None, :], token[:, None], final), 0)
            winner = tl.where(highest > best, leader, winner)
        best = tl.maximum(best, highest)
    best = tl.where(spoiled > 0, float("nan"), best)
    if HAS_BIAS:
        best += tl.load(bias + row).to(tl.float32)
    best = tl.where(best <= 0, 0.0, best)  # maximum() would lose NaN
    at = text * vocabulary + dimension
    tl.store(pooled + at, best, mask=dimension < vocabulary)
    if WANT_WINNERS:
        tl.store(winners + at, winner.to(tl.int16), mask=dimension < vocabulary)


@triton.jit
def _add_to_dimensions(  # type: ignore[no-untyped-def]
    gradient,
    winners,
    offsets,
    hidden,
    into,
    texts,
    vocabulary,
    width,
    DIMENSIONS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    dimension = tl.program_id(0).to(tl.int64) * DIMENSIONS + tl.arange(0, DIMENSIONS)
    depth = tl.program_id(1) * DEPTH + tl.arange(0, DEPTH)
    inside = dimension < vocabulary
    total = tl.zeros([DIMENSIONS, DEPTH], tl.float32)
    at = dimension
    for text in range(texts):
        g = tl.load(gradient + at, mask=inside, other=0.0)
        active = g != 0
        if tl.max(active.to(tl.int32), 0) > 0:
            token = tl.load(offsets + text) + tl.load(winners + at, mask=active, other=0)
            mask = active[:, None] & (depth < width)[None, :]
            h = tl.load(hidden + token[:, None] * width + depth[None, :], mask=mask, other=0.0)
            total += g[:, None] * h.to(tl.float32)
        at += vocabulary
    mask = inside[:, None] & (depth < width)[None, :]
    tl.store(into + dimension[:, None] * width + depth[None, :], total, mask=mask)


@triton.jit
def _add_to_tokens(  # type: ignore[no-untyped-def]
    gradient,
    winners,
    offsets,
    weight,
    into,
    vocabulary,
    width,
    DIMENSIONS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    text = tl.program_id(0).to(tl.int64)
    dimension = tl.program_id(1).to(tl.int64) * DIMENSIONS + tl.arange(0, DIMENSIONS)
    at = text * vocabulary + dimension
    g = tl.load(gradient + at, mask=dimension < vocabulary, other=0.0)
    active = g != 0
    if tl.max(active.to(tl.int32), 0) > 0:
        token = tl.load(offsets + text) + tl.load(winners + at, mask=active, other=0)
        for left in range(0, width, DEPTH):
            depth = left + tl.arange(0, DEPTH)
            mask = active[:, None] & (depth < width)[None, :]
            w = tl.load(weight + dimension[:, None] * width + depth[None, :], mask=mask, other=0.0)
            change = g[:, None] * w.to(tl.float32)
            tl.atomic_add(into + token[:, None] * width + depth[None, :], change, mask=mask, sem="relaxed")
