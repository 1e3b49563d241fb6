"""The fused head on CUDA: Triton kernels that keep every score on the chip.

Forward: one program per text and block of the vocabulary multiplies tile by tile, accumulates in float32
and keeps a running maximum with its token, so that no score is written out (the idea of Sparton,
arXiv 2603.25011, on packed texts). Backward: gather for the weights, scatter for the tokens, over active
pairs alone. Programs run in an order that leaves what they share in the device's cache (`text_groups`).
Runs on CPU tensors under TRITON_INTERPRET=1, which is how the tests check it without a GPU.
"""

import contextlib
import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from neural_sparse.model import head_torch

CACHE_SHARE = 0.25  # of the device's cache, for what the texts of a group share; the rest streams through
LINES = 32  # of gradients that are looked at in one go: a bit of an integer each
LINE = 16  # neighbouring entries, 64 bytes of gradient


class Tiles(NamedTuple):
    """What one program of the forward kernel multiplies at a time.

    Attributes:
        tokens, dimensions, depth: rows of hidden, rows of weight, and columns of both.
        stages: tiles that are loaded ahead, in shared memory.
    """

    tokens: int
    dimensions: int
    depth: int
    warps: int = 8
    stages: int = 3


def tiles(dtype: torch.dtype, tokens: int, texts: int) -> Tiles:
    """The tiles for so many tokens in so many texts.

    All fit the shared memory and, but for a few bytes, the registers of compute capability 8.0, 9.0, 12.0 and 12.1
    (tested by compiling). Which are fastest is an estimate: no GPU has timed them yet.
    """
    if dtype == torch.float32:
        return Tiles(64, 128, 32)
    # Short texts would leave most of a tall tile empty.
    return Tiles(64, 256, 64) if tokens < 96 * texts else Tiles(128, 128, 64)


def text_groups(texts: int, size: int, cache: int) -> int:
    """Groups of texts that go through the whole vocabulary one after another.

    A group's rows stay in the device's cache (`cache` bytes) while the vocabulary streams past once, instead of
    all rows (`size` bytes) being read again for every block of it.
    """
    return max(1, min(texts, math.ceil(size / (CACHE_SHARE * cache))))


