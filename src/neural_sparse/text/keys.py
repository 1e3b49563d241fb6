"""128-bit keys of texts, and rows found by them: millions of texts are compared by these without being held.

One way for each purpose: many rows found at once, by keys that stand for their texts, here; single texts of a file by
id in `data.text_table`; ids that are mapped from disk in `search.doc_ids`. Both say why.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import xxhash

from neural_sparse.errors import refuse_one_string
from neural_sparse.text.ragged import Indices

Keys = npt.NDArray[np.uint64]  # [n, 2]


def text_key(text: str) -> bytes:
    """16 bytes: the key of a text as it is."""
    return xxhash.xxh3_128_digest(text.encode("utf-8", "surrogatepass"))


def text_keys(texts: Iterable[str]) -> Keys:
    """Keys of the texts as they are, uint64 [texts, 2]."""
    refuse_one_string(texts)
    return as_keys(b"".join(map(text_key, texts)))


def as_keys(digests: bytes | bytearray | npt.NDArray[np.uint8]) -> Keys:
    """Digests of 16 bytes, one after another or in rows [n, 16], as pairs of numbers, which compare quickly."""
    return np.frombuffer(digests, "<u8").reshape(-1, 2)


def add_texts(digest: hashlib._Hash, texts: Iterable[str]) -> None:
    """Let a hash depend on all the texts, their order and where each ends."""
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)


def first_rows(texts: Iterable[str]) -> Indices:
    """For each text the row where it first occurs, int64 [texts]."""
    return first_occurrence(text_keys(texts))


def first_occurrence(keys: Keys) -> Indices:
    """For each key [n, 2] the first row that has it, int64 [n]."""
    order = np.lexsort((keys[:, 1], keys[:, 0]))  # stable: equal keys stay in order
    ordered = keys[order]
    starts = np.ones(len(keys), bool)
    starts[1:] = (ordered[1:] != ordered[:-1]).any(1)
    first = np.empty(len(keys), np.int64)
    first[order] = order[np.maximum.accumulate(np.where(starts, np.arange(len(keys)), 0))]
    return first


class GrowingIndex:
    """Finds keys among those that were added so far; of equal ones the latest, as a rule.

    Sorted runs whose lengths fall at least by half from one to the next: to add n keys, a few at a time, sorts each
    about log2(n) times, and to find one looks into as many runs, where one sorted array would be made anew each time.
    """

    def __init__(self) -> None:
        self._added: list[Keys] = []  # not sorted yet
        self._runs: list[tuple[int, KeyIndex]] = []  # first row, and the index of the rows from there
        self._total = 0
        self._first = 0

    def add(self, keys: Keys) -> None:
        """Keys [n, 2] of the next n rows."""
        self._added.append(keys)

    def forget(self, count: int) -> None:
        """Drop the first `count` of the rows that are left; the others keep their numbers."""
        self._settle()
        self._first += count
        self._runs = [(start, run) for start, run in self._runs if start + len(run) > self._first]

    def find(self, keys: Keys) -> Indices:
        """Row of each key [wanted, 2], counted from the first that was ever added; -1 for those that are not here."""
        self._settle()
        found = np.full(len(keys), -1, np.int64)
        open_ = np.arange(len(keys))
        for start, run in reversed(self._runs):
            at = run.find(keys[open_])
            here = (at >= 0) & (at + start >= self._first)
            found[open_[here]] = at[here] + start
            open_ = open_[~here]
        return found

    def _settle(self) -> None:
        keys = np.concatenate([np.empty((0, 2), np.uint64), *self._added])
        self._added = []
        if not len(keys):
            return
        start = self._total
        self._total += len(keys)
        while self._runs and len(self._runs[-1][1]) <= 2 * len(keys):
            begin, run = self._runs.pop()
            keys = np.concatenate((run.keys()[max(0, self._first - begin) :], keys))
            start = max(begin, self._first)
        self._runs.append((start, KeyIndex(keys)))


class KeyIndex:
    """Finds keys [n, 2] among others; of equal ones the first."""

    def __init__(self, keys: Keys) -> None:
        self._order = np.lexsort((keys[:, 1], keys[:, 0]))
        self._keys = np.asfortranarray(keys[self._order])

    def __len__(self) -> int:
        return len(self._order)

    def keys(self) -> Keys:
        """As they were given."""
        keys = np.empty_like(self._keys, order="C")
        keys[self._order] = self._keys
        return keys

    def find(self, keys: Keys) -> Indices:
        """Row of each key [wanted, 2], -1 for those that are not here."""
        found = np.full(len(keys), -1, np.int64)
        if not len(self._keys):
            return found
        at = np.searchsorted(self._keys[:, 0], keys[:, 0])
        open_ = np.arange(len(keys))
        while len(open_):  # once as a rule: different keys share their first half once in 2^64 pairs
            open_ = open_[at[open_] < len(self._keys)]
            open_ = open_[self._keys[at[open_], 0] == keys[open_, 0]]
            hit = self._keys[at[open_], 1] == keys[open_, 1]
            found[open_[hit]] = self._order[at[open_[hit]]]
            open_ = open_[~hit]
            at[open_] += 1
        return found
