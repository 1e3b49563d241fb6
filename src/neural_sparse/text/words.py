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
from neural_sparse.text.languages import BIGRAMS, WORD, Analysis
from neural_sparse.text.morphemes import check_korean, korean_words
from neural_sparse.text.ragged import offsets_of
from neural_sparse.text.tokens import nfc, vocabulary

SEGMENTERS = ("korean",)


class Words:
    """Lower-cased words without stopwords, stemmed, by bm25s's tokenizer.

    Words of scripts that a stemmer or stopword list does not know pass through it unchanged.

    Attributes:
        vocabulary: word (stem) -> id, in the order of the ids.
        stemmer, stopwords, pattern: As given.
        segmenter: "korean": texts are cut into morphemes first, see `korean_words`; None.
    """

    def __init__(
        self,
        stemmer: str | None,
        stopwords: str | Sequence[str] | None,
        pattern: str = WORD,
        vocabulary: Sequence[str] = (),
        segmenter: str | None = None,
    ) -> None:
        if segmenter is not None:
            if segmenter not in SEGMENTERS:
                raise InputError(f"unknown segmenter {segmenter!r}; choose from {', '.join(SEGMENTERS)}")
            check_korean()  # before the work
        self.segmenter = segmenter
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

    @classmethod
    def of(cls, analysis: Analysis) -> Words:
        """Words as a language has them; none are known yet."""
        return cls(analysis.stemmer, analysis.stopwords, analysis.pattern, segmenter=analysis.segmenter)

    def __reduce__(self) -> tuple[type[Words], tuple[object, ...]]:
        """Made again in another process: a stemmer cannot travel."""
        words = sorted(self.vocabulary, key=self.vocabulary.__getitem__)
        return Words, (self.stemmer, self.stopwords, self.pattern, words, self.segmenter)

    @property
    def said(self) -> str:
        """How words are made, for people."""
        if self.segmenter:
            return f"{self.segmenter} morphemes"
        if self.pattern == BIGRAMS:
            return "pairs of letters"
        if self.stemmer is None and not self.stopwords:
            return "words as they are"
        return f"stemmer: {self.stemmer}, stop words: {self.stopwords}"

    @property
    def vocabulary(self) -> dict[str, int]:
        tokenizer = self._tokenizer
        return tokenizer.word_to_id if self.stemmer is None else tokenizer.stem_to_sid

    def learn(self, texts: Sequence[str]) -> list[list[int]]:
        """Word ids of each text; new words join the vocabulary."""
        return self._ids(texts, learn=True)

    def known(self, text: str) -> list[int]:
        """Ids of the known words of a text, in its order."""
        return self._ids([text], learn=False)[0]

    def _ids(self, texts: Sequence[str], learn: bool) -> list[list[int]]:
        refuse_one_string(texts)
        composed = [nfc(text) for text in texts]
        if self.segmenter:
            composed = [" ".join(words) for words in korean_words(composed)]
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


def token_classes(tokenizer: Any, language: str = "english") -> np.ndarray:
    """int64 [vocabulary]: tokens that are forms of one word have the same number, and what BM25 leaves out has -1.

    That are special tokens, stopwords, punctuation and single Latin letters, and in Korean what begins with a particle
    or an ending. A token that continues a word is a class of its own.

    Args:
        language: whose stemmer and stopwords; as of `Analysis.of`, but not "auto".
    """
    names = vocabulary(tokenizer)
    marked = any(name.startswith(WORD_STARTS) for name in names)
    classes = np.full(len(names), -2, np.int64)  # of its own
    begin = [
        token
        for token, name in enumerate(names)
        if (name.startswith(WORD_STARTS) if marked else not name.startswith("##"))
    ]
    words = Words.of(Analysis.of(language))
    learned = words.learn([names[token].lstrip("".join(WORD_STARTS)) for token in begin])
    for token, found in zip(begin, learned, strict=True):
        classes[token] = found[0] if len(found) == 1 else -2 if found else -1
    own = classes == -2
    classes[own] = len(words.vocabulary) + np.arange(own.sum())
    classes[tokenizer.all_special_ids] = -1
    return classes
