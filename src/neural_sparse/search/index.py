"""SparseIndex: exact search over sparse document vectors."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from neural_sparse.errors import InputError
from neural_sparse.search import storage
from neural_sparse.search.block_max import (
    BLOCK,
    DOCUMENTS_PER_HIT,
    LEAST_HITS,
    SCORED,
    BlockMaxima,
    search_with_bounds,
)
from neural_sparse.search.doc_ids import DocumentIds
from neural_sparse.search.exact import search_block_at_a_time, write_hits
from neural_sparse.search.hits import APPROXIMATE, BLOCK_MAXIMA, EVERY_POSTING, Hits, check_vocabulary
from neural_sparse.search.postings import Postings, checked_vectors, invert, join, keep_documents, quantized
from neural_sparse.search.storage import build_on_disk

NO_FILTER = np.zeros(0, np.bool_)
EVERY_BLOCK = 1 << 62


class SparseIndex:
    """An inverted index over vectors with non-negative weights, searched exactly.

    It may be searched while another thread adds or deletes: a search sees the documents of one moment, and its
    hits keep their ids.

    Attributes:
        postings: The arrays, as they are now.
        doc_ids: One id per document row, as they are now.
        vocabulary: Fingerprint of the vocabulary (vocabulary_fingerprint), or None where it was not given.

    >>> vectors = sp.csr_matrix(np.array([[0.5, 0, 2], [0, 1, 1]], np.float32))
    >>> index = SparseIndex.build(vectors, ["first", "second"])
    >>> hits = index.search(sp.csr_matrix(np.array([[0, 1.5, 1]], np.float32)), k=2)
    >>> hits.ids(), hits.scores.tolist()
    ([['second', 'first']], [[2.5, 2.0]])
    """

    def __init__(self, postings: Postings, doc_ids: Iterable[str], vocabulary: str | None = None) -> None:
        ids = doc_ids if isinstance(doc_ids, DocumentIds) else DocumentIds.of(doc_ids)
        if len(ids) != postings.n_docs:
            raise InputError(f"{len(ids):,} document ids for {postings.n_docs:,} document vectors")
        self._snapshot = _Snapshot(postings, ids)
        self._changing = threading.Lock()
        self.vocabulary = vocabulary

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process: without the lock, which cannot go there."""
        return _restored, (self._snapshot, self.vocabulary)

    @property
    def postings(self) -> Postings:
        return self._snapshot.postings

    @property
    def doc_ids(self) -> DocumentIds:
        return self._snapshot.doc_ids

    @classmethod
    def build(
        cls,
        vectors: sp.csr_matrix | Iterable[sp.csr_matrix],
        doc_ids: Iterable[str],
        vocabulary: str | None = None,
        *,
        bits: int = 32,
        folder: str | Path | None = None,
        memory: int = 1 << 30,
    ) -> SparseIndex:
        """Index document vectors, one matrix [documents, vocabulary] or several, one after another.

        Args:
            vocabulary: vocabulary_fingerprint of the encoder's tokens.
            bits: 32 keeps weights as they are; 8 rounds them to a 255th of the greatest.
            folder: Build there, shard by shard, and map the result: the corpus may be larger than memory.
            memory: Bytes for postings in work when building in a folder.

        Raises:
            InputError: weights that are negative or not finite, matrices of different widths, ids that are
                not unique or not as many as rows, other bits than 8 or 32.
        """
        if bits not in (8, 32):
            raise InputError(f"impacts have 8 or 32 bits, not {bits}")
        shards: Iterable[Any] = [vectors] if sp.issparse(vectors) else vectors
        if folder is not None:
            build_on_disk(folder, shards, doc_ids=doc_ids, vocabulary=vocabulary, bits=bits, memory=memory)
            return cls.load(folder, verify=False)
        postings = invert(checked_vectors(shard, "document vectors") for shard in shards)
        index = cls(postings, doc_ids, vocabulary)
        return index.quantized() if bits == 8 else index

    def save(self, folder: str | Path, beside: Mapping[str, Any] | None = None) -> None:
        """Write the index to a folder, replacing an index that is there.

        Args:
            beside: {file name: JSON value} of what else belongs to the index.
        """
        now = self._snapshot
        now.check()
        storage.save(folder, now.postings, doc_ids=now.doc_ids, vocabulary=self.vocabulary, beside=beside)

    @classmethod
    def load(cls, folder: str | Path, verify: bool = True) -> SparseIndex:
        """Map an index from disk.

        Args:
            verify: Compare every file with its checksum and look at every posting list, which reads the index
                once. Else sizes are compared, and a posting list is looked at when it is first used.

        Raises:
            InputError: no index, of another format, or a file that is missing, truncated or altered.
        """
        postings, doc_ids, vocabulary = storage.load(folder, verify)
        index = cls(postings, doc_ids, vocabulary)
        index._snapshot = _Snapshot(postings, doc_ids, np.zeros(postings.vocab_size, np.bool_))
        if verify:
            index._snapshot.check()
        return index

    def quantized(self) -> SparseIndex:
        """The index with impacts of 8 bits: 5 bytes a posting, not 8; scores and vectors are rounded."""
        now = self._snapshot
        if now.postings.impacts.itemsize == 1:
            return self
        now.check()
        return SparseIndex(quantized(now.postings), now.doc_ids, self.vocabulary)

    def add(self, vectors: sp.csr_matrix, doc_ids: Iterable[str]) -> None:
        """Append documents; afterwards the index equals one built from all of them at once.

        The arrays are written anew in memory (add many documents at a time) and on disk by `save` only.

        Raises:
            InputError: as `build`; an id that is there already; an 8-bit index.
        """
        if self.bits == 8:
            raise InputError("an 8-bit index cannot be added to: add to the 32-bit one and quantize it again")
        new = invert([checked_vectors(vectors, "document vectors")])
        if new.vocab_size != self.vocab_size:
            raise InputError(f"document vectors of different widths: {self.vocab_size} and {new.vocab_size}")
        ids = DocumentIds.of(doc_ids)
        if len(ids) != new.n_docs:
            raise InputError(f"{len(ids):,} document ids for {new.n_docs:,} document vectors")
        with self._changing:
            now = self._snapshot
            now.check()
            self._snapshot = _Snapshot(join([now.postings, new]), DocumentIds.join([now.doc_ids, ids]))

    def delete(self, doc_ids: Iterable[str]) -> None:
        """Remove documents; the remaining ones are numbered anew, as in an index built without those removed.

        The arrays are written anew in memory (delete many documents at a time) and on disk by `save` only.

        Raises:
            InputError: an id that is not there.
        """
        with self._changing:
            now = self._snapshot
            now.check()
            kept = np.ones(now.postings.n_docs, np.bool_)
            kept[now.doc_ids.rows(doc_ids)] = False
            self._snapshot = _Snapshot(keep_documents(now.postings, kept), now.doc_ids.keep(kept))

    def check(self) -> None:
        """Look, once, at all posting lists. Raises InputError where one is damaged."""
        self._snapshot.check()

    @property
    def bits(self) -> int:
        """8 or 32, of one impact."""
        return 8 * int(self.postings.impacts.itemsize)

    def __len__(self) -> int:
        return self.postings.n_docs

    @property
    def vocab_size(self) -> int:
        return self.postings.vocab_size

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, document ids included."""
        now = self._snapshot
        return now.postings.nbytes + now.doc_ids.nbytes

    @property
    def posting_lengths(self) -> NDArray[np.int64]:
        """Documents per term, int64 [vocabulary]."""
        return np.diff(self.postings.offsets)

    def vectors(self, rows: Sequence[int] | None = None) -> sp.csr_matrix:
        """The vectors of all documents or of some rows, float32 [documents, vocabulary], as the index scores them.

        Raises:
            IndexError: a row the index does not have.
        """
        now = self._snapshot
        if rows is not None:
            return now.postings.rows(rows)
        now.check()
        return now.postings.to_csr()

    def search(
        self,
        queries: sp.csr_matrix,
        k: int = 10,
        *,
        only: Iterable[str] | None = None,
        without: Iterable[str] | None = None,
        threads: int | None = None,
        vocabulary: str | None = None,
        blocks: float | None = None,
    ) -> Hits:
        """The k best documents of each query by dot product; documents that score 0 are not hits.

        Args:
            queries: [queries, vocabulary], weights >= 0.
            only: Ids that may be found; without: ids that may not.
            threads: Queries are shared among them; default all cores. The result does not depend on it.
            vocabulary: The queries' fingerprint; compared with the index's where both are known.
            blocks: Of 8 documents, to score for each hit, in an approximate search; `search.budget` finds how many a
                recall takes. Some of the k best may be missed, scores are exact. None is exact; so are searches with
                `only` or `without`, and those that would gain nothing (`mode`).

        Raises:
            InputError: k < 1, queries of another vocabulary, a bad weight, an unknown id in a filter, blocks <= 0.
        """
        if k < 1:
            raise InputError(f"k must be at least 1, got {k}")
        now = self._snapshot
        queries = self.checked_queries(queries, vocabulary)
        now.check(queries.indices)
        n_queries = queries.shape[0]
        hits = Hits(np.full((n_queries, k), -1, np.int32), np.zeros((n_queries, k), np.float32), now.doc_ids)
        allowed = _allowed(now.doc_ids, only, without)
        search = now.searcher(queries, k, allowed, blocks=None if len(allowed) else blocks)

        def work(first: int, last: int) -> None:
            write_hits(search(first, last), hits.docs[first:last], hits.scores[first:last])

        threads = min(threads or available_cores(), n_queries)
        if threads <= 1:
            work(0, n_queries)
            return hits
        step = max(1, min(64, n_queries // (4 * threads)))
        with ThreadPoolExecutor(threads) as pool:
            jobs = [pool.submit(work, i, min(i + step, n_queries)) for i in range(0, n_queries, step)]
            for job in jobs:
                job.result()
        return hits

    def mode(self, k: int, blocks: float | None = None) -> str:
        """How `search` finds the k best: by reading every posting of the query's terms, by block maxima, or in so many
        blocks per hit, approximately."""
        if self._snapshot.budget(k, blocks) is not None:
            return APPROXIMATE
        return search_mode(len(self), k)

    def best_keys(
        self,
        queries: sp.csr_matrix,
        k: int,
        allowed: NDArray[np.bool_] = NO_FILTER,
        *,
        blocks: float | None = None,
    ) -> NDArray[np.int64]:
        """The k best documents of each query as keys (`search.exact`), int64 [queries, at most k], unsorted, NO_HIT
        behind.

        For who puts hits of several indexes together; in this thread alone, without the interpreter's lock.

        Args:
            queries: of `checked_queries`.
            allowed: bool [documents], which may be hits; empty for all of them.
            blocks: as in `search`, whatever is allowed.
        """
        now = self._snapshot
        now.check(queries.indices)
        return now.searcher(queries, k, allowed, blocks=blocks)(0, queries.shape[0])

    def ids(self, hits: Hits) -> list[list[str]]:
        """Document ids of each query's hits, best first: `hits.ids()`."""
        return (hits if hits.doc_ids is not None else hits._replace(doc_ids=self.doc_ids)).ids()

    def checked_queries(self, queries: sp.csr_matrix, vocabulary: str | None = None) -> sp.csr_matrix:
        """Canonical float32 queries. Raises InputError as `search` does."""
        queries = checked_vectors(queries, "queries")
        if queries.shape[1] != self.vocab_size:
            raise InputError(
                f"the queries have {queries.shape[1]:,} dimensions and the index {self.vocab_size:,}: "
                "encode them with the model that encoded the documents"
            )
        check_vocabulary(self.vocabulary, vocabulary)
        return queries


