"""Approximate search of sparse_vector fields: SEISMIC (Bruch et al., arXiv 2404.18812) in OpenSearch 3.3 or later.

Documents of each posting list are clustered; a query looks only into clusters whose summary promises enough. Clusters
are made for segments of `approximate_threshold` documents or more; smaller ones are searched exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from neural_sparse.errors import InputError
from neural_sparse.opensearch.features import MAX_CLAUSES, neural_sparse_query

SPARSE_VECTOR = "sparse_vector"


@dataclass(frozen=True)
class Seismic:
    """How clusters are made.

    Attributes:
        n_postings: heaviest documents kept of a posting list; None: the server's choice by the size of a segment.
        cluster_ratio: clusters of a posting list, as a share of its documents.
        summary_prune_ratio: share of a cluster's weight that its summary keeps.
        approximate_threshold: documents from which on a segment gets clusters. The server's own is 1,000,000: below it
            nothing is approximate, and nothing faster.
        quantization_ceiling_ingest, quantization_ceiling_search: weights of documents and of queries above these are
            taken for these, and all are kept in 8 bits.
    """

    n_postings: int | None = None
    cluster_ratio: float = 0.1
    summary_prune_ratio: float = 0.4
    approximate_threshold: int = 1_000_000
    quantization_ceiling_ingest: float = 3.0
    quantization_ceiling_search: float = 16.0

    def __post_init__(self) -> None:
        if not (0 < self.cluster_ratio < 1 and 0 < self.summary_prune_ratio <= 1):
            raise InputError("cluster_ratio is between 0 and 1, summary_prune_ratio above 0 and at most 1")
        if self.approximate_threshold < 0 or (self.n_postings is not None and self.n_postings < 1):
            raise InputError("approximate_threshold is 0 or more, and n_postings 1 or more")
        if not (self.quantization_ceiling_ingest > 0 and self.quantization_ceiling_search > 0):
            raise InputError("ceilings of quantisation are above 0")

    def mapping(self) -> dict[str, Any]:
        """Of the field; its index needs the setting index.sparse."""
        parameters = {name: value for name, value in asdict(self).items() if value is not None}
        return {"type": SPARSE_VECTOR, "method": {"name": "seismic", "parameters": parameters}}


@dataclass(frozen=True)
class SeismicSearch:
    """How clusters are searched.

    Attributes:
        top_n: heaviest query tokens that are looked at.
        heap_factor: above 1 looks into more clusters, below 1 into fewer.
    """

    top_n: int = 10
    heap_factor: float = 1.0

    def __post_init__(self) -> None:
        if self.top_n < 1 or not self.heap_factor > 0:
            raise InputError("top_n is 1 or more, and heap_factor above 0")

    def query(
        self,
        tokens: Mapping[str, float],
        field: str,
        k: int,
        max_clauses: int = MAX_CLAUSES,
        only: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """A neural_sparse query for the k best of the documents that `only`, another query, finds.

        Args:
            tokens: {token id as text: weight}.

        >>> SeismicSearch().query({"2862": 5.5}, "embedding", 3)["neural_sparse"]["embedding"]["method_parameters"]
        {'k': 3, 'top_n': 10, 'heap_factor': 1.0}
        """
        query = neural_sparse_query(tokens, field, max_clauses)
        if "neural_sparse" in query:
            method: dict[str, Any] = {"k": k, **asdict(self)}
            if only is not None:
                method["filter"] = dict(only)
            query["neural_sparse"][field]["method_parameters"] = method
        return query


def token_ids(tokens: Sequence[str]) -> list[str]:
    """What such a field calls tokens: their numbers; "" for those without a name.

    >>> token_ids(["", "cat"])
    ['', '1']
    """
    return [str(number) if token else "" for number, token in enumerate(tokens)]
