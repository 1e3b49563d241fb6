"""Candidates that say what the positive says: equal and nearly equal texts, by shingles of characters.

A text is first reduced to lower-case letters and digits with single spaces between the words (NFKC), so that
case, punctuation and layout make no difference. Characters, not words, because not every script parts its
words. A text's shingles are the hashes of its runs of 8 characters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from neural_sparse.search.compiled import compiled

SHINGLE = 8  # characters
_KEPT = 1 << 25  # shingles kept from one block of queries to the next: 128 MB

Mask = NDArray[np.bool_]


class Shingles:
    """Sets of shingles of documents, made when they are first asked for.

    Attributes:
        documents: the texts.
    """

    def __init__(self, documents: Sequence[str]) -> None:
        self.documents = documents
        self._place = np.full(len(documents), -1, np.int64)
        self._forget()

    def _forget(self) -> None:
        self._place[:] = -1
        self._hashes = np.empty(0, np.uint32)
        self._offsets = np.zeros(1, np.int64)
        self._whole = np.empty(0, np.uint64)

    def overlap(
        self,
        positives: NDArray[np.int64],
        candidates: NDArray[np.int64],
        wanted: Mask,
        jaccard: float | None,
        containment: float | None,
    ) -> tuple[Mask, Mask]:
        """Equal and nearly equal candidates.

        Args:
            positives: int64 [queries], document rows.
            candidates: int64 [queries, candidates], document rows.
            wanted: bool [queries, candidates], which to look at.
            jaccard: a near-duplicate shares at least this part of both texts' shingles, |A & B| / |A | B|.
            containment: or holds at least this part of the positive's, |A & B| / |A|. (The other way round
                proves nothing: a sentence of the positive need not answer the query.)

        Returns:
            Candidates equal to the positive once normalised, and the other near-duplicates; both
            bool [queries, candidates].
        """
        self._fill(np.unique(np.concatenate([positives, candidates[wanted]])))
        mine, theirs = self._place[positives], np.where(wanted, self._place[candidates], -1)
        equal = (self._whole[mine][:, None] == self._whole[theirs]) & wanted
        near = np.zeros(wanted.shape, np.bool_)
        if jaccard is not None or containment is not None:
            least = 2.0 if jaccard is None else jaccard, 2.0 if containment is None else containment
            _near(self._hashes, self._offsets, mine, theirs, least[0], least[1], near)
        return equal, near & ~equal

    def _fill(self, rows: NDArray[np.int64]) -> None:
        if len(self._hashes) > _KEPT:
            self._forget()
        missing = rows[self._place[rows] < 0]
        if not len(missing):
            return
        hashes, offsets, whole = shingles([self.documents[row] for row in missing.tolist()])
        self._place[missing] = np.arange(len(missing)) + len(self._whole)
        self._offsets = np.concatenate([self._offsets, offsets[1:] + self._offsets[-1]])
        self._hashes = np.concatenate([self._hashes, hashes])
        self._whole = np.concatenate([self._whole, whole])


def shingles(texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.uint64]]:
    """Distinct shingle hashes of each text, ascending, one text after another.

    Returns:
        Hashes; offsets int64 [texts + 1]; the hash of each whole normalised text uint64 [texts].
    """
    simple = [text.lower() if text.isascii() else _fold(text) for text in texts]
    lengths = np.fromiter(map(len, simple), np.int64, len(simple))
    codes = np.frombuffer("".join(simple).encode("utf-32-le", "surrogatepass"), np.uint32)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    hashes = np.empty(len(codes) + len(texts), np.uint32)
    offsets = np.zeros(len(texts) + 1, np.int64)
    whole = np.empty(len(texts), np.uint64)
    _shingles(codes, starts, _word_characters(), hashes, offsets, whole)
    return hashes[: offsets[-1]].copy(), offsets, whole


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).lower()


@cache
def _word_characters() -> Mask:
    """Which code points are letters or digits, bool [0x110000]."""
    return np.fromiter((chr(code).isalnum() for code in range(0x110000)), np.bool_, 0x110000)


@compiled
def _shingles(
    codes: NDArray[np.uint32],
    starts: NDArray[np.int64],
    word: Mask,
    hashes: NDArray[np.uint32],
    offsets: NDArray[np.int64],
    whole: NDArray[np.uint64],
) -> None:
    """Fill hashes, offsets and whole, as `shingles` returns them; `hashes` has room to spare."""
    base = np.uint64(0x100000001B3)
    highest = np.uint64(1)
    for _ in range(SHINGLE - 1):
        highest *= base
    buffer = np.empty(len(codes) + 1, np.uint64)
    total = 0
    for text in range(len(starts) - 1):
        n = 0
        gap = False
        for i in range(starts[text], starts[text + 1]):
            if word[codes[i]]:
                if gap and n:
                    buffer[n] = np.uint64(32)
                    n += 1
                buffer[n] = np.uint64(codes[i])
                n += 1
                gap = False
            else:
                gap = True
        full = np.uint64(0xCBF29CE484222325)
        for i in range(n):
            full = (full ^ buffer[i]) * base
        whole[text] = full
        first = total
        rolling = np.uint64(0)
        for i in range(n):
            if i >= SHINGLE:
                rolling -= buffer[i - SHINGLE] * highest
            rolling = rolling * base + buffer[i]
            if i >= SHINGLE - 1 or i == n - 1:  # a shorter text is one shingle
                mixed = (rolling ^ (rolling >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15)
                hashes[total] = np.uint32(mixed >> np.uint64(32))
                total += 1
        hashes[first:total].sort()
        last = first
        for i in range(first, total):
            if i == first or hashes[i] != hashes[last - 1]:
                value = hashes[i]
                hashes[last] = value
                last += 1
        total = last
        offsets[text + 1] = total


@compiled
def _near(
    hashes: NDArray[np.uint32],
    offsets: NDArray[np.int64],
    positives: NDArray[np.int64],
    candidates: NDArray[np.int64],
    jaccard: float,
    containment: float,
    near: Mask,
) -> None:
    """Mark near-duplicates in near [queries, candidates]; places below 0 are not looked at."""
    for query in range(len(positives)):
        start = offsets[positives[query]]
        end = offsets[positives[query] + 1]
        n = end - start
        # Both measures need this part of the positive's shingles, whatever the candidate has besides.
        least = min(jaccard, containment) * n
        for column in range(candidates.shape[1]):
            place = candidates[query, column]
            if place < 0:
                continue
            other, other_end = offsets[place], offsets[place + 1]
            m = other_end - other
            if n == 0 or m < least:
                continue
            i, j, shared, lost = start, other, 0, 0
            allowed = n - least
            while i < end and j < other_end and lost <= allowed:
                if hashes[i] == hashes[j]:
                    shared += 1
                    i += 1
                    j += 1
                elif hashes[i] < hashes[j]:
                    lost += 1
                    i += 1
                else:
                    j += 1
            near[query, column] = shared >= containment * n or shared >= jaccard * (n + m - shared)
