"""Batches bounded in padded tokens, few long texts or many short ones; how much of the texts a teacher cuts off."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from neural_sparse.teachers.rows import batches
from neural_sparse.text.tokens import tokenize

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


logger = logging.getLogger(__name__)

SAMPLE = 1000
_warned: WeakSet[object] = WeakSet()  # teachers


def truncated_share(teacher: object, texts: Sequence[str], sample: int = SAMPLE) -> float | None:
    """Share of `texts` that the teacher's tokenizer cuts, from an even sample of at most `sample` of them.

    None for teachers without a tokenizer (BM25, precomputed scores). A cross-encoder's query takes room
    besides, which is not counted.
    """
    if not hasattr(type(teacher), "model") or not len(texts):
        return None
    model, limit = model_and_limit(teacher)
    rows = np.unique(np.linspace(0, len(texts) - 1, min(sample, len(texts))).astype(int))
    tokens = tokenize([texts[row] for row in rows.tolist()], model.tokenizer, special_tokens=True)
    return float(np.mean(tokens.lengths > limit)) if limit else 0.0


def warn_if_truncated(teacher: object, texts: Sequence[str]) -> float | None:
    """`truncated_share`, with a warning, once for a teacher, where it is more than a half."""
    share = truncated_share(teacher, texts)
    if share is not None and share > 0.5 and teacher not in _warned:
        _warned.add(teacher)
        logger.warning(
            "teacher %s cuts %.0f %% of the documents at its limit of %d tokens and judges them by their "
            "beginnings; raise its max_length, split the documents, or choose a teacher that reads more",
            teacher.name,  # type: ignore[attr-defined]
            100 * share,
            model_and_limit(teacher)[1],
        )
    return share


def model_and_limit(teacher: Any) -> tuple[Any, int]:
    """A teacher's model, and how many tokens of a text it reads (0: without limit)."""
    model = teacher.model
    return model, int(model.max_length if hasattr(model, "routes") else model.max_seq_length or 0)
