"""Texts in comparable form, and which are nearly the same: words, hashes of word n-grams, MinHash (Broder 1997)."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Callable, Sequence
from itertools import chain, pairwise

import numpy as np
import numpy.typing as npt
import xxhash
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from neural_sparse.text.ragged import Indices, offsets_of, segment_ids

QUERY_SHINGLE, DOCUMENT_SHINGLE = 1, 3  # words of the n-grams by which texts are near-duplicates
# 18 bands of 7: two texts that share 80% of their n-grams meet in a band with probability 0.985, 50%: 0.13.
BANDS, ROWS = 18, 7
_SEED = 7
_SKETCHED = 1024  # texts at a time, for the library gives Python numbers
_VERIFIED = 4096  # candidates whose texts are read at a time

Bands = npt.NDArray[np.uint32]

# Letters and digits; scripts written without spaces are taken character by character.
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")
_ASCII_WORD = re.compile(r"[a-z0-9]+")
_BASE = np.uint64(1_099_511_628_211)


def normalised(text: str) -> str:
    """Lower-cased words parted by single spaces; case, punctuation, spacing and character forms are gone."""
    return " ".join(words(text))


def words(text: str) -> list[str]:
    """Words of the text in comparable form (NFKC, lower case)."""
    if text.isascii():  # the same words, three times as fast
        return _ASCII_WORD.findall(text.lower())
    return WORD.findall(unicodedata.normalize("NFKC", text).lower())


def ngram_hashes(
    split: Sequence[Sequence[str]], size: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Hashes of all word n-grams and the text each is from; none for texts shorter than `size` words."""
    lengths = np.array([len(found) for found in split], dtype=np.int64)
    hashes = _Hashes()
    hashed = np.fromiter(map(hashes.__getitem__, chain.from_iterable(split)), np.uint64, lengths.sum())
    rows = segment_ids(lengths)
    if len(hashed) < size:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    count = len(hashed) - size + 1
    grams = np.zeros(count, np.uint64)
    for place in range(size):  # overflow is what makes it a hash
        grams = grams * _BASE + hashed[place : place + count] + np.uint64(1)
    inside = rows[:count] == rows[size - 1 :]
    return grams[inside], rows[:count][inside]


class _Hashes(dict[str, int]):
    """A hash for each word, made once: text repeats its words."""

    def __missing__(self, word: str) -> int:
        self[word] = found = zlib.crc32(word.encode())
        return found


def gram_sets(split: Sequence[Sequence[str]], size: int) -> tuple[npt.NDArray[np.uint64], Indices]:
    """Hashes of each text's word n-grams, one text after another, and offsets int64 [texts + 1].

    A text of fewer words than `size` has one hash, of all its words.
    """
    grams, rows = ngram_hashes(split, size)
    short = [row for row, found in enumerate(split) if len(found) < size]
    if short:
        whole = [hash_of_words(split[row]) for row in short]
        grams = np.concatenate([grams, np.array(whole, np.uint64)])
        rows = np.concatenate([rows, np.array(short, np.int64)])
        order = np.argsort(rows, kind="stable")
        grams, rows = grams[order], rows[order]
    counts = np.bincount(rows, minlength=len(split))
    return grams, offsets_of(counts)


def hash_of_words(split: Sequence[str]) -> int:
    """64-bit hash of a whole normalised text."""
    return xxhash.xxh3_64_intdigest(" ".join(split).encode())


def minhash_bands(split: Sequence[Sequence[str]], size: int) -> Bands:
    """uint32 [texts, BANDS]: texts that share most of their n-grams agree in at least one column."""
    parts = [_bands(split[start : start + _SKETCHED], size) for start in range(0, len(split), _SKETCHED)]
    return np.concatenate([np.empty((0, BANDS), np.uint32), *parts])


def _bands(split: Sequence[Sequence[str]], size: int) -> Bands:
    import rensa

    grams, offsets = gram_sets(split, size)
    digests = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
        grams, offsets.astype(np.uint64), BANDS * ROWS, _SEED
    )
    signatures = np.array(digests.to_rows(), dtype=np.uint64).reshape(len(split), BANDS, ROWS)
    hashed = np.zeros((len(split), BANDS), np.uint64)
    for row in range(ROWS):  # overflow is what makes it a hash
        hashed = hashed * _BASE + signatures[:, :, row] + np.uint64(1)
    return (hashed >> np.uint64(32)).astype(np.uint32)


def clusters(
    bands: Bands,
    texts: Callable[[Indices], list[str]],
    size: int,
    threshold: float,
    progress: Callable[[int], object] | None = None,
) -> Indices:
    """For each text the first one of its cluster of near-duplicates, int64 [texts]; itself for most.

    Two texts are near-duplicates if the Jaccard similarity of their sets of word n-grams reaches
    `threshold`; a cluster is what such pairs connect. In each band every text is compared with the first one
    there.

    Args:
        bands: of `minhash_bands`, perhaps memory-mapped.
        texts: gives the texts of rows.
        size: of the n-grams.
    """
    count = len(bands)
    candidates = np.empty(0, np.int64)
    for band in range(bands.shape[1]):
        column = np.asarray(bands[:, band])
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        starts = np.concatenate([[True], ordered[1:] != ordered[:-1]]) if count else np.empty(0, bool)
        first = order[np.maximum.accumulate(np.where(starts, np.arange(count), 0))]
        later = ~starts
        candidates = np.union1d(candidates, first[later] * count + order[later])
        if progress is not None:
            progress(1)
    kept = [np.empty(0, np.int64)]
    for start in range(0, len(candidates), _VERIFIED):
        pairs = candidates[start : start + _VERIFIED]
        kept.append(pairs[_similar(pairs // count, pairs % count, texts, size) >= threshold])
    found = np.concatenate(kept)
    graph = coo_matrix((np.ones(len(found), bool), (found // count, found % count)), shape=(count, count))
    number, labels = connected_components(graph, directed=False)
    first_of = np.full(number, count, np.int64)
    np.minimum.at(first_of, labels, np.arange(count))
    return first_of[labels]


def _similar(
    left: Indices, right: Indices, texts: Callable[[Indices], list[str]], size: int
) -> npt.NDArray[np.float64]:
    """Jaccard similarity of pairs of texts."""
    rows, places = np.unique(np.concatenate([left, right]), return_inverse=True)
    grams, offsets = gram_sets([words(text) for text in texts(rows)], size)
    sets = [set(grams[start:end].tolist()) for start, end in pairwise(offsets)]
    return np.array(
        [
            len(sets[one] & sets[other]) / max(len(sets[one] | sets[other]), 1)
            for one, other in zip(places[: len(left)], places[len(left) :], strict=True)
        ]
    )
