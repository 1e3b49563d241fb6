"""Candidates that say what the positive says: equal and nearly equal texts, by shingles of characters.

A text is first reduced to lower-case letters and digits with single spaces between the words (NFKC), so that
case, punctuation and layout make no difference. Its shingles are its runs of 8 characters (a shorter text is one
shingle). Characters, not the words that `text.shingles` compares data sets by, which takes CJK apart into characters
and has a document's runs of eight of them: here a candidate is compared with one positive, pair by pair, in any script.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from neural_sparse.errors import refuse_one_string
from neural_sparse.search.compiled import compiled
from neural_sparse.text.ragged import offsets_of

SHINGLE = 8  # characters
_KEPT = 1 << 26  # characters of documents kept from one block of queries to the next: 256 MB
_BASE = np.uint64(0x100000001B3)
_HIGHEST = np.uint64(pow(0x100000001B3, SHINGLE, 1 << 64))

Mask = NDArray[np.bool_]


class Shingles:
    """Compares documents by their shingles; a document is normalised when it is first asked for.

    Attributes:
        documents: the texts.
    """

    def __init__(self, documents: Sequence[str]) -> None:
        self.documents = documents
        self._place = np.full(len(documents), -1, np.int64)
        self._forget()

    def __reduce__(self) -> tuple[type[Shingles], tuple[Sequence[str]]]:
        """In another process: nothing is normalised yet, and the arrays can be written."""
        return Shingles, (self.documents,)

    def _forget(self) -> None:
        self._place[:] = -1
        self._codes = np.empty(0, np.uint32)
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
            _near(
                self._codes,
                self._offsets,
                positives=mine,
                candidates=theirs,
                jaccard=least[0],
                containment=least[1],
                near=near,
            )
        return equal, near & ~equal

    def _fill(self, rows: NDArray[np.int64]) -> None:
        if len(self._codes) > _KEPT:
            self._forget()
        missing = rows[self._place[rows] < 0]
        if not len(missing):
            return
        codes, offsets, whole = code_points([self.documents[row] for row in missing.tolist()])
        self._place[missing] = np.arange(len(missing)) + len(self._whole)
        self._offsets = np.concatenate([self._offsets, offsets[1:] + self._offsets[-1]])
        self._codes = np.concatenate([self._codes, codes])
        self._whole = np.concatenate([self._whole, whole])


def code_points(texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.uint64]]:
    """Code points of the normalised texts, one after another.

    Returns:
        Code points; offsets int64 [texts + 1]; a hash of each text uint64 [texts].
    """
    refuse_one_string(texts)
    simple = [text.lower() if text.isascii() else _fold(text) for text in texts]
    lengths = np.fromiter(map(len, simple), np.int64, len(simple))
    codes = np.frombuffer(bytearray("".join(simple).encode("utf-32-le", "surrogatepass")), np.uint32)
    offsets = offsets_of(lengths)
    whole = np.empty(len(texts), np.uint64)
    _words_only(codes, offsets, _word_characters(), whole)
    return codes[: offsets[-1]].copy(), offsets, whole


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).lower()


@cache
def _word_characters() -> Mask:
    """Which code points are letters or digits, bool [0x110000]."""
    return np.fromiter((chr(code).isalnum() for code in range(0x110000)), np.bool_, 0x110000)


@compiled
def _words_only(
    codes: NDArray[np.uint32], offsets: NDArray[np.int64], word: Mask, whole: NDArray[np.uint64]
) -> None:
    """Keep words parted by single spaces, moving `codes` and `offsets` to the front; fill `whole`."""
    n = 0
    start = offsets[0]
    for text in range(len(offsets) - 1):
        first = n
        gap = False
        hashed = np.uint64(0xCBF29CE484222325)
        for i in range(start, offsets[text + 1]):
            if not word[codes[i]]:
                gap = True
                continue
            if gap and n > first:
                codes[n] = 32
                hashed = (hashed ^ np.uint64(32)) * _BASE
                n += 1
            codes[n] = codes[i]
            hashed = (hashed ^ np.uint64(codes[n])) * _BASE
            n += 1
            gap = False
        start = offsets[text + 1]
        offsets[text + 1] = n
        whole[text] = hashed


@compiled
def _roll(codes: NDArray[np.uint32], start: int, end: int, hashes: NDArray[np.uint64]) -> int:
    """Write the hashes of the shingles of codes[start:end]; returns how many there are."""
    rolling = np.uint64(0)
    n = 0
    for i in range(start, end):
        rolling = rolling * _BASE + np.uint64(codes[i])
        if i - start >= SHINGLE:
            rolling -= np.uint64(codes[i - SHINGLE]) * _HIGHEST
        if i - start >= SHINGLE - 1 or i == end - 1:
            hashes[n] = (rolling ^ (rolling >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15)
            n += 1
    return n


@compiled
def _near(
    codes: NDArray[np.uint32],
    offsets: NDArray[np.int64],
    positives: NDArray[np.int64],
    candidates: NDArray[np.int64],
    jaccard: float,
    containment: float,
    near: Mask,
) -> None:
    """Mark near-duplicates in near [queries, candidates]; places below 0 are not looked at."""
    longest = 1
    for i in range(len(offsets) - 1):
        longest = max(longest, offsets[i + 1] - offsets[i])
    size = 16
    while size < 4 * longest:
        size *= 2
    mask = np.uint64(size - 1)
    shift = np.uint64(20)
    keys = np.zeros(size, np.uint64)  # hashes of the positive's shingles; open addressing
    query_of = np.zeros(size, np.int64)  # that put a key there, from 1
    seen = np.zeros(size, np.int64)  # the candidate that had it last
    hashes = np.empty(longest, np.uint64)
    pair = 0
    for query in range(len(positives)):
        start, end = offsets[positives[query]], offsets[positives[query] + 1]
        n = 0
        for i in range(_roll(codes, start, end, hashes)):
            slot = (hashes[i] >> shift) & mask
            while query_of[slot] == query + 1 and keys[slot] != hashes[i]:
                slot = (slot + np.uint64(1)) & mask
            if query_of[slot] != query + 1:
                query_of[slot], keys[slot] = query + 1, hashes[i]
                n += 1
        # Both measures need this part of the positive's shingles, whatever the candidate has besides.
        least = min(jaccard, containment) * n
        for column in range(candidates.shape[1]):
            place = candidates[query, column]
            if place < 0 or n == 0:
                continue
            pair += 1
            other, other_end = offsets[place], offsets[place + 1]
            left = max(other_end - other - SHINGLE + 1, min(1, other_end - other))
            if left < least:
                continue
            m = _roll(codes, other, other_end, hashes)
            shared = 0
            for i in range(m):
                slot = (hashes[i] >> shift) & mask
                while query_of[slot] == query + 1 and keys[slot] != hashes[i]:
                    slot = (slot + np.uint64(1)) & mask
                if query_of[slot] == query + 1 and seen[slot] != pair:
                    seen[slot] = pair
                    shared += 1
                if shared + m - 1 - i < least:
                    break
            if shared < least:
                continue
            distinct = len(np.unique(hashes[:m]))
            near[query, column] = shared >= containment * n or shared >= jaccard * (n + distinct - shared)
