"""Document frequencies as a file: what may be counted in pieces, merged, and added to later.

Counting in how many documents each token occurs, faster than the documents can be tokenized.

Text repeats its words. Where a tokenizer's tokens of a text are those of its words, one after the other, each
distinct word is tokenized once and looked up from then on. The counts are exact either way.

Document frequencies that are counted once: kept under a digest of the texts and the tokenizer.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numba
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from tqdm import tqdm

from neural_sparse.errors import InputError, refuse_one_string
from neural_sparse.io.files import replacing
from neural_sparse.text.keys import add_texts
from neural_sparse.text.ragged import offsets_of
from neural_sparse.text.tokens import fingerprint, tokenize, tokenizes_words_apart, vocabulary

_FORMAT = "document_frequencies"


@dataclass(frozen=True)
class DocumentFrequencies:
    """In how many documents each token occurs.

    Attributes:
        counts: int64 [vocabulary].
        documents: how many were counted.
        tokenizer: `tokens.fingerprint` of the tokenizer that counted.
        sources: sha256 of each corpus file in the counts; none for texts that came from no file.
    """

    counts: np.ndarray
    documents: int
    tokenizer: str
    sources: tuple[str, ...] = ()

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, in one step."""
        about = {
            "documents": self.documents,
            "tokenizer": self.tokenizer,
            "sources": self.sources,
        }
        # One entry: safetensors writes several in any order, and equal counts should be equal files.
        content = save({"counts": np.ascontiguousarray(self.counts, np.int64)}, {_FORMAT: json.dumps(about)})
        with replacing(path) as temporary:
            temporary.write_bytes(content)

    @classmethod
    def load(cls, path: str | Path) -> DocumentFrequencies:
        """
        Raises:
            InputError: no such file, or it holds no document frequencies.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        try:
            with safe_open(path, framework="np") as file:
                metadata = file.metadata() or {}
                if _FORMAT not in metadata:
                    raise InputError(
                        f"{path}: holds no document frequencies; `neural-sparse idf --counts` writes them"
                    )
                about: dict[str, Any] = json.loads(metadata[_FORMAT])
                counts = file.get_tensor("counts")
        except SafetensorError as error:
            raise InputError(f"{path}: holds no document frequencies ({error})") from error
        return cls(counts, about["documents"], about["tokenizer"], tuple(about["sources"]))


def merge(pieces: Iterable[DocumentFrequencies]) -> DocumentFrequencies:
    """The frequencies of all documents of all pieces, which must not share any.

    Raises:
        InputError: nothing to merge, pieces of different tokenizers, a corpus file that is in two of them.
    """
    pieces = list(pieces)
    if not pieces:
        raise InputError("no document frequencies to merge")
    first = pieces[0]
    for piece in pieces[1:]:
        if piece.tokenizer != first.tokenizer or len(piece.counts) != len(first.counts):
            raise InputError(
                f"these counts belong to different tokenizers (of {len(first.counts):,} and "
                f"{len(piece.counts):,} tokens, fingerprints {first.tokenizer[:12]} and {piece.tokenizer[:12]}); "
                "count every part with the same model"
            )
    sources = [source for piece in pieces for source in piece.sources]
    if twice := {source for source in sources if sources.count(source) > 1}:
        raise InputError(
            f"a corpus file is already in these counts (sha256 {min(twice)[:12]}...); "
            "counting its documents twice would be wrong"
        )
    counts = first.counts.copy()
    for piece in pieces[1:]:
        counts += piece.counts
    return DocumentFrequencies(
        counts, sum(piece.documents for piece in pieces), first.tokenizer, tuple(sources)
    )


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
            offsets_of(per_text),
            known_ends=self._word_ends,
            known_ids=self._word_ids,
            loose_ends=ends,
            loose_ids=ids,
            first_document=self.documents,
            counts=self._counts,
            last_document=self._last_document,
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


logger = logging.getLogger(__name__)


def kept_frequencies(documents: Sequence[str], tokenizer: Any, folder: Path) -> DocumentFrequencies:
    """As `document_frequencies`, or what an earlier call with the same texts and tokenizer has counted.

    Args:
        folder: where the counts are kept, one file for each corpus and tokenizer.

    Raises:
        InputError: an entry that is no string; the folder cannot be written.
    """
    file = folder / f"{_digest(documents, tokenizer)}.safetensors"
    if file.is_file():
        try:
            known = DocumentFrequencies.load(file)
            if known.documents == len(documents) and known.tokenizer == fingerprint(tokenizer):
                logger.info("IDF: %d documents were counted before, in %s", known.documents, file)
                return known
        except (InputError, KeyError, ValueError) as error:
            logger.warning("IDF: %s is damaged (%s); counting anew", file, error)
    started = time.perf_counter()
    counted = document_frequencies(documents, tokenizer)
    logger.info(
        "IDF: counted %d documents in %.0f s, kept in %s",
        counted.documents,
        time.perf_counter() - started,
        file,
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}") from error
    counted.save(file)
    return counted


def _digest(documents: Sequence[str], tokenizer: Any) -> str:
    """Hex digest of texts and tokenizer. Hashing a text costs a small part of counting it: see docs/idf.md."""
    digest = hashlib.sha256(fingerprint(tokenizer).encode())
    try:
        add_texts(digest, documents)
    except AttributeError as error:
        position, text = next(
            (place, text) for place, text in enumerate(documents) if not isinstance(text, str)
        )
        raise InputError(f"text {position} is {type(text).__name__}, not a string: {text!r:.80}") from error
    return digest.hexdigest()[:32]
