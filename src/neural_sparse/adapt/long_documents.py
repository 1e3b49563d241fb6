"""Whether a collection has documents longer than the model reads, so that passages are worth a try."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neural_sparse.text.tokens import tokenize

LONG_SHARE = 0.1  # of the documents, from which on passages are tried
_SAMPLE = 500


def long_share(texts: Sequence[str], tokenizer: Any, max_length: int) -> float:
    """Share of the texts, a sample of them where there are many, that the model cuts."""
    rows = np.random.default_rng(0).permutation(len(texts))[:_SAMPLE]
    sample = [texts[row] for row in np.sort(rows).tolist()]
    return tokenize(sample, tokenizer, max_length, special_tokens=True).truncated / max(1, len(sample))
