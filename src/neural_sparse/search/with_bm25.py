"""A model and BM25 in one index: scores are added up, exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from neural_sparse.search.bm25 import BM25Index


@dataclass(frozen=True)
class WithBM25:
    """Vectors of a model, and behind them, in columns of their own, BM25's: the score is the model's + weight x BM25's.

    What one query finds that way is what a search engine's `bool` query of a sparse clause and a match clause finds,
    the latter with `weight` as its boost, where its BM25 has the same words, k1 and b.

    Attributes:
        encode: the model's queries, texts -> csr [texts, vocabulary].
        bm25: of the same documents in the same order.
        weight: of BM25's score.
    """

    encode: Callable[[Sequence[str]], sp.csr_matrix]
    bm25: BM25Index
    weight: float

    @property
    def words(self) -> list[str]:
        """Names of BM25's columns."""
        known = self.bm25.words.vocabulary
        return [f"{word} (BM25)" for word in sorted(known, key=known.__getitem__)]

    def encode_queries(self, texts: Sequence[str]) -> sp.csr_matrix:
        """csr float32 [texts, vocabulary + BM25's words]."""
        return beside(self.encode(texts), self.weight * self.bm25.encode_queries(texts))

    def documents(self, vectors: sp.csr_matrix) -> sp.csr_matrix:
        """csr float32 [documents, vocabulary + BM25's words] of the model's `vectors` [documents, vocabulary]."""
        return beside(vectors, self.bm25.document_weights())


def beside(left: sp.csr_matrix, right: sp.csr_matrix) -> sp.csr_matrix:
    """Columns of `right` behind those of `left`."""
    return sp.csr_matrix(sp.hstack([left, right], format="csr", dtype=np.float32))
