"""What every engine can be asked: to take documents, to find some, and to say how long that took."""

from __future__ import annotations

import itertools
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from neural_sparse.engines.limits import Limits
from neural_sparse.engines.vectors import VectorSource

_WARM = 20  # queries asked before any is timed


class Found(NamedTuple):
    """What an engine found.

    Attributes:
        docs: int32 [queries, k], rows of documents, best first; -1 where fewer were found.
        scores: float32 [queries, k]; 0 where `docs` is -1.
        seconds: float64 [queries], each query alone, as its caller waits; NaN where there was nothing to ask.
    """

    docs: NDArray[np.int32]
    scores: NDArray[np.float32]
    seconds: NDArray[np.float64]


class Engine(ABC):
    """An engine with one index of its own, gone after `close`.

    Attributes:
        limits: what it takes.
        version: as it says itself; "" where it does not.
    """

    limits: ClassVar[Limits]
    version: str = ""

    @abstractmethod
    def fill(self, source: VectorSource) -> float | None:
        """Take all documents and be ready for searches. The source has passed `limits.check`.

        Returns:
            Seconds that took by the engine's own clock; None: by the caller's.
        """

    @abstractmethod
    def search(self, queries: sp.csr_matrix, k: int) -> Found:
        """The k best documents of each query, csr [queries, vocabulary], as `limits.scaled` gives them."""

    def bm25(self, texts: Sequence[str], k: int) -> Found | None:
        """BM25 over the same documents in the same engine, or None where it has none."""
        return None

    def kept(self, documents: sp.csr_matrix) -> sp.csr_matrix:
        """Document vectors as the engine holds them."""
        return documents

    def size(self) -> int | None:
        """Bytes on disk, or None where the engine does not say."""
        return None

    @abstractmethod
    def close(self) -> None:
        """End it, and remove what it kept."""

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def one_by_one(ask: Callable[[int], Sequence[tuple[int, float]] | None], queries: int, k: int) -> Found:
    """Ask query after query, the first few twice so that what is loaded once is not timed.

    Args:
        ask: rows and scores of the documents found for a query's number, best first; None if there is nothing to ask.
    """
    found = Found(
        np.full((queries, k), -1, np.int32), np.zeros((queries, k), np.float32), np.full(queries, np.nan)
    )
    for row in range(min(_WARM, queries)):
        ask(row)
    for row in range(queries):
        started = time.perf_counter()
        hits = ask(row)
        if hits is None:
            continue
        found.seconds[row] = time.perf_counter() - started
        for place, (doc, score) in enumerate(hits[:k]):
            found.docs[row, place], found.scores[row, place] = doc, score
    return found


def rows_of(vectors: sp.csr_matrix) -> Iterator[tuple[list[int], list[float]]]:
    """Ids and weights of each row, one row after another: as lists, documents take ten times their memory."""
    csr = sp.csr_matrix(vectors)
    csr.sort_indices()
    for start, end in itertools.pairwise(csr.indptr.tolist()):
        yield csr.indices[start:end].tolist(), csr.data[start:end].tolist()


def query_rows(queries: sp.csr_matrix) -> list[tuple[list[int], list[float]]]:
    """Ids and weights of each query."""
    return list(rows_of(queries))