def forward(
    hidden: Tensor,
    offsets: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    want_winners: bool,
    chosen: Tiles | None = None,
) -> tuple[Tensor, Tensor]:
    """Pooled logits [texts, vocabulary] and, if wanted, each one's winner (int16, counted in its text).

    hidden [tokens, width] and weight [vocabulary, width] share one dtype, float32 or less, and are
    contiguous. float32 is multiplied exactly unless torch's setting for products on CUDA is "tf32".
    `chosen` replaces `tiles`, for measuring.
    """
    texts, (vocabulary, width) = offsets.shape[0] - 1, weight.shape
    pooled = hidden.new_empty(texts, vocabulary, dtype=torch.float32)
    winners = hidden.new_empty((texts, vocabulary) if want_winners else (0, 0), dtype=torch.int16)
    if not pooled.numel():
        return pooled, winners
    tile = chosen or tiles(hidden.dtype, hidden.shape[0], texts)
    groups = text_groups(texts, hidden.nbytes, _cache(hidden))
    with _on(hidden):
        _maxima[triton.cdiv(texts, groups), triton.cdiv(vocabulary, tile.dimensions), groups](
            hidden,
            offsets,
            weight,
            weight if bias is None else bias,
            pooled,
            winners,
            texts,
            vocabulary,
            width,
            HAS_BIAS=bias is not None,
            WANT_WINNERS=want_winners,
            PRECISION="tf32" if _tf32() else "ieee",
            WHOLE=width % tile.depth == 0,
            TOKENS=tile.tokens,
            DIMENSIONS=tile.dimensions,
            DEPTH=tile.depth,
            num_warps=tile.warps,
            num_stages=tile.stages,
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
        return head_torch.backward(gradient, winners, hidden=hidden, offsets=offsets, weight=weight)
    gradient = gradient.contiguous()
    (texts, vocabulary), width = gradient.shape, weight.shape[1]
    hidden_gradient = torch.zeros_like(hidden, dtype=torch.float32)
    weight_gradient = torch.zeros_like(weight, dtype=torch.float32)
    if not gradient.numel():
        return hidden_gradient, weight_gradient
    shared = gradient, winners, offsets
    sizes = texts, vocabulary, width
    depth = min(256, triton.next_power_of_2(width))
    tile = {"LINES": LINES, "LINE": LINE, "DEPTH": depth}
    groups = text_groups(texts, hidden_gradient.nbytes, _cache(hidden))
    with _on(hidden):
        programs = triton.cdiv(vocabulary, LINE) * triton.cdiv(width, depth)
        _add_to_dimensions[programs,](*shared, hidden, weight_gradient, *sizes, **tile)
        grid = triton.cdiv(texts, groups), triton.cdiv(vocabulary, LINES * LINE), groups
        _add_to_tokens[grid](*shared, weight, hidden_gradient, *sizes, **tile)
    return hidden_gradient, weight_gradient


def _cache(tensor: Tensor) -> int:
    """Bytes of the cache that all programs share."""
    return torch.cuda.get_device_properties(tensor.device).L2_cache_size if tensor.is_cuda else 1 << 25


def _tf32() -> bool:
    # Once the newer setting is used, as Transformers' trainer does, reading the older one is an error.
    settings = torch.backends.cuda.matmul
    return (
        settings.fp32_precision == "tf32"
        if hasattr(torch.backends, "fp32_precision")
        else settings.allow_tf32
    )


def _on(tensor: Tensor) -> contextlib.AbstractContextManager:
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()


# The number of texts changes from batch to batch: Triton would compile anew for 1 text and for multiples of 16.
@triton.jit(do_not_specialize=["texts"])
def _maxima(  # type: ignore[no-untyped-def]
    hidden,
    offsets,
    weight,
    bias,
    pooled,
    winners,
    texts,
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
    # One program: one text, DIMENSIONS dimensions of the vocabulary, all tokens of the text tile by tile.
    # A group takes every so many-th text, so that sorted texts fill all groups alike.
    text = tl.program_id(0).to(tl.int64) * tl.num_programs(2) + tl.program_id(2)
    if text >= texts:
        return
    start, end = tl.load(offsets + text), tl.load(offsets + text + 1)
    dimension = tl.program_id(1) * DIMENSIONS + tl.arange(0, DIMENSIONS)
    row = tl.minimum(dimension, vocabulary - 1).to(
        tl.int64
    )  # the last block reads in range, and stores masked
    best = tl.full([DIMENSIONS], float("-inf"), tl.float32)
    winner = tl.zeros([DIMENSIONS], tl.int32)
    final = (end - start).to(tl.int32) - 1
    spoiled = tl.zeros([DIMENSIONS], tl.int32)
    for first in range(0, final + 1, TOKENS):
        # Past the end the last token is repeated: a repeat ties and the first wins, so no mask is needed.
        token = tl.minimum(first + tl.arange(0, TOKENS), final)
        # scores = hidden tile x weight tile, in registers; never written to memory.
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
        # Fold the tile into the running maximum; a later tile wins only if it is greater, so the first token of
        # several that are equal does, as on the CPU.
        highest = tl.max(scores, 0)
        spoiled = tl.maximum(spoiled, tl.max((scores != scores).to(tl.int32), 0))  # max passes over NaN
        if WANT_WINNERS:
            leader = tl.min(tl.where(scores == highest[None, :], token[:, None], final), 0)
            winner = tl.where(highest > best, leader, winner)
        best = tl.maximum(best, highest)
    best = tl.where(spoiled > 0, float("nan"), best)
    # Rounding is monotone: the bias after the maximum gives what the bias before it would.
    if HAS_BIAS:
        best += tl.load(bias + row).to(tl.float32)
    best = tl.where((best <= 0) | (final < 0), 0.0, best)  # maximum() would lose NaN
    at = text * vocabulary + dimension
    tl.store(pooled + at, best, mask=dimension < vocabulary)
    if WANT_WINNERS:
        tl.store(winners + at, winner.to(tl.int16), mask=dimension < vocabulary)


@triton.jit
def _active_lines(gradient):  # type: ignore[no-untyped-def]
    """An integer with a bit for each row of gradient [up to 64, any] in which something is not zero."""
    active = tl.max((gradient != 0).to(tl.int64), 1)
    return tl.sum(active << tl.arange(0, gradient.shape[0]).to(tl.int64), 0)


@triton.jit(do_not_specialize=["texts"])
def _add_to_dimensions(  # type: ignore[no-untyped-def]
    gradient,
    winners,
    offsets,
    hidden,
    into,
    texts,
    vocabulary,
    width,
    LINES: tl.constexpr,
    LINE: tl.constexpr,
    DEPTH: tl.constexpr,
):
    # Programs that read the same gradients, for other columns of hidden, are neighbours.
    parts = tl.cdiv(width, DEPTH)
    dimension = (tl.program_id(0) // parts).to(tl.int64) * LINE + tl.arange(0, LINE)
    depth = (tl.program_id(0) % parts) * DEPTH + tl.arange(0, DEPTH)
    # One program owns LINE rows of the weights' gradient (DEPTH columns of them) and goes through all texts, so that
    # nothing is added atomically. Where a block of LINES texts has no active dimension here, it is one load.
    inside = dimension < vocabulary
    total = tl.zeros([LINE, DEPTH], tl.float32)
    row = tl.cast(vocabulary, tl.int64)
    for first in range(0, texts, LINES):
        text = first + tl.arange(0, LINES)
        at = text.to(tl.int64)[:, None] * vocabulary + dimension[None, :]
        lines = _active_lines(
            tl.load(gradient + at, mask=(text < texts)[:, None] & inside[None, :], other=0.0)
        )
        for line in range(LINES if lines != 0 else 0):
            if (lines >> line) & 1 != 0:
                at_line = (first + line) * row + dimension
                g = tl.load(gradient + at_line, mask=inside, other=0.0)
                active = g != 0
                token = tl.load(offsets + first + line) + tl.load(winners + at_line, mask=active, other=0)
                mask = active[:, None] & (depth < width)[None, :]
                h = tl.load(hidden + token[:, None] * width + depth[None, :], mask=mask, other=0.0)
                total += g[:, None] * h.to(tl.float32)
    mask = inside[:, None] & (depth < width)[None, :]
    tl.store(into + dimension[:, None] * width + depth[None, :], total, mask=mask)


@triton.jit(do_not_specialize=["texts"])
def _add_to_tokens(  # type: ignore[no-untyped-def]
    gradient,
    winners,
    offsets,
    weight,
    into,
    texts,
    vocabulary,
    width,
    LINES: tl.constexpr,
    LINE: tl.constexpr,
    DEPTH: tl.constexpr,
):
    text = tl.program_id(0).to(tl.int64) * tl.num_programs(2) + tl.program_id(2)
    if text >= texts:
        return
    # One program: one text, LINES * LINE dimensions, looked at a line at a time; lines without an active one are passed
    # over. Several programs may reach the same token: hence the atomic additions.
    first = tl.program_id(1).to(tl.int64) * LINES * LINE
    dimensions = first + tl.arange(0, LINES)[:, None] * LINE + tl.arange(0, LINE)[None, :]
    lines = _active_lines(
        tl.load(gradient + text * vocabulary + dimensions, mask=dimensions < vocabulary, other=0.0)
    )
    start = tl.load(offsets + text)
    for line in range(LINES if lines != 0 else 0):
        if (lines >> line) & 1 != 0:
            dimension = first + line * LINE + tl.arange(0, LINE)
            at = text * vocabulary + dimension
            g = tl.load(gradient + at, mask=dimension < vocabulary, other=0.0)
            active = g != 0
            token = start + tl.load(winners + at, mask=active, other=0)
            for left in range(0, width, DEPTH):
                depth = left + tl.arange(0, DEPTH)
                mask = active[:, None] & (depth < width)[None, :]
                w = tl.load(weight + dimension[:, None] * width + depth[None, :], mask=mask, other=0.0)
                change = g[:, None] * w.to(tl.float32)
                tl.atomic_add(
                    into + token[:, None] * width + depth[None, :], change, mask=mask, sem="relaxed"
                )
