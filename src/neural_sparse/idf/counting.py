"""Counting in how many documents each token occurs, faster than the documents can be tokenized.

Text repeats its words. Where a tokenizer's tokens of a text are those of its words, one after the other, each
distinct word is tokenized once and looked up from then on. The counts are exact either way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from itertools import chain, islice
from typing import Any

import numba
import numpy as np
from tqdm import tqdm

from neural_sparse.errors import InputError, refuse_one_string
from neural_sparse.idf.frequencies import DocumentFrequencies
from neural_sparse.tokens import fingerprint, tokenize, tokenizes_words_apart, vocabulary

KNOWN_WORDS = 1 << 17  # the first to come are the most frequent; some 30 MB
LONGEST_WORD = 40  # characters; longer ones are addresses and unspaced scripts, which do not come again
BATCH = 2048


class DocumentCounter:
    """Counts documents as they come, in constant memory.

    Args:
        tokenizer: special tokens are not added.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._fingerprint = fingerprint(tokenizer)
        self._words = _Words() if tokenizes_words_apart(tokenizer) else None
        self._word_ids = np.empty(1 << 10, np.int32)
        self._word_ends = np.zeros(1, np.int64)
        self._counts = np.zeros(len(vocabulary(tokenizer)), np.int64)
        self._last_document = np.full(len(self._counts), -1, np.int64)
        self.documents = 0

    def add(self, texts: list[str]) -> None:
        """
        Raises:
            InputError: an entry that is no string.
        """
        if self._words is None:
            ids, ends = self._tokens(texts)
            numbers, per_text = -1 - np.arange(len(texts)), np.ones(len(texts), np.int64)
        else:
            numbers, per_text = self._look_up(texts)
            ids, ends = self._tokens(self._words.loose)
            self._words.loose.clear()
        _count_once_per_document(
            numbers,
            np.concatenate(([0], np.cumsum(per_text))),
            self._word_ends,
            self._word_ids,
            ends,
            ids,
            self.documents,
            self._counts,
            self._last_document,
        )
        self.documents += len(texts)

    def take(self, source: str | None = None) -> DocumentFrequencies:
        """What was counted since the last time; `source` names the file it came from."""
        found = DocumentFrequencies(
            self._counts, self.documents, self._fingerprint, (source,) if source is not None else ()
        )
        self._counts = np.zeros_like(self._counts)
        self._last_document.fill(-1)
        self.documents = 0
        return found

    def _look_up(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of all words, and words per text; -1 - n is the n-th loose word."""
        assert self._words is not None
        try:
            split = [text.split(" ") for text in texts]
        except AttributeError:
            tokenize(texts, self._tokenizer)  # says which entry is no string
            raise
        per_text = np.fromiter(map(len, split), np.int64, len(split))
        words = chain.from_iterable(split)
        numbers = np.fromiter(map(self._words.__getitem__, words), np.int64, int(per_text.sum()))
        if self._words.new:
            ids, ends = self._tokens(self._words.new)
            self._words.new.clear()
            filled = int(self._word_ends[-1])
            if filled + len(ids) > len(self._word_ids):
                room = np.empty(2 * (filled + len(ids)), np.int32)
                room[:filled] = self._word_ids[:filled]
                self._word_ids = room
            self._word_ids[filled : filled + len(ids)] = ids
            self._word_ends = np.concatenate((self._word_ends, ends[1:] + filled))
        return numbers, per_text

    def _tokens(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        tokens = tokenize(texts, self._tokenizer)
        if len(tokens.ids) and tokens.ids.max() >= len(self._counts):
            raise InputError("the tokenizer gives ids beyond its own vocabulary")
        return tokens.ids.astype(np.int32), tokens.offsets


class _Words(dict[str, int]):
    """Numbers of words; `new` ones are still to be tokenized, `loose` ones are not kept."""

    def __init__(self) -> None:
        self.new: list[str] = []
        self.loose: list[str] = []

    def __missing__(self, word: str) -> int:
        if len(self) < KNOWN_WORDS and len(word) <= LONGEST_WORD:
            number = self[word] = len(self)
            self.new.append(word)
            return number
        self.loose.append(word)
        return -len(self.loose)


@numba.njit(cache=True, nogil=True)
def _count_once_per_document(
    numbers: np.ndarray,
    offsets: np.ndarray,
    known_ends: np.ndarray,
    known_ids: np.ndarray,
    loose_ends: np.ndarray,
    loose_ids: np.ndarray,
    first_document: int,
    counts: np.ndarray,
    last_document: np.ndarray,
) -> None:
    for row in range(len(offsets) - 1):
        document = first_document + row
        for place in range(offsets[row], offsets[row + 1]):
            word = numbers[place]
            if word >= 0:
                ids, start, end = known_ids, known_ends[word], known_ends[word + 1]
            else:
                ids, start, end = loose_ids, loose_ends[-1 - word], loose_ends[-word]
            for position in range(start, end):
                token = ids[position]
                if last_document[token] != document:
                    last_document[token] = document
                    counts[token] += 1


def document_frequencies(
    documents: Iterable[str], tokenizer: Any, batch_size: int = BATCH, show_progress: bool = True
) -> DocumentFrequencies:
    """Count an iterable of texts, streamed, in this process."""
    counter = DocumentCounter(tokenizer)
    total = len(documents) if isinstance(documents, Sized) else None
    with tqdm(total=total, desc="IDF", unit=" docs", disable=None if show_progress else True) as progress:
        for batch in text_batches(documents, batch_size):
            counter.add(batch)
            progress.update(len(batch))
    return counter.take()


def text_batches(documents: Iterable[str], size: int = BATCH) -> Iterator[list[str]]:
    refuse_one_string(documents, "documents")
    iterator = iter(documents)
    while batch := list(islice(iterator, size)):
        yield batch
