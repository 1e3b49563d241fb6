"""Texts in comparable form: words, and hashes of word n-grams."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

# Letters and digits; scripts written without spaces are taken character by character.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")
_ASCII_WORD = re.compile(r"[a-z0-9]+")
_BASE = np.uint64(1_099_511_628_211)


def normalised(text: str) -> str:
    """Lower-cased words parted by single spaces; case, punctuation, spacing and character forms are gone."""
    return " ".join(words(text))


def words(text: str) -> list[str]:
    """Words of the text in comparable form (NFKC, lower case)."""
    if text.isascii():  # the same words, three times as fast
        return _ASCII_WORD.findall(text.lower())
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())


def ngram_hashes(
    split: Sequence[Sequence[str]], size: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Hashes of all word n-grams and the text each is from; none for texts shorter than `size` words."""
    lengths = np.array([len(found) for found in split], dtype=np.int64)
    hashes = _Hashes()
    hashed = np.fromiter(map(hashes.__getitem__, chain.from_iterable(split)), np.uint64, lengths.sum())
    owners = np.repeat(np.arange(len(split)), lengths)
    if len(hashed) < size:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    count = len(hashed) - size + 1
    grams = np.zeros(count, np.uint64)
    for place in range(size):  # overflow is what makes it a hash
        grams = grams * _BASE + hashed[place : place + count] + np.uint64(1)
    inside = owners[:count] == owners[size - 1 :]
    return grams[inside], owners[:count][inside]


class _Hashes(dict[str, int]):
    """A hash for each word, made once: text repeats its words."""

    def __missing__(self, word: str) -> int:
        self[word] = found = zlib.crc32(word.encode())
        return found
