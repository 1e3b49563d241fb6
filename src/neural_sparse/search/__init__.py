"""Exact search over sparse vectors, BM25 and dense vectors behind one interface."""

from typing import TYPE_CHECKING

from neural_sparse.lazy import lazy

if TYPE_CHECKING:
    from neural_sparse.search.approximate import SeismicRetriever
    from neural_sparse.search.bm25 import BM25Index
    from neural_sparse.search.hits import Hits, Retriever, recall, vocabulary_fingerprint
    from neural_sparse.search.index import SparseIndex
    from neural_sparse.search.retrievers import DenseRetriever, SparseRetriever

__all__ = [
    "BM25Index",
    "DenseRetriever",
    "Hits",
    "Retriever",
    "SeismicRetriever",
    "SparseIndex",
    "SparseRetriever",
    "recall",
    "vocabulary_fingerprint",
]
__getattr__, __dir__ = lazy(__name__)
