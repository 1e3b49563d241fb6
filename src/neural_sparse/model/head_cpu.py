"""The fused head on CPU: torch multiplies one cache-sized block of scores, numba reduces it while it is hot.

Each thread owns whole blocks of the vocabulary, so nothing is shared; of the result, only the rounding of products
may depend on the number of threads, by the width of the blocks. The reduction also notes the winning token of each
(text, dimension), which costs a few per cent of the product; the backward pass then needs no scores at all, however
many dimensions are active.
"""

import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numba import njit
from torch import Tensor

BLOCK_TOKENS = 512
BLOCK_DIMENSIONS = 512
_HALF_INFINITY = {torch.bfloat16: 0x7F80, torch.float16: 0x7C00}


def forward(
    hidden: Tensor, offsets: Tensor, weight: Tensor, bias: Tensor | None, want_winners: bool
) -> tuple[Tensor, Tensor]:
    """Pooled logits [texts, vocabulary] and, if wanted, each one's winner (int16, counted in its text).

    hidden [tokens, width] and weight [vocabulary, width] share one dtype and are contiguous. Scores of half
    precision are accumulated in float32 and rounded once.
    """
    texts, vocabulary, tokens = offsets.shape[0] - 1, weight.shape[0], hidden.shape[0]
    half = hidden.dtype in _HALF_INFINITY
    # Half-precision maxima are found among the numbers' bits, as 16-bit integers: numba knows no bfloat16.
    bounds = offsets.numpy()
    pooled = hidden.new_empty(texts, vocabulary, dtype=torch.int16 if half else hidden.dtype)
    winners = hidden.new_zeros((texts, vocabulary) if want_winners else (0, 0), dtype=torch.int16)
    pooled_array, winners_array = pooled.numpy(), winners.numpy()
    infinity = np.int16(_HALF_INFINITY.get(hidden.dtype, 0))

    # The matrix of scores, tokens by vocabulary, is cut both ways: blocks of `rows` tokens, which need not end where a
    # text does, and blocks of the vocabulary. One block of scores per thread is all that exists of it.
    # bfloat16 products are so fast that repacking the weights for each block of tokens would show.
    rows = min(tokens, BLOCK_TOKENS * (4 if half else 1))
    starts = range(0, tokens, max(1, rows))
    first_texts = np.searchsorted(bounds[1:], np.asarray(starts), side="right")
    blocks = _blocks(vocabulary)
    step = max((right - left for left, right in blocks), default=0)
    scratch = hidden.new_empty(torch.get_num_threads(), rows * step)

    def work(worker: int) -> None:
        # Threads take blocks of the vocabulary as they get ready; a list's pop is atomic. A block's columns of
        # `pooled` and `winners` belong to one thread, so nothing is locked.
        while True:
            try:
                left, right = blocks.pop()
            except IndexError:
                return
            for start, first_text in zip(starts, first_texts, strict=True):
                here = min(rows, tokens - start)
                # Multiply into the scratch, then reduce while it is in cache.
                scores = scratch[worker, : here * (right - left)].view(here, right - left)
                torch.mm(hidden[start : start + here], weight[left:right].T, out=scores)
                if half:
                    bits = scores.view(torch.int16).numpy()
                    _half_maxima(
                        bits,
                        start,
                        text=first_text,
                        bounds=bounds,
                        left=left,
                        infinity=infinity,
                        pooled=pooled_array,
                        winners=winners_array,
                    )
                else:
                    _maxima(
                        scores.numpy(),
                        start,
                        text=first_text,
                        bounds=bounds,
                        left=left,
                        pooled=pooled_array,
                        winners=winners_array,
                    )

    _in_threads(work)
    pooled = pooled.view(hidden.dtype).float() if half else pooled
    if bias is not None:
        # Rounding is monotone, so adding the bias to the maximum equals the maximum of the sums.
        pooled += bias.to(pooled.dtype)
    pooled.relu_()
    pooled[offsets.diff() == 0] = 0
    return pooled, winners


