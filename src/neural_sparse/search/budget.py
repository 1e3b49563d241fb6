"""Approximate search with one knob, the recall that is wanted: what it takes is measured on sample queries, and told.

The budget is in blocks of 8 documents for each hit that is asked for (`block_max`): the smallest with which a search
finds, on average over the sample, so much of what exact search finds. It depends on the documents, on k and on what
kind of queries are asked, and not on judgements: people's own queries are the best sample, words that follow one
another somewhere in a document the next best.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.sparse as sp

from neural_sparse.errors import InputError
from neural_sparse.search.hits import APPROXIMATE, Hits, recall

# Per hit, that are tried.
BLOCKS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 16.0, 20.0, 25.0)
QUERIES = 400  # of a sample, at most
WORDS = (4, 8)  # of a made query


class Searched(Protocol):
    """What is searched with a budget: a `SparseIndex` or a `Snapshot`."""

    def search(self, queries: sp.csr_matrix, k: int, *, blocks: float | None = None) -> Hits: ...

    def mode(self, k: int, blocks: float | None = None) -> str: ...


@dataclass(frozen=True)
class Budget:
    """What a search for k hits scores, and what it finds.

    Attributes:
        blocks: for each hit; None: the search is exact.
        recall: share of the exact k best that is found, mean over queries.
        queries: of which recall was measured; 0 where nothing had to be.
    """

    blocks: float | None
    k: int
    recall: float = 1.0
    queries: int = 0

    @property
    def mode(self) -> str:
        """What was measured, for people; of a budget that has blocks."""
        return (
            f"{APPROXIMATE}, {self.blocks:.3g} blocks a hit: recall {self.recall:.3f} of the {self.k} best of "
            f"{self.queries:,} sample queries"
        )


class Budgets:
    """Budgets for a recall, measured when a k is first asked for; for any number of threads.

    Args:
        recall: that is wanted, above 0 and below 1.
        sample: queries, csr [queries, vocabulary], of which 400 are drawn if they are more.

    Raises:
        InputError: such a recall cannot be wanted, or there is no query to measure it with.
    """

    def __init__(self, recall: float, sample: sp.csr_matrix) -> None:
        check_recall(recall)
        if not sample.nnz:
            raise InputError(
                "the recall of approximate search is measured with sample queries, and none of them has a term that "
                "the model knows: give queries such as people ask"
            )
        rows = np.flatnonzero(np.diff(sample.indptr))
        rows = np.sort(np.random.default_rng(0).permutation(rows)[:QUERIES])
        self.recall, self.sample = recall, sp.csr_matrix(sample[rows])
        self._measured: dict[int, Budget] = {}
        self._measuring = threading.Lock()

    def of(self, index: Searched, k: int) -> Budget:
        """The budget for k hits; exact where fewer blocks than it takes are as slow."""
        with self._measuring:
            if k not in self._measured:
                self._measured[k] = self._measure(index, k)
            return self._measured[k]

    def mode(self, index: Searched, k: int) -> str:
        """As `SparseIndex.mode`, with what was measured."""
        budget = self.of(index, k)
        return index.mode(k) if budget.blocks is None else budget.mode

    def _measure(self, index: Searched, k: int) -> Budget:
        steps = [blocks for blocks in BLOCKS if index.mode(k, blocks) == APPROXIMATE]
        if not steps:
            return Budget(None, k)
        exact = index.search(self.sample, k)
        found: dict[float, float] = {}

        def recall_of(blocks: float) -> float:
            found[blocks] = recall(index.search(self.sample, k, blocks=blocks), exact)
            return found[blocks]

        place = bisect_left(steps, self.recall, key=recall_of)  # more blocks never find less
        queries = self.sample.shape[0]
        if place == len(steps):
            return Budget(None, k, queries=queries)
        return Budget(steps[place], k, found[steps[place]], queries)


def check_recall(recall: float) -> None:
    """
    Raises:
        InputError: it is none that an approximate search can be asked for.
    """
    if not 0 < recall < 1:
        raise InputError(
            f"an approximate search is asked for a recall above 0 and below 1, such as 0.95, not {recall:g}; "
            "without one the search is exact"
        )


def made_queries(texts: Sequence[str], rng: np.random.Generator) -> list[str]:
    """4 to 8 words that follow one another somewhere in each text; texts without words are left out.

    Opening words and a document's heaviest terms are easier to find than what people ask, and would promise too much.
    """
    made = []
    for text in texts:
        words = text.split()
        size = int(rng.integers(WORDS[0], WORDS[1] + 1))
        start = int(rng.integers(0, max(1, len(words) - size + 1)))
        if words:
            made.append(" ".join(words[start : start + size]))
    return made