@dataclass(frozen=True)
class _Snapshot:
    """The documents of one moment.

    Attributes:
        checked: bool [vocabulary], posting lists that have been looked at; None: they were made here.
    """

    postings: Postings
    doc_ids: DocumentIds
    checked: NDArray[np.bool_] | None = None

    def check(self, terms: NDArray[np.integer] | None = None) -> None:
        """Look, once, at the posting lists of all or of some terms.

        Raises:
            InputError: one of them is damaged.
        """
        if self.checked is None:
            return
        wanted = np.flatnonzero(~self.checked) if terms is None else np.unique(terms[~self.checked[terms]])
        if len(wanted):
            self.postings.check(wanted)
            self.checked[wanted] = True

    @cached_property
    def maxima(self) -> BlockMaxima:
        return BlockMaxima(self.postings)

    def budget(self, k: int, blocks: float | None) -> int | None:
        """Blocks that an approximate search scores; None where that is exact or as slow.

        Raises:
            InputError: blocks <= 0.
        """
        if blocks is None:
            return None
        if not blocks > 0:
            raise InputError(f"an approximate search scores more than 0 blocks for each hit, not {blocks:g}")
        scored = blocks * k
        pays = k >= LEAST_HITS and scored * BLOCK * SCORED <= self.postings.n_docs
        return math.ceil(scored) if pays else None

    def searcher(
        self, queries: sp.csr_matrix, k: int, allowed: NDArray[np.bool_], *, blocks: float | None = None
    ) -> Callable[[int, int], NDArray[np.int64]]:
        """(first, last) -> the keys of these queries' k best, int64 [last - first, at most k], unsorted.

        Posting by posting, or with bounds, of all blocks or some.
        """
        index = self.postings
        depth = max(1, min(k, index.n_docs))
        arguments = (
            queries.indptr.astype(np.int64),
            queries.indices.astype(np.int32, copy=False),
            queries.data.astype(np.float64) * index.scale,
        )
        budget = self.budget(k, blocks)
        with_bounds = budget is not None or search_mode(index.n_docs, k) == BLOCK_MAXIMA
        scored = EVERY_BLOCK if budget is None else budget
        if with_bounds:
            self.maxima.make(arguments[1])

        def search(first: int, last: int) -> NDArray[np.int64]:
            best = np.empty((last - first, depth), np.int64)
            these = (*arguments, first, last, index.offsets, index.docs, index.impacts, index.n_docs)
            if with_bounds:
                search_with_bounds(*these, allowed, depth, scored, best, *self.maxima.arrays)
            else:
                search_block_at_a_time(*these, allowed, depth, best)
            return best

        return search


def _restored(snapshot: _Snapshot, vocabulary: str | None) -> SparseIndex:
    index = SparseIndex(snapshot.postings, snapshot.doc_ids, vocabulary)
    index._snapshot = snapshot
    return index


def _allowed(
    doc_ids: DocumentIds, only: Iterable[str] | None, without: Iterable[str] | None
) -> NDArray[np.bool_]:
    if only is None and without is None:
        return NO_FILTER
    allowed = np.full(len(doc_ids), only is None)
    if only is not None:
        allowed[doc_ids.rows(only)] = True
    if without is not None:
        allowed[doc_ids.rows(without)] = False
    return allowed


def search_mode(documents: int, k: int) -> str:
    """How exact search finds k of so many documents: it skips where so few are asked for that most can be skipped."""
    return BLOCK_MAXIMA if documents > DOCUMENTS_PER_HIT * k else EVERY_POSTING


def available_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