def backward(
    gradient: Tensor, winners: Tensor, hidden: Tensor, offsets: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of hidden and weight for a `gradient` [texts, vocabulary] that is zero where inactive.

    Each active pair adds g * weight[dimension] to its winning token and g * token to the dimension's row.
    """
    dtype, texts = gradient.dtype, gradient.shape[0]
    hidden_gradient = torch.zeros_like(hidden, dtype=dtype)
    weight_gradient = torch.zeros_like(weight, dtype=dtype)
    arrays = [t.contiguous().numpy() for t in (gradient, winners, offsets)]
    hidden_array, weight_array = hidden.to(dtype).numpy(), weight.to(dtype).numpy()
    into_hidden, into_weight = hidden_gradient.numpy(), weight_gradient.numpy()
    threads = torch.get_num_threads()
    # Two kinds of jobs with disjoint outputs: texts own their tokens' rows, blocks of the vocabulary own theirs.
    jobs = (
        [(0, text, min(texts, text + 8)) for text in range(0, texts, 8)] if threads > 1 else [(0, 0, texts)]
    )
    jobs += [(1, left, right) for left, right in _blocks(weight.shape[0])]

    def work(worker: int) -> None:
        while True:
            try:
                kind, first, last = jobs.pop()
            except IndexError:
                return
            if kind == 0:
                _add_to_tokens(*arrays, weight_array, first, last, into_hidden)  # type: ignore[call-arg]
            else:
                _add_to_dimensions(*arrays, hidden_array, first, last, into_weight)  # type: ignore[call-arg]

    _in_threads(work)
    return hidden_gradient, weight_gradient


def _blocks(vocabulary: int) -> list[tuple[int, int]]:
    """Blocks of the vocabulary, about BLOCK_DIMENSIONS wide and a multiple of the number of threads."""
    threads = torch.get_num_threads()
    count = -(-vocabulary // (BLOCK_DIMENSIONS * threads)) * threads
    step = max(16, -(-vocabulary // (max(1, count) * 16)) * 16)
    return [(left, min(left + step, vocabulary)) for left in range(0, vocabulary, step)]


def _in_threads(work: Callable[[int], None]) -> None:
    """Run work(0) .. work(n - 1) side by side, n being torch's number of threads."""
    threads = torch.get_num_threads()
    # Inference mode is a thread's own; outside it, the caller's inference tensors could not be written to.
    mode = torch.inference_mode if torch.is_inference_mode_enabled() else torch.no_grad

    def guarded(worker: int) -> None:
        with mode():
            work(worker)

    if threads == 1:
        guarded(0)
    else:
        list(_threads(os.getpid(), threads).map(guarded, range(threads)))


@functools.cache
def _threads(_process: int, count: int) -> ThreadPoolExecutor:
    """Threads in which torch runs single-threaded; kept, since BLAS keeps buffers for each thread it meets.

    The process id is part of the key because threads do not survive a fork.
    """
    ready = threading.Barrier(count)

    def start(_: int) -> None:
        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
        ready.wait()

    pool = ThreadPoolExecutor(count, thread_name_prefix="neural-sparse-head")
    list(pool.map(start, range(count)))
    torch.set_num_threads(count)  # the setting is per thread, but new threads take over the latest one
    return pool


@njit(nogil=True, cache=True)
def _maxima(scores, start, text, bounds, left, pooled, winners):  # type: ignore[no-untyped-def]
    """Fold scores (tokens from `start` on, dimensions from `left` on) into pooled and winners."""
    stop, columns = start + scores.shape[0], scores.shape[1]
    while text < len(pooled) and bounds[text] < stop:  # every text with a token in this block
        best = pooled[text][left : left + columns]
        low, high = max(start, bounds[text]), min(stop, bounds[text + 1])
        if low == bounds[text] and low < high:  # the text begins here: its first token is the best so far
            for j in range(columns):
                best[j] = scores[low - start, j]
            low += 1
        # Selections instead of branches in the loops over j, so that they are vectorised. NaN wins and stays.
        if len(winners):
            winner = winners[text][left : left + columns]
            for token in range(low, high):
                row = scores[token - start]
                name = np.int16(token - bounds[text])
                for j in range(columns):
                    better = row[j] > best[j] or row[j] != row[j]
                    best[j] = row[j] if better else best[j]
                    winner[j] = name if better else winner[j]
        else:
            whole = low + (high - low) // 4 * 4
            for token in range(low, whole, 4):  # four at once: `best` is read and written a quarter as often
                at = token - start
                a, b, c, d = scores[at], scores[at + 1], scores[at + 2], scores[at + 3]
                for j in range(columns):
                    x = a[j] if (a[j] > b[j]) | (a[j] != a[j]) else b[j]
                    y = c[j] if (c[j] > d[j]) | (c[j] != c[j]) else d[j]
                    x = x if (x > y) | (x != x) else y
                    best[j] = x if (x > best[j]) | (x != x) else best[j]
            for token in range(whole, high):
                row = scores[token - start]
                for j in range(columns):
                    best[j] = row[j] if (row[j] > best[j]) | (row[j] != row[j]) else best[j]
        text += 1


@njit(nogil=True, cache=True)
def _half_maxima(scores, start, text, bounds, left, infinity, pooled, winners):  # type: ignore[no-untyped-def]
    """`_maxima` on the bits of half-precision numbers, in order as integers once negatives are flipped."""
    magnitude = np.int16(0x7FFF)
    stop, columns = start + scores.shape[0], scores.shape[1]
    while text < len(pooled) and bounds[text] < stop:
        best = pooled[text][left : left + columns]
        low, high = max(start, bounds[text]), min(stop, bounds[text + 1])
        if low == bounds[text]:
            best[:] = np.int16(-0x8000)  # below every key
        for token in range(low, high):
            row = scores[token - start]
            if len(winners):
                winner = winners[text][left : left + columns]
                name = np.int16(token - bounds[text])
                for j in range(columns):
                    bits = row[j]
                    size = bits & magnitude
                    # bits >> 15 is -1 for negative numbers: their magnitude is flipped, so that less is less.
                    key = np.int16(bits ^ ((bits >> np.int16(15)) & magnitude))
                    key = magnitude if size > infinity else key  # NaN, of either sign, above everything
                    better = key > best[j]
                    best[j] = key if better else best[j]
                    winner[j] = name if better else winner[j]
            else:
                for j in range(columns):
                    bits = row[j]
                    size = bits & magnitude
                    key = np.int16(bits ^ ((bits >> np.int16(15)) & magnitude))
                    key = magnitude if size > infinity else key
                    best[j] = key if key > best[j] else best[j]
        if bounds[text + 1] <= stop:  # the text ends here: keys become numbers again, by the same flip
            for j in range(columns):
                best[j] = best[j] ^ ((best[j] >> np.int16(15)) & magnitude)
        text += 1


@njit(nogil=True, cache=True)
def _add_to_tokens(gradient, winners, bounds, weight, first, last, into):  # type: ignore[no-untyped-def]
    """Scatter: each active (text, dimension) adds g * weight[dimension] to the row of its winning token."""
    vocabulary, width = weight.shape
    for left in range(0, vocabulary, BLOCK_DIMENSIONS):  # so that these weights stay in cache over the texts
        for text in range(first, last):
            for dimension in range(left, min(left + BLOCK_DIMENSIONS, vocabulary)):
                g = gradient[text, dimension]
                if g != 0:
                    row, source = into[bounds[text] + winners[text, dimension]], weight[dimension]
                    for j in range(width):
                        row[j] += g * source[j]


@njit(nogil=True, cache=True)
def _add_to_dimensions(gradient, winners, bounds, hidden, first, last, into):  # type: ignore[no-untyped-def]
    """Gather: each active (text, dimension) adds g * its winning token to the dimension's row."""
    width = hidden.shape[1]
    for text in range(len(gradient)):
        for dimension in range(first, last):
            g = gradient[text, dimension]
            if g != 0:
                row, source = into[dimension], hidden[bounds[text] + winners[text, dimension]]
                for j in range(width):
                    row[j] += g * source[j]
