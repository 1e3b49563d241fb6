"""What an engine takes, looked at before anything is sent or written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from neural_sparse.engines.vectors import VectorSource
from neural_sparse.errors import InputError
from neural_sparse.opensearch.guards import check_ids


@dataclass(frozen=True)
class Limits:
    """Of one engine; None: none.

    Attributes:
        nonzero: weights of one document.
        query_weight: greatest weight of a query. A heavier query is scaled down as a whole, which changes its scores
            and no ranking.
        clauses: tokens of a query.
        id_bytes: of a document's id.
        empty: whether documents without a token are taken.
    """

    engine: str
    nonzero: int | None = None
    query_weight: float | None = None
    clauses: int | None = None
    id_bytes: int | None = None
    empty: bool = True

    def check(self, source: VectorSource) -> list[str]:
        """What is done about documents and queries that the engine does not take as they are, in sentences.

        Raises:
            InputError: more weights or tokens than it takes, or ids that it refuses: how many, and what would fit.
        """
        check_ids(source.doc_ids, self.id_bytes)
        told: list[str] = []
        lengths = np.diff(source.documents.indptr)
        if self.nonzero is not None and (lengths > self.nonzero).any():
            row = int(lengths.argmax())
            raise InputError(
                f"{self.engine} takes at most {self.nonzero:,} weights of a document, and "
                f"{int((lengths > self.nonzero).sum()):,} of {len(lengths):,} have more (the most: "
                f"{int(lengths[row]):,}, {source.doc_ids[row]!r}): encode with --top-k {self.nonzero}"
            )
        if not self.empty and (without := int((lengths == 0).sum())):
            told.append(
                f"{self.engine}: {without:,} documents have no token and are left out, for it refuses empty vectors; "
                "no query could find them"
            )
        asked = np.diff(source.queries.indptr)
        if self.clauses is not None and (asked > self.clauses).any():
            row = int(asked.argmax())
            raise InputError(
                f"{self.engine} takes at most {self.clauses:,} tokens of a query, and "
                f"{int((asked > self.clauses).sum()):,} have more (the most: {int(asked[row]):,}, "
                f"{source.query_ids[row]!r}): shorten them"
            )
        if self.query_weight is not None and (heavy := int((self.factors(source.queries) < 1).sum())):
            told.append(
                f"{self.engine} takes query weights up to {self.query_weight:g}: {heavy:,} queries with a heavier one "
                "are scaled down as a whole, so their scores are smaller and their rankings the same"
            )
        return told

    def factors(self, queries: sp.csr_matrix) -> np.ndarray:
        """What each query is multiplied with so that the engine takes it, float32 [queries], at most 1."""
        if self.query_weight is None or not queries.nnz:
            return np.ones(queries.shape[0], np.float32)
        greatest = np.asarray(queries.max(axis=1).todense()).ravel()
        return np.minimum(1, self.query_weight / np.maximum(greatest, self.query_weight)).astype(np.float32)

    def scaled(self, queries: sp.csr_matrix) -> sp.csr_matrix:
        """Queries that the engine takes, csr float32; the same matrix where nothing is to be done."""
        factors = self.factors(queries)
        if (factors == 1).all():
            return queries
        scaled = sp.csr_matrix(sp.diags_array(factors) @ queries, dtype=np.float32)
        scaled.data = np.minimum(scaled.data, np.float32(self.query_weight))  # a product may round up
        return scaled
