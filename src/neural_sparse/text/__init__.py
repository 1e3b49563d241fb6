"""Texts as tokens, words, keys and flat arrays: no Python object per text."""

from typing import TYPE_CHECKING

from neural_sparse.lazy import lazy

if TYPE_CHECKING:
    from neural_sparse.text.keys import text_keys
    from neural_sparse.text.ragged import RowLists
    from neural_sparse.text.texts import ArrowTexts
    from neural_sparse.text.tokens import Tokens, encode_queries, tokenize, vocabulary
    from neural_sparse.text.words import Words

__all__ = [
    "ArrowTexts",
    "RowLists",
    "Tokens",
    "Words",
    "encode_queries",
    "text_keys",
    "tokenize",
    "vocabulary",
]
__getattr__, __dir__ = lazy(__name__)
