"""Test texts that training data must not hold: by what rule a text is recognised as one, or as nearly one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neural_sparse.corpora.names import expand_names, load_collection, load_queries
from neural_sparse.errors import refuse_one_string
from neural_sparse.text.ragged import Indices, offsets_of, ranges, segment_ids
from neural_sparse.text.shingles import gram_sets, hash_of_words, ngram_hashes, words

QUERY_GRAM, DOCUMENT_GRAM = 4, 8
CONTAINED = 0.8
_ARRAYS = ("exact", "grams", "owners", "sizes", "rare", "rare_rows", "word_sets", "word_offsets")

Flags = npt.NDArray[np.bool_]
Shares = npt.NDArray[np.float64]


class TestTexts:
    """Queries or documents of test collections, as sorted hashes: memory-mapped, shared by processes.

    The one rule of what training must not hold, for cleaning and for the leakage check. A training text matches if,
    after normalisation (case, punctuation, spacing),
    - it is a test text, or
    - it holds 80% of a test text's word n-grams (4 words for queries, 8 for documents; a test text of fewer words has
      none), or
    - for queries: 80% of the words of both are shared (Jaccard): the words of a short query in another order.

    Attributes:
        rows: int64 [test texts], where each test text stands among those given, for those without a word are left
            out; None of what was loaded, which tells whether a text matches and not which test text it is.
    """

    __test__ = False  # pytest: not a class of tests

    def __init__(self, arrays: dict[str, npt.NDArray], size: int, share: float = CONTAINED) -> None:
        self.size, self.share = size, share
        self.rows: Indices | None = None
        self._arrays = arrays

    @classmethod
    def of(cls, texts: Sequence[str], queries: bool, share: float = CONTAINED) -> TestTexts:
        """
        Args:
            queries: whether these are queries; documents otherwise.
            share: above 0, at most 1; what is saved and loaded goes by 80%.
        """
        refuse_one_string(texts)
        size = QUERY_GRAM if queries else DOCUMENT_GRAM
        split = [words(text) for text in texts]
        rows = np.flatnonzero([len(found) > 0 for found in split])
        split = [split[row] for row in rows.tolist()]
        grams, tests = ngram_hashes(split, size)
        pairs = np.unique(np.stack([grams, tests.astype(np.uint64)], axis=1), axis=0)
        hashes = _hashes(split)
        order = np.argsort(hashes, kind="stable")
        arrays: dict[str, npt.NDArray] = {
            "hashes": hashes[order],
            "hash_rows": order,
            "exact": np.unique(hashes),
            "grams": pairs[:, 0],
            "owners": pairs[:, 1].astype(np.int64),
            "sizes": np.bincount(pairs[:, 1].astype(np.int64), minlength=len(split)),
        }
        made = cls({**arrays, **_rare_words(split if queries else [], share)}, size, share)
        made.rows = rows
        return made

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
        found = _member(_hashes(unique), self._arrays["exact"])
        found[self.similar(unique)[0]] = True
        found &= np.array([len(text) > 0 for text in unique])
        return found[rows]

    def equal(self, split: Sequence[Sequence[str]]) -> tuple[Indices, Indices]:
        """Pairs of equal texts: the row of the text, given as words, in order, and that of the test text."""
        tests, texts = _joined(_hashes(split), self._arrays["hashes"], self._arrays["hash_rows"])
        return texts, tests

    def similar(self, split: Sequence[Sequence[str]]) -> tuple[Indices, Indices, Shares]:
        """Pairs by the other two rules, in the order of the texts: rows as of `equal`, and the share.

        That is the share of the test text's n-grams that the text holds, or of the words of both that are shared; a
        pair may be there by both rules.
        """
        found = [self._containing(split)]
        if len(self._arrays["rare"]):
            found.append(self._same_words(split))
        texts, tests, shares = (np.concatenate(column) for column in zip(*found, strict=True))
        order = np.argsort(texts, kind="stable")
        return texts[order], tests[order], shares[order]

    def _containing(self, split: Sequence[Sequence[str]]) -> tuple[Indices, Indices, Shares]:
        grams, rows = ngram_hashes(split, self.size)
        known = _member(grams, self._arrays["grams"])  # few are, so what follows is cheap
        pairs = np.unique(np.stack([grams[known], rows[known].astype(np.uint64)], axis=1), axis=0)
        tests, place = _joined(pairs[:, 0], self._arrays["grams"], self._arrays["owners"])
        count = max(1, len(self._arrays["sizes"]))
        keys, shared = np.unique(pairs[place, 1].astype(np.int64) * count + tests, return_counts=True)
        shares = shared / self._arrays["sizes"][keys % count]
        enough = shares >= self.share
        return keys[enough] // count, keys[enough] % count, shares[enough]

    def _same_words(self, split: Sequence[Sequence[str]]) -> tuple[Indices, Indices, Shares]:
        sizes = np.diff(self._arrays["word_offsets"])
        numbers = np.array([len(set(text)) for text in split], np.int64)
        # A text of many more words than any test query shares too small a part of them.
        short = np.flatnonzero(numbers * self.share <= sizes.max())
        grams, offsets = gram_sets([split[row] for row in short.tolist()], 1)
        tests, place = _joined(grams, self._arrays["rare"], self._arrays["rare_rows"])
        texts = segment_ids(np.diff(offsets))[place]
        alike = (numbers[short][texts] * self.share <= sizes[tests]) & (
            sizes[tests] * self.share <= numbers[short][texts]
        )
        keys = np.unique(texts[alike] * len(sizes) + tests[alike])
        shares = np.empty(len(keys))
        for row, key in enumerate(keys.tolist()):
            text, test = divmod(key, len(sizes))
            start, end = self._arrays["word_offsets"][test : test + 2]
            wanted = set(self._arrays["word_sets"][start:end].tolist())
            has = set(grams[offsets[text] : offsets[text + 1]].tolist())
            shares[row] = len(wanted & has) / len(wanted | has)
        keys, shares = keys[shares >= self.share], shares[shares >= self.share]
        return short[keys // len(sizes)], keys % len(sizes), shares


def gather_test_texts(names: Sequence[str], with_documents: bool, folder: Path) -> dict[str, Path]:
    """Test queries, and documents, of collections, as arrays on disk that several processes map.

    Args:
        names: of collections and benchmarks, or folders.

    Returns:
        A folder for "queries" and one for "documents", if these are wanted; nothing without names.

    Raises:
        InputError: no such collection.
    """
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


def _hashes(split: Sequence[Sequence[str]]) -> npt.NDArray[np.uint64]:
    return np.array([hash_of_words(found) for found in split], np.uint64)


def _rare_words(split: Sequence[Sequence[str]], share: float) -> dict[str, npt.NDArray]:
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
        needed = len(found) - int(np.ceil(share * len(found))) + 1
        by_count = found[np.argsort(counts[np.searchsorted(values, found)], kind="stable")]
        rare.append(by_count[:needed])
        rows.append(np.full(min(needed, len(found)), row, np.int64))
    joined, tests = np.concatenate(rare), np.concatenate(rows)
    order = np.argsort(joined, kind="stable")
    lengths = [len(found) for found in sets]
    return {
        "rare": joined[order],
        "rare_rows": tests[order],
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
