"""Retrievers behind one interface: a sparse encoder with its index, searched by text, and exact dense search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from neural_sparse.errors import InputError, refuse_one_string
from neural_sparse.search.budget import Budgets, check_recall
from neural_sparse.search.doc_ids import DocumentIds
from neural_sparse.search.exact import ROW_MASK, top_of_rows
from neural_sparse.search.hits import Hits, check_vocabulary
from neural_sparse.search.index import SparseIndex

if TYPE_CHECKING:
    from torch import Tensor


class SparseRetriever:
    """Searches a SparseIndex with encoded queries.

    Args:
        index: The documents.
        encode_queries: texts -> csr_matrix [texts, vocabulary].
        vocabulary: Fingerprint of the encoder's vocabulary; compared with the index's where both are known.
        threads: As in SparseIndex.search.
        recall: Search approximately: as few documents are scored as find so much of the exact hits (`search.budget`).
            None: exactly.
        sample: Queries, such as people ask, of which the recall is measured.

    Raises:
        InputError: the vocabularies differ; a recall that is not between 0 and 1, or no queries to measure it with.
    """

    def __init__(
        self,
        index: SparseIndex,
        encode_queries: Callable[[Sequence[str]], sp.csr_matrix],
        vocabulary: str | None = None,
        threads: int | None = None,
        *,
        recall: float | None = None,
        sample: Sequence[str] = (),
    ) -> None:
        check_vocabulary(index.vocabulary, vocabulary)
        self.index = index
        self.encode_queries = encode_queries
        self.threads = threads
        self.budgets = None
        if recall is not None:
            check_recall(recall)
            refuse_one_string(sample)
            self.budgets = Budgets(recall, index.checked_queries(encode_queries(sample), vocabulary))

    @property
    def doc_ids(self) -> Sequence[str]:
        return self.index.doc_ids

    def search_texts(self, texts: Sequence[str], k: int) -> Hits:
        refuse_one_string(texts)
        blocks = self.budgets.of(self.index, k).blocks if self.budgets is not None else None
        return self.index.search(self.encode_queries(texts), k, threads=self.threads, blocks=blocks)

    def mode(self, k: int) -> str:
        """As `SparseIndex.mode`; of an approximate search with the recall that was measured."""
        return self.index.mode(k) if self.budgets is None else self.budgets.mode(self.index, k)


MARGIN = 64
BLOCK = 65_536  # documents per matrix product
_SCORES = 1 << 24  # of a matrix product: 64 MB
_SUMMED = 1 << 23  # products summed anew at a time: 64 MB


class Vectors(Protocol):
    """Dense vectors [rows, dimensions] that are read when asked for: an array, or a view of files."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> NDArray[Any]:
        """Rows by a slice or their numbers, [rows, dimensions], of any float type."""
        ...


