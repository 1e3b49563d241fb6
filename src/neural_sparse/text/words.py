"""Words of a text as BM25 counts them, and which tokens are forms of one word.

Words are of the composed form (NFC), so that canonically equal texts have equal words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
import Stemmer
from bm25s.tokenization import Tokenizer

from neural_sparse.errors import InputError, refuse_one_string
from neural_sparse.text.ragged import offsets_of
from neural_sparse.text.tokens import nfc, vocabulary

# Runs of letters and digits. Single Latin letters are what is left of "it's" and "e.g."; single digits and
# single letters of other scripts carry meaning. "_" separates, so that identifiers are found by their parts.
WORD = r"(?u)[^\W_][^\W_]+|[^\W_a-zA-Z]"


class Words:
    """Lower-cased words without stopwords, stemmed, by bm25s's tokenizer.

    Words of scripts that a stemmer or stopword list does not know pass through it unchanged.

    Attributes:
        vocabulary: word (stem) -> id, in the order of the ids.
        stemmer, stopwords, pattern: As given.
    """

    def __init__(
        self,
        stemmer: str | None,
        stopwords: str | Sequence[str] | None,
        pattern: str = WORD,
        vocabulary: Sequence[str] = (),
    ) -> None:
        self.stemmer = stemmer
        self.stopwords = stopwords if isinstance(stopwords, str) or stopwords is None else list(stopwords)
        self.pattern = pattern
        try:
            splitter = re.compile(pattern).findall
        except re.error as error:
            raise InputError(f"{pattern!r} is no regular expression: {error}") from error
        try:
            self._tokenizer = Tokenizer(
                splitter=splitter, stopwords=self.stopwords or [], stemmer=_stem_function(stemmer)
            )
        except ValueError as error:
            raise InputError(f"unknown stopword list {stopwords!r}: {error}") from error
        known = {word: i for i, word in enumerate(vocabulary)}
        if stemmer is None:
            self._tokenizer.word_to_id = known
        else:
            self._tokenizer.stem_to_sid = known

    def __reduce__(self) -> tuple[type[Words], tuple[object, ...]]:
        """Made again in another process: a stemmer cannot travel."""
        words = sorted(self.vocabulary, key=self.vocabulary.__getitem__)
        return Words, (self.stemmer, self.stopwords, self.pattern, words)

    @property
    def vocabulary(self) -> dict[str, int]:
        tokenizer = self._tokenizer
        return tokenizer.word_to_id if self.stemmer is None else tokenizer.stem_to_sid

    def learn(self, texts: Sequence[str]) -> list[list[int]]:
        """Word ids of each text; new words join the vocabulary."""
        return self._ids(texts, learn=True)

    def _ids(self, texts: Sequence[str], learn: bool) -> list[list[int]]:
        refuse_one_string(texts)
        composed = [nfc(text) for text in texts]
        return list(self._tokenizer.streaming_tokenize(composed, update_vocab=learn, allow_empty=False))

    def count(self, texts: Sequence[str]) -> sp.csr_matrix:
        """How often each known word occurs, float32 [texts, vocabulary]."""
        ids = self._ids(texts, learn=False)
        indptr = offsets_of([len(one) for one in ids])
        indices = np.array([i for one in ids for i in one], np.int32)
        shape = (len(ids), len(self.vocabulary))
        counts = sp.csr_matrix((np.ones(len(indices), np.float32), indices, indptr), shape=shape)
        counts.sum_duplicates()
        return counts


def _stem_function(name: str | None) -> Callable[[str], str] | None:
    if name is None:
        return None

    try:
        stem: Callable[[str], str] = Stemmer.Stemmer(name).stemWord
        return stem
    except KeyError as error:
        raise InputError(
            f"unknown stemmer {name!r}; there are {', '.join(Stemmer.algorithms(True))}, or None"
        ) from error


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
