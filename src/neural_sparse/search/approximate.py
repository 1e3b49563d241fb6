"""Approximate search by Seismic (Bruch et al., SIGIR 2024, arXiv 2404.18812), judged by the exact index."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import scipy.sparse as sp

from neural_sparse.errors import InputError, refuse_one_string
from neural_sparse.search.hits import APPROXIMATE, Hits, recall
from neural_sparse.search.index import SparseIndex, available_cores

MOST_TERMS_OF_THE_SMALL_INDEX = 65_535  # it stores terms in 16 bits


class SeismicRetriever:
    """A Seismic index over the documents of a SparseIndex. Needs the extra `seismic`.

    Scores are Seismic's own, from weights rounded to 16 bits; ties go to the lower row as everywhere.

    Args:
        exact: The documents, and what recall is measured against.
        encode_queries: texts -> csr_matrix [texts, vocabulary].
        n_postings: Postings kept per term, on average.
        summary_energy: Share of a block's weight that its summary keeps.
        query_cut: Terms of a query that are looked up, the heaviest first.
        heap_factor: Blocks are skipped whose summary promises less than this many times the k-th best score
            so far; summaries promise too little, so below 1 for high recall. More is faster and less exact.
        threads: Default all cores.

    Raises:
        InputError: pyseismic-lsr is not installed; an index without postings.
    """

    def __init__(
        self,
        exact: SparseIndex,
        encode_queries: Callable[[Sequence[str]], sp.csr_matrix],
        *,
        n_postings: int = 3500,
        summary_energy: float = 0.4,
        query_cut: int = 10,
        heap_factor: float = 0.7,
        threads: int | None = None,
    ) -> None:
        try:
            import seismic
        except ImportError as error:
            raise InputError(
                "approximate search needs pyseismic-lsr: pip install 'neural-sparse[seismic]' brings its wheel for"
                " Python 3.11 on Linux x86-64; elsewhere pip install pyseismic-lsr builds it, with a Rust compiler"
            ) from error
        self.exact = exact
        self._doc_ids = exact.doc_ids  # of what this index holds, whatever is added to the exact one later
        self.encode_queries = encode_queries
        self.query_cut = query_cut
        self.heap_factor = heap_factor
        self.threads = threads or available_cores()
        self._measured = "recall not measured"
        vectors = exact.vectors()
        if not vectors.nnz:
            raise InputError("no document has a term: there is nothing to index")
        large = exact.vocab_size > MOST_TERMS_OF_THE_SMALL_INDEX
        dataset = (seismic.SeismicDatasetLV if large else seismic.SeismicDataset)(dim=exact.vocab_size)
        rows = [str(row) for row in range(len(exact))]
        components, offsets = vectors.indices.astype(np.int64), vectors.indptr.astype(np.int64)
        dataset.add_documents_by_id(rows, components, vectors.data, offsets)
        builder = seismic.SeismicIndexLV if large else seismic.SeismicIndex
        with _stdout_to_stderr():  # the library reports progress on stdout, where a command's result goes
            self._index: Any = builder.build_from_dataset(
                dataset, n_postings=n_postings, summary_energy=summary_energy, num_threads=self.threads
            )
        self._string = seismic.get_seismic_string()

    @property
    def doc_ids(self) -> Sequence[str]:
        return self._doc_ids

    def search_texts(self, texts: Sequence[str], k: int) -> Hits:
        refuse_one_string(texts)
        return self.search(self.encode_queries(texts), k)

    def search(self, queries: sp.csr_matrix, k: int) -> Hits:
        """As SparseIndex.search, but documents may be missed.

        Raises:
            InputError: k < 1, queries of another width, a bad weight.
        """
        if k < 1:
            raise InputError(f"k must be at least 1, got {k}")
        queries = self.exact.checked_queries(queries)
        shape = queries.shape[0], k
        hits = Hits(np.full(shape, -1, np.int32), np.zeros(shape, np.float32), self.doc_ids)
        asked = np.flatnonzero(np.diff(queries.indptr))
        if not len(asked):
            return hits
        terms = [queries.indices[queries.indptr[row] : queries.indptr[row + 1]] for row in asked]
        weights = [queries.data[queries.indptr[row] : queries.indptr[row + 1]] for row in asked]
        found = self._index.batch_search(
            asked.astype(self._string),
            [one.astype(self._string) for one in terms],
            weights,
            k=min(k, len(self.exact)),
            query_cut=self.query_cut,
            heap_factor=self.heap_factor,
            num_threads=self.threads,
        )
        for best in filter(None, found):
            row = int(best[0][0])  # the answers come in any order
            ranked = sorted((-score, int(doc)) for _, score, doc in best if score > 0)
            hits.docs[row, : len(ranked)] = [doc for _, doc in ranked]
            hits.scores[row, : len(ranked)] = [-score for score, _ in ranked]
        return hits

    def recall(self, queries: sp.csr_matrix, k: int) -> float:
        """Share of the exact index's k best documents that this index finds among its k best."""
        found = recall(self.search(queries, k), self.exact.search(queries, k))
        self._measured = f"recall {found:.3f} of the {k} best of {queries.shape[0]:,} queries"
        return found

    def mode(self, k: int) -> str:
        """What search this is, with the recall that was measured last."""
        return f"{APPROXIMATE}, {self._measured}"


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    sys.stdout.flush()
    saved = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
