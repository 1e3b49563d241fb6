"""What a set of sparse vectors costs to store and to search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from neural_sparse.errors import InputError

FREQUENT_TERMS = 10


@dataclass(frozen=True)
class Cost:
    """Cost of searching `documents` sparse vectors with `queries` sparse vectors.

    Attributes:
        documents, queries: how many vectors the figures are taken over.
        flops: expected multiplications of one query-document pair, see `flops_metric`.
        doc_l1: mean L1 norm of a document vector.
        doc_terms, query_terms: mean non-zero terms of a vector.
        empty_documents: documents without any term; no query finds them.
        saturation: mean share of documents in the postings of the `FREQUENT_TERMS` most frequent terms;
            near 1, each query holding one of them reads almost the whole collection.
        longest_postings: those terms (their text, or their number where no vocabulary was given) and the
            share of documents holding each, longest first.
        index_bytes: bytes of the search index, None where not measured.
    """

    documents: int
    queries: int
    flops: float
    doc_l1: float
    doc_terms: float
    query_terms: float
    empty_documents: int
    saturation: float
    longest_postings: list[tuple[str, float]] = field(default_factory=list)
    index_bytes: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Cost:
        postings = [(str(term), float(share)) for term, share in values.get("longest_postings", [])]
        return cls(**{**values, "longest_postings": postings})


def flops_metric(query_vectors: csr_matrix, doc_vectors: csr_matrix) -> float:
    """Expected multiplications of one query-document pair: sum_t P(q_t > 0) P(d_t > 0).

    SPLADE v2's efficiency measure (Formal et al. 2021), for vectors of shape [queries, vocabulary] and
    [documents, vocabulary]. Not the FLOPS loss, which is a sum of squared mean weights.

    Raises:
        InputError: vocabularies of different sizes, or no vectors.

    >>> queries = csr_matrix([[1.0, 0, 0], [1.0, 1.0, 0]])  # P(q_t > 0): 1, 0.5, 0
    >>> documents = csr_matrix([[0.3, 2.0, 0], [0, 1.0, 1.0]])  # P(d_t > 0): 0.5, 1, 0.5
    >>> flops_metric(queries, documents)
    1.0
    """
    _check(query_vectors, doc_vectors)
    return float(term_share(query_vectors) @ term_share(doc_vectors))


def term_share(vectors: csr_matrix) -> npt.NDArray[np.float64]:
    """Share of the rows in which each term is present, float64 [vocabulary]."""
    present = vectors.indices[vectors.data != 0]
    return np.bincount(present, minlength=vectors.shape[1]) / max(vectors.shape[0], 1)


def measure_cost(
    query_vectors: csr_matrix,
    doc_vectors: csr_matrix,
    vocabulary: Sequence[str] | None = None,
    index_bytes: int | None = None,
) -> Cost:
    """Cost of searching `doc_vectors` [documents, vocabulary] with `query_vectors` [queries, vocabulary].

    Raises:
        InputError: vocabularies of different sizes, or no vectors.
    """
    _check(query_vectors, doc_vectors)
    share = term_share(doc_vectors)
    top = np.argsort(-share, kind="stable")[:FREQUENT_TERMS]
    top = top[share[top] > 0]
    names = [vocabulary[term] if vocabulary is not None else str(term) for term in top.tolist()]
    doc_terms = np.diff(doc_vectors.indptr)
    return Cost(
        documents=doc_vectors.shape[0],
        queries=query_vectors.shape[0],
        flops=float(term_share(query_vectors) @ share),
        doc_l1=float(np.abs(doc_vectors.data).sum(dtype=np.float64)) / doc_vectors.shape[0],
        doc_terms=float(np.count_nonzero(doc_vectors.data)) / doc_vectors.shape[0],
        query_terms=float(np.count_nonzero(query_vectors.data)) / query_vectors.shape[0],
        empty_documents=int(np.count_nonzero(doc_terms == 0)),
        saturation=float(share[top].mean()) if len(top) else 0.0,
        longest_postings=[(name, float(share[term])) for name, term in zip(names, top, strict=True)],
        index_bytes=index_bytes,
    )


def _check(query_vectors: csr_matrix, doc_vectors: csr_matrix) -> None:
    if query_vectors.shape[1] != doc_vectors.shape[1]:
        raise InputError(
            f"queries have a vocabulary of {query_vectors.shape[1]:,} terms and documents one of "
            f"{doc_vectors.shape[1]:,}: both sides need the same tokenizer"
        )
    if not query_vectors.shape[0] or not doc_vectors.shape[0]:
        raise InputError("the cost needs at least one query vector and one document vector")
