"""Which tokens are forms of one word, for what counts words in texts that are token ids already."""

from __future__ import annotations

from typing import Any

import numpy as np

from neural_sparse.search.words import Words
from neural_sparse.tokens import vocabulary

WORD_STARTS = ("▁", "Ġ")  # marks of a token that begins a word


def token_classes(tokenizer: Any, stemmer: str = "english", stopwords: str = "english_plus") -> np.ndarray:
    """int64 [vocabulary]: tokens that are forms of one word have the same number, and what BM25 leaves out has -1.

    That are special tokens, stopwords, punctuation and single Latin letters. A token that continues a word is a class
    of its own.
    """
    names = vocabulary(tokenizer)
    marked = any(name.startswith(WORD_STARTS) for name in names)
    classes = np.empty(len(names), np.int64)
    words = Words(stemmer, stopwords)
    for token, name in enumerate(names):
        begins = name.startswith(WORD_STARTS) if marked else not name.startswith("##")
        if not begins:
            classes[token] = -2  # its own
            continue
        (found,) = words.learn([name.lstrip("".join(WORD_STARTS))])
        classes[token] = found[0] if len(found) == 1 else -2 if found else -1
    own = classes == -2
    classes[own] = len(words.vocabulary) + np.arange(own.sum())
    classes[tokenizer.all_special_ids] = -1
    return classes
