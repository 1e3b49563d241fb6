"""What a deployment does to rankings, worked out without a server: pruned documents, cut queries, two phases.

`deploy` makes an ingest pipeline that prunes; Lucene keeps 9 bits of what is left; query models read 512 tokens; a
two-phase search pipeline looks at light query tokens only among the documents that the heavy ones found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from neural_sparse.errors import InputError
from neural_sparse.search import Hits, SparseIndex

PRUNE = 0.1  # of a document's greatest weight


@dataclass(frozen=True)
class TwoPhase:
    """Parameters of neural_sparse_two_phase_processor.

    Attributes:
        prune_ratio: query tokens of at least this share of the heaviest one are looked for first.
        expansion_rate: the light ones are scored for this many times `size` documents.
        max_window_size: no search may ask for more of them.
    """

    prune_ratio: float = 0.4
    expansion_rate: float = 5.0
    max_window_size: int = 10_000

    def parameter(self) -> dict[str, float]:
        """As the processor takes it."""
        return {
            "prune_ratio": self.prune_ratio,
            "expansion_rate": self.expansion_rate,
            "max_window_size": self.max_window_size,
        }

    def window(self, k: int) -> int:
        """Raises InputError: more than a search through this pipeline may ask for."""
        window = int(k * self.expansion_rate)
        if window > self.max_window_size:
            most = int(self.max_window_size / self.expansion_rate)
            raise InputError(f"two-phase search gives {most:,} documents at most, not {k:,}")
        return window


def heavy(vectors: sp.csr_matrix, ratio: float) -> sp.csr_matrix:
    """Each row without the weights below `ratio` times its greatest: prune_type max_ratio.

    >>> heavy(sp.csr_matrix([[2.0, 0.5, 0.1]]), 0.1).toarray().tolist()
    [[2.0, 0.5, 0.0]]
    """
    csr = sp.csr_matrix(vectors, copy=True)
    lengths = np.diff(csr.indptr)
    greatest = np.repeat(np.asarray(csr.max(axis=1).todense()).ravel(), lengths)
    csr.data[csr.data < np.float32(ratio) * greatest] = 0
    csr.eliminate_zeros()
    return csr


def two_phase_search(
    documents: sp.csr_matrix, queries: sp.csr_matrix, k: int = 10, how: TwoPhase | None = None
) -> Hits:
    """The k best documents of a two-phase search on one shard.

    Args:
        documents: csr [documents, vocabulary], as the index keeps them. queries: csr [queries, vocabulary].

    Raises:
        InputError: a k that the server refuses.
    """
    how = how or TwoPhase()
    documents = sp.csr_matrix(documents)
    queries = sp.csr_matrix(queries)
    first = heavy(queries, how.prune_ratio)
    light = sp.csr_matrix(queries - first)
    light.eliminate_zeros()
    found = SparseIndex.build(documents, map(str, range(documents.shape[0]))).search(first, how.window(k))
    docs = np.full((queries.shape[0], k), -1, np.int32)
    scores = np.zeros((queries.shape[0], k), np.float32)
    for row in range(queries.shape[0]):
        rows = found.docs[row][found.docs[row] >= 0]
        more = (documents[rows] @ light[row].T).toarray().ravel()
        total = (found.scores[row, : len(rows)] + more).astype(np.float32)
        best = np.lexsort((rows, -total))[:k]
        docs[row, : len(best)] = rows[best]
        scores[row, : len(best)] = total[best]
    return Hits(docs, scores)
