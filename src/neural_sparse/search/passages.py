"""Documents found by their best passage: a document scores as the passage of it that scores most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from neural_sparse.errors import InputError, refuse_one_string
from neural_sparse.search.doc_ids import DocumentIds
from neural_sparse.search.exact import NO_HIT, ROW_MASK, write_hits
from neural_sparse.search.hits import Hits
from neural_sparse.search.index import NO_FILTER, SparseIndex, available_cores
from neural_sparse.text.ragged import Indices, offsets_of

SPARE = 64  # passages looked at beside those that the documents wanted have on average
DEEPER = 4  # times as many, where they were of too few documents
QUERIES = 64  # searched at a time by a thread


@dataclass(frozen=True)
class Passages:
    """Which rows of an index are passages of which document: those of a document follow one another.

    Attributes:
        ids: of the documents.
        first: int64 [documents + 1], the row of each document's first passage, and the number of passages.
    """

    ids: DocumentIds
    first: Indices

    @classmethod
    def of(cls, ids: DocumentIds, counts: Indices) -> Passages:
        """
        Args:
            counts: passages of each document, at least 1.
        """
        return cls(ids, offsets_of(counts))

    def __len__(self) -> int:
        """Documents."""
        return len(self.first) - 1

    @property
    def counts(self) -> Indices:
        return np.diff(self.first)

    def rows(self, document: int) -> range:
        return range(int(self.first[document]), int(self.first[document + 1]))

    def mask(self, documents: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """bool [passages], those of the marked documents; empty (no filter) where that is."""
        return np.repeat(documents, self.counts) if len(documents) else documents

    def depth(self, k: int) -> int:
        """Passages that are looked for first to find k documents."""
        total, wanted = int(self.first[-1]), max(1, min(k, len(self)))
        return min(total, -(-wanted * total // max(1, len(self))) + SPARE)

    def best_keys(
        self, index: SparseIndex, queries: sp.csr_matrix, k: int, allowed: NDArray[np.bool_] = NO_FILTER
    ) -> NDArray[np.int64]:
        """As `SparseIndex.best_keys`, of documents: int64 [queries, at most k].

        Passages are searched until k different documents are among them. Those are the k best, for every other passage
        ranks behind; ties are kept, for passages are in the order of their documents.

        Args:
            index: of the passages.
            allowed: bool [passages].
        """
        total, wanted = int(self.first[-1]), max(1, min(k, len(self)))
        best = np.full((queries.shape[0], wanted), NO_HIT, np.int64)
        left = np.arange(queries.shape[0])
        depth = self.depth(k)
        while len(left):
            keys = index.best_keys(queries[left] if len(left) < len(best) else queries, depth, allowed)
            keys.sort(axis=1)
            keys = keys[:, ::-1]
            hit = keys != NO_HIT
            documents = np.searchsorted(self.first, ROW_MASK - (keys & ROW_MASK), side="right") - 1
            chosen = _first_of_each(np.where(hit, documents, -1)) & hit
            places = np.cumsum(chosen, axis=1)
            chosen &= places <= wanted
            row, column = np.nonzero(chosen)
            score = (keys[row, column] >> 32) << 32
            best[left[row], places[row, column] - 1] = score | (ROW_MASK - documents[row, column])
            more = (places[:, -1] < wanted) & hit[:, -1] & (depth < total)
            left, depth = left[more], min(total, DEEPER * depth)
        return best


def _first_of_each(values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Of int64 [rows, columns]: where a value is for the first time in its row."""
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    new = np.ones(values.shape, np.bool_)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.empty(values.shape, np.bool_)
    np.put_along_axis(first, order, new, axis=1)
    return first


class PassageRetriever:
    """Searches an index of passages for documents, exactly.

    Args:
        index: of the passages; its ids do not matter.
        passages: which are of which document.
        encode_queries: texts -> csr_matrix [texts, vocabulary].

    Raises:
        InputError: an index of other passages.
    """

    def __init__(
        self,
        index: SparseIndex,
        passages: Passages,
        encode_queries: Callable[[Sequence[str]], sp.csr_matrix],
    ) -> None:
        if len(index) != passages.first[-1]:
            raise InputError(
                f"an index of {len(index):,} passages, and {int(passages.first[-1]):,} are known"
            )
        self.index = index
        self.passages = passages
        self.encode_queries = encode_queries

    @classmethod
    def of(
        cls,
        vectors: sp.csr_matrix,
        doc_ids: Sequence[str],
        counts: Indices,
        encode_queries: Callable[[Sequence[str]], sp.csr_matrix],
    ) -> PassageRetriever:
        """
        Args:
            vectors: [passages, vocabulary].
            counts: passages of each document.
        """
        index = SparseIndex.build(vectors, DocumentIds.numbers(vectors.shape[0]))
        return cls(index, Passages.of(DocumentIds.of(doc_ids), counts), encode_queries)

    @property
    def doc_ids(self) -> Sequence[str]:
        return self.passages.ids

    def search_texts(self, texts: Sequence[str], k: int) -> Hits:
        """As `SparseIndex.search`; a document's score is that of its best passage."""
        refuse_one_string(texts)
        if k < 1:
            raise InputError(f"k must be at least 1, got {k}")
        queries = self.index.checked_queries(self.encode_queries(texts))
        shape = (len(texts), k)
        hits = Hits(np.full(shape, -1, np.int32), np.zeros(shape, np.float32), self.doc_ids)

        def work(start: int) -> None:
            here = slice(start, start + QUERIES)
            keys = self.passages.best_keys(self.index, queries[here], k)
            write_hits(keys, hits.docs[here], hits.scores[here])

        starts = range(0, len(texts), QUERIES)
        if len(starts) < 2:
            for start in starts:
                work(start)
            return hits
        with ThreadPoolExecutor(min(available_cores(), len(starts))) as pool:
            list(pool.map(work, starts))
        return hits

    def mode(self, k: int) -> str:
        """As `SparseIndex.mode`, of the first search for passages."""
        return self.index.mode(self.passages.depth(k))
