"""What queries cost with a model's vectors: FLOPS, or the time of the slowest hundredth in a collection of a size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.sparse as sp

from neural_sparse.evaluation.cost import flops_metric, term_share
from neural_sparse.search.query_time import PERCENTILE, QueryTime, postings_read


class QueryCost(Protocol):
    """A measure of cost that grows with the postings that queries read.

    Attributes:
        least: the cost of queries that read none.
    """

    @property
    def least(self) -> float: ...

    def of(self, queries: sp.csr_matrix, vectors: sp.csr_matrix, documents: int | None = None) -> float:
        """
        Args:
            queries: csr [queries, vocabulary].
            vectors: csr [vectors, vocabulary].
            documents: that the vectors are of, fewer where they are of passages; None: one each.
        """
        ...


class Flops:
    """Multiplications per query and document, those of all passages of a document."""

    least = 0.0

    def of(self, queries: sp.csr_matrix, vectors: sp.csr_matrix, documents: int | None = None) -> float:
        return flops_metric(queries, vectors) * vectors.shape[0] / (documents or vectors.shape[0])


@dataclass(frozen=True)
class SlowestTime:
    """Milliseconds that the slowest hundredth of the queries takes by the cost model, in a collection of `size`
    documents like those whose vectors are known."""

    query_time: QueryTime
    size: int

    @property
    def least(self) -> float:
        return self.query_time.p99(self.size, 0)

    def of(self, queries: sp.csr_matrix, vectors: sp.csr_matrix, documents: int | None = None) -> float:
        size = round(self.size * vectors.shape[0] / (documents or vectors.shape[0]))
        read = postings_read(queries, term_share(vectors))
        return self.query_time.p99(size, size * float(np.percentile(read, PERCENTILE)))


def scaled(limit: float, by: float, least: float) -> float:
    """The cost of queries that read `by` times the postings of queries that cost `limit`."""
    return least + by * (limit - least)