class DenseRetriever:
    """Dot products with all documents, block by block, so that memory does not grow with their number.

    The matrix product finds k + 64 candidates; their scores are then summed anew in float64, because a
    product of matrices may give equal documents scores that differ in the last bit, by their place in it.
    The product is computed in float32 on a GPU where there is one.

    Args:
        vectors: [documents, dimensions] of any float type: an array, or a view that reads a block at a time.
        doc_ids: One id per row.
        encode_queries: texts -> float32 [texts, dimensions]; without it only vectors are searched for.
        block: Documents per matrix product.

    Raises:
        InputError: vectors of a wrong shape or not finite, ids that do not fit.
    """

    def __init__(
        self,
        vectors: Vectors,
        doc_ids: Sequence[str],
        encode_queries: Callable[[Sequence[str]], NDArray[np.float32]] | None = None,
        block: int = BLOCK,
    ) -> None:
        self.vectors = vectors
        self.block = block
        _check_shape(vectors, "document vectors")
        for start in range(0, len(vectors), block):
            _check_finite(self._read(slice(start, start + block)), "document vectors")
        self.doc_ids: Sequence[str] = doc_ids if isinstance(doc_ids, DocumentIds) else DocumentIds.of(doc_ids)
        if len(self.doc_ids) != len(self.vectors):
            raise InputError(f"{len(self.doc_ids):,} document ids for {len(self.vectors):,} document vectors")
        self.encode_queries = encode_queries or _no_texts

    def search_texts(self, texts: Sequence[str], k: int) -> Hits:
        refuse_one_string(texts)
        return self.search(self.encode_queries(texts), k)

    def search(self, queries: NDArray[np.float32], k: int) -> Hits:
        """The k best documents of each row of `queries` [queries, dimensions]; every document is a hit."""
        if k < 1:
            raise InputError(f"k must be at least 1, got {k}")
        queries = np.asarray(queries, np.float32)
        _check_shape(queries, "queries")
        _check_finite(queries, "queries")
        if queries.shape[1] != self.vectors.shape[1]:
            raise InputError(
                f"the queries have {queries.shape[1]} dimensions and the documents {self.vectors.shape[1]}"
            )
        hits = Hits(np.full((len(queries), k), -1, np.int32), np.zeros((len(queries), k), np.float32))
        depth = min(k + MARGIN, len(self.vectors))
        candidates = np.sort(self._candidates(queries, depth), axis=1)
        step = max(1, _SUMMED // max(1, depth * queries.shape[1]))
        for first in range(0, len(queries), step):
            here = slice(first, first + step)
            self._rank(queries[here], candidates[here], k, docs=hits.docs[here], scores=hits.scores[here])
        return hits

    def _read(self, rows: Any) -> NDArray[np.float32]:
        return np.asarray(self.vectors[rows], np.float32)

    def _candidates(self, queries: NDArray[np.float32], depth: int) -> NDArray[np.int32]:
        """Rows of the `depth` best documents by matrix product, int32 [queries, depth].

        Each block of documents is read once, whatever the number of queries.
        """
        top = _top_on_gpu if _gpu() else _top_on_cpu
        best = np.empty((len(queries), 0), np.int64)
        step = max(1, _SCORES // max(1, min(self.block, len(self.vectors))))
        for base in range(0, len(self.vectors), self.block):
            block = self._read(slice(base, base + self.block))
            of_block = np.empty((len(queries), min(depth, len(block))), np.int64)
            for first in range(0, len(queries), step):
                here = slice(first, first + step)
                top(queries[here], block, base, of_block[here])
            del block  # before the next one is read
            best = np.hstack([best, of_block])
            if best.shape[1] > depth:
                best = np.partition(best, best.shape[1] - depth, axis=1)[:, -depth:]
        return (ROW_MASK - (best & ROW_MASK)).astype(np.int32)

    def _rank(
        self,
        queries: NDArray[np.float32],
        rows: NDArray[np.int32],
        k: int,
        docs: NDArray[np.int32],
        scores: NDArray[np.float32],
    ) -> None:
        """Write the k best of the ascending `rows` [queries, depth] to docs and scores [queries, k]."""
        used, place = np.unique(rows, return_inverse=True)
        vectors = self._read(used).astype(np.float64)
        for query, places in enumerate(place.reshape(rows.shape)):
            exact = (vectors[places] * queries[query].astype(np.float64)).sum(1).astype(np.float32)
            order = np.argsort(-exact, kind="stable")[:k]
            docs[query, : len(order)], scores[query, : len(order)] = rows[query, order], exact[order]


def _gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _top_on_cpu(
    queries: NDArray[np.float32], block: NDArray[np.float32], base: int, best: NDArray[np.int64]
) -> None:
    """Fill best [queries, depth] with the keys (see `topk`) of the best documents of a block, unsorted."""
    top_of_rows(queries @ block.T, base, best.shape[1], best)


def _top_on_gpu(
    queries: NDArray[np.float32], block: NDArray[np.float32], base: int, best: NDArray[np.int64]
) -> None:
    import torch

    asked, documents = (torch.from_numpy(part).cuda() for part in (queries, block))
    best[:] = best_keys(asked @ documents.T, base, best.shape[1]).cpu().numpy()


def best_keys(scores: Tensor, base: int, k: int) -> Tensor:
    """As `exact.top_of_rows` on the scores' device: keys int64 [queries, k] of the k best of each row, unsorted.

    Args:
        scores: float32 [queries, documents], at least k; column i belongs to document base + i.
    """
    import torch

    bits = (scores + 0.0).view(torch.int32).to(torch.int64)  # -0.0 becomes 0.0
    high = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    rows = ROW_MASK - (base + torch.arange(scores.shape[1], device=scores.device))
    return torch.topk((high << 32) | rows, k, dim=1, sorted=False).values


def _check_shape(vectors: Vectors, what: str) -> None:
    if len(vectors.shape) != 2:
        raise InputError(f"{what}: expected a matrix [texts, dimensions], got shape {vectors.shape}")


def _check_finite(vectors: NDArray[np.float32], what: str) -> None:
    if not np.isfinite(vectors).all():
        raise InputError(f"{what}: a value is infinite or not a number")


def _no_texts(texts: Sequence[str]) -> NDArray[np.float32]:
    raise InputError("this retriever is searched with vectors")
