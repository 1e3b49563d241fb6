"""Approximate search in a server: what a recall takes is measured before it is asked for, for every k."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from neural_sparse.search.budget import Budget
from neural_sparse.search.encoded import EncodedCollection
from neural_sparse.search.snapshot import Snapshot
from neural_sparse.serve.requests import DEEPEST

logger = logging.getLogger(__name__)

# Hits for which recall is measured: a request for k between two of them has the blocks of the greater, which find of
# fewer hits no smaller part. Measuring takes hundreds of searches, too many for a request to wait for.
DEPTHS = (50, 100, 200, 500, DEEPEST)
CHANGED = 10  # measured anew when one document in so many is another


@dataclass(frozen=True)
class _Measured:
    """Of one moment of the documents.

    Attributes:
        budgets: by k; None where the search is exact.
        deleted: rows of each segment that were, by its name.
    """

    budgets: tuple[Budget | None, ...]
    steps: tuple[Budget, ...]
    generation: int
    deleted: dict[str, int]

    def changed(self, now: Snapshot) -> int:
        """Documents that were written or copied, or deleted, since."""
        return sum(
            len(segment.deleted) - self.deleted[segment.name]
            if segment.name in self.deleted
            else segment.documents
            for segment in now.segments
        )


class Approximate:
    """Budgets for a recall; for any number of threads.

    Args:
        recall, queries: as `EncodedCollection.approximate`.

    Raises:
        InputError: as there.
    """

    def __init__(self, collection: EncodedCollection, recall: float, queries: Sequence[str] = ()) -> None:
        self.collection, self.recall, self.queries = collection, recall, queries
        logger.info("%s: measuring what a recall of %g takes", collection.folder, recall)
        self._measured = self._measure()

    def _measure(self) -> _Measured:
        snapshot = self.collection.snapshot
        self.collection.approximate(self.recall, self.queries)
        budgets = self.collection.budgets
        assert budgets is not None
        steps = tuple(budgets.of(snapshot, k) for k in DEPTHS)
        return _Measured(
            tuple(_budget(steps, k) for k in range(DEEPEST + 1)),
            steps,
            snapshot.generation,
            {segment.name: len(segment.deleted) for segment in snapshot.segments},
        )

    def budget(self, k: int) -> Budget | None:
        """None: exact."""
        return self._measured.budgets[k]

    def follow(self) -> bool:
        """Measure anew where the documents are no longer those of which was measured; whether they were not.

        Until it is done, searches go on with what was measured before.
        """
        now = self.collection.snapshot
        if not len(now) or CHANGED * self._measured.changed(now) < len(now):
            return False
        self._measured = self._measure()
        return True

    def describe(self) -> dict[str, Any]:
        """The recall that was asked for, of which generation of the documents it was measured, and for which k."""
        measured = self._measured
        return {
            "recall": self.recall,
            "generation": measured.generation,
            "budgets": [asdict(step) for step in measured.steps],
        }


def _budget(steps: Sequence[Budget], k: int) -> Budget | None:
    """Of the next greater k that was measured: as many blocks in all, and so more for each hit."""
    step = steps[bisect_left(DEPTHS, k)]
    return replace(step, blocks=step.blocks * step.k / k) if k and step.blocks is not None else None
