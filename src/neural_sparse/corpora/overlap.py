"""Test texts that training data must not hold, and how they are recognised."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neural_sparse.errors import refuse_one_string
from neural_sparse.text.ragged import offsets_of, ranges, segment_ids
from neural_sparse.text.shingles import gram_sets, hash_of_words, ngram_hashes, words

QUERY_GRAM, DOCUMENT_GRAM = 4, 8
CONTAINED = 0.8
_ARRAYS = ("exact", "grams", "owners", "sizes", "rare", "rare_rows", "word_sets", "word_offsets")

Flags = npt.NDArray[np.bool_]


class TestTexts:
    """Queries or documents of test collections, as sorted hashes: memory-mapped, shared by processes.

    A text matches if, after normalisation (case, punctuation, spacing),
    - it is a test text, or
    - it holds 80% of a test text's word n-grams (4 words for queries, 8 for documents), the rule of
      `neural-sparse evaluate`'s leakage check, or
    - for queries: 80% of the words of both are shared (Jaccard).
    """

    __test__ = False  # pytest: not a class of tests

    def __init__(self, arrays: dict[str, npt.NDArray], size: int) -> None:
        self.size = size
        self._arrays = arrays

    @classmethod
    def of(cls, texts: Sequence[str], queries: bool) -> TestTexts:
        """
        Args:
            queries: whether these are queries; documents otherwise.
        """
        refuse_one_string(texts)
        size = QUERY_GRAM if queries else DOCUMENT_GRAM
        split = [found for text in texts if (found := words(text))]
        grams, owners = ngram_hashes(split, size)
        pairs = np.unique(np.stack([grams, owners.astype(np.uint64)], axis=1), axis=0)
        arrays: dict[str, npt.NDArray] = {
            "exact": np.unique(np.array([hash_of_words(found) for found in split], np.uint64)),
            "grams": pairs[:, 0],
            "owners": pairs[:, 1].astype(np.int64),
            "sizes": np.bincount(pairs[:, 1].astype(np.int64), minlength=len(split)),
        }
        return cls({**arrays, **_rare_words(split if queries else [])}, size)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", self._arrays[name])

    @classmethod
    def load(cls, folder: Path, queries: bool) -> TestTexts:
        arrays = {
            name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))
            for name in _ARRAYS
        }
        return cls(arrays, QUERY_GRAM if queries else DOCUMENT_GRAM)

    def match(self, split: Sequence[Sequence[str]]) -> Flags:
        """Which texts, given as words, are or nearly are test texts."""
        numbers: dict[tuple[str, ...], int] = {}
        rows = [numbers.setdefault(tuple(text), len(numbers)) for text in split]
        if not split or not len(self._arrays["exact"]):
            return np.zeros(len(split), bool)
        unique = list(numbers)
        found = _member(np.array([hash_of_words(text) for text in unique], np.uint64), self._arrays["exact"])
        found |= self._containing(unique)
        if len(self._arrays["rare"]):
            found |= self._same_words(unique)
        found &= np.array([len(text) > 0 for text in unique])
        return found[rows]

    def _containing(self, split: Sequence[Sequence[str]]) -> Flags:
        grams, owners = ngram_hashes(split, self.size)
        known = _member(grams, self._arrays["grams"])  # few are, so what follows is cheap
        pairs = np.unique(np.stack([grams[known], owners[known].astype(np.uint64)], axis=1), axis=0)
        tests, place = _joined(pairs[:, 0], self._arrays["grams"], self._arrays["owners"])
        texts = pairs[place, 1].astype(np.int64)
        count = len(self._arrays["sizes"])
        keys, shared = np.unique(texts * count + tests, return_counts=True)
        enough = shared >= CONTAINED * self._arrays["sizes"][keys % count]
        found = np.zeros(len(split), bool)
        found[keys[enough] // count] = True
        return found

    def _same_words(self, split: Sequence[Sequence[str]]) -> Flags:
        sizes = np.diff(self._arrays["word_offsets"])
        own = np.array([len(set(text)) for text in split])
        # A text of many more words than any test query shares too small a part of them.
        short = np.flatnonzero(own * CONTAINED <= sizes.max())
        grams, offsets = gram_sets([split[row] for row in short.tolist()], 1)
        owners = segment_ids(np.diff(offsets))
        tests, place = _joined(grams, self._arrays["rare"], self._arrays["rare_rows"])
        texts = owners[place]
        alike = (own[short][texts] * CONTAINED <= sizes[tests]) & (
            sizes[tests] * CONTAINED <= own[short][texts]
        )
        count = len(sizes)
        found = np.zeros(len(split), bool)
        for key in np.unique(texts[alike] * count + tests[alike]).tolist():
            text, test = divmod(key, count)
            start, end = self._arrays["word_offsets"][test : test + 2]
            wanted = set(self._arrays["word_sets"][start:end].tolist())
            has = set(grams[offsets[text] : offsets[text + 1]].tolist())
            found[short[text]] |= len(wanted & has) >= CONTAINED * len(wanted | has)
        return found


def gather_test_texts(names: Sequence[str], with_documents: bool, folder: Path) -> dict[str, Path]:
    """Test queries, and documents, of collections, as arrays on disk that several processes map.

    Args:
        names: of collections and benchmarks, or folders.

    Returns:
        A folder for "queries" and one for "documents", if these are wanted; nothing without names.

    Raises:
        InputError: no such collection.
    """
    from neural_sparse.corpora.names import expand_names, load_collection, load_queries

    found: dict[str, Path] = {}
    if not names:
        return found
    queries: list[str] = []
    documents: list[str] = []
    for name in expand_names(names):
        queries += load_queries(name).values()
        if with_documents:
            documents += load_collection(name).texts
    found["queries"] = folder / "test-queries"
    TestTexts.of(queries, queries=True).save(found["queries"])
    if with_documents:
        found["documents"] = folder / "test-documents"
        TestTexts.of(documents, queries=False).save(found["documents"])
    return found


def _rare_words(split: Sequence[Sequence[str]]) -> dict[str, npt.NDArray]:
    """Each test text's set of words, and its rarest words, by which candidates are found.

    A text that shares 80% of both sets shares at least one of any (20% + 1) words of the test text: the
    rarest ones have the fewest candidates.
    """
    grams, offsets = gram_sets(split, 1)
    sets = [np.unique(grams[start:end]) for start, end in pairwise(offsets)]
    flat = np.concatenate([np.empty(0, np.uint64), *sets])
    values, counts = np.unique(flat, return_counts=True)
    rare: list[npt.NDArray] = [np.empty(0, np.uint64)]
    rows: list[npt.NDArray] = [np.empty(0, np.int64)]
    for row, found in enumerate(sets):
        needed = len(found) - int(np.ceil(CONTAINED * len(found))) + 1
        by_count = found[np.argsort(counts[np.searchsorted(values, found)], kind="stable")]
        rare.append(by_count[:needed])
        rows.append(np.full(min(needed, len(found)), row, np.int64))
    joined, owners = np.concatenate(rare), np.concatenate(rows)
    order = np.argsort(joined, kind="stable")
    lengths = [len(found) for found in sets]
    return {
        "rare": joined[order],
        "rare_rows": owners[order],
        "word_sets": flat,
        "word_offsets": offsets_of(lengths),
    }


def _member(values: npt.NDArray, ordered: npt.NDArray) -> Flags:
    if not len(ordered):
        return np.zeros(len(values), bool)
    at = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return np.asarray(ordered[at] == values)


def _joined(
    values: npt.NDArray, ordered: npt.NDArray, rows: npt.NDArray
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows of all entries equal to each value, and the place of that value."""
    first = np.searchsorted(ordered, values, side="left")
    counts = np.searchsorted(ordered, values, side="right") - first
    return np.asarray(rows[ranges(first, counts)]), segment_ids(counts)
