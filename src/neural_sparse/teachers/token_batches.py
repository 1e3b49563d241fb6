"""Batches bounded in padded tokens: few long texts, many short ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neural_sparse.teachers.rows import batches
from neural_sparse.tokens import tokenize

Split = Callable[[list[Any]], list[slice]]  # a block of items into batches


def by_tokens(lengths: NDArray[np.int64], tokens: int) -> list[slice]:
    """Consecutive slices that cover items of these `lengths` (in tokens), each as large as it may be.

    A batch of n items of at most m tokens has n * m of them, padding included: at most `tokens`, unless one item
    alone has more.
    """
    slices: list[slice] = []
    start = longest = 0
    for end, length in enumerate(lengths.tolist()):
        longest = max(longest, length)
        if end > start and longest * (end + 1 - start) > tokens:
            slices.append(slice(start, end))
            start, longest = end, length
    if len(lengths):
        slices.append(slice(start, len(lengths)))
    return slices


def token_lengths(
    texts: Sequence[str | tuple[str, str]], tokenizer: Any, limit: int, prefix: str = ""
) -> NDArray[np.int64]:
    """Tokens of each text, or of both of a pair, as a model reads them: at most `limit`, special ones included."""
    if texts and isinstance(texts[0], tuple):
        lengths = sum(
            tokenize([pair[side] for pair in texts], tokenizer).lengths for side in (0, 1)
        ) + tokenizer.num_special_tokens_to_add(pair=True)
    else:
        lengths = tokenize([prefix + str(text) for text in texts], tokenizer, special_tokens=True).lengths
    return np.minimum(lengths, limit)


def by_count(size: int, items: Sequence[object]) -> list[slice]:
    """Consecutive slices of at most `size`."""
    return batches(len(items), size)
