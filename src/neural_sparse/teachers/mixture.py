"""At which weights an ensemble orders candidates best: nDCG@10 over score matrices, quick enough for a grid."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from neural_sparse.teachers.equations import Combination

Values = NDArray[np.float64]
Scores = NDArray[np.float32]
CUTOFF = 10
STEPS = 10  # of the grid, from 0 to 1
FINE_STEP = 0.05
MOST_POINTS = 3000  # of the grid


def ndcg(scores: Scores, gains: Values, ideal: Values, k: int = CUTOFF) -> Values:
    """nDCG@k of ordering each row's candidates by score, as trec_eval computes it: gain = grade, discount
    1 / log2(rank + 1). Equal scores rank by column; a candidate without a score (NaN) is not ranked.

    Args:
        scores, gains: [queries, candidates].
        ideal: DCG@k of the best order of all judged documents [queries]; above 0.
    """
    unknown = np.isnan(scores)
    order = np.argsort(-np.where(unknown, -np.inf, scores), axis=1, kind="stable")[:, :k]
    top = np.take_along_axis(np.where(unknown, 0, gains), order, 1)
    return top @ _discounts(top.shape[1]) / ideal


def _discounts(k: int) -> Values:
    return 1 / np.log2(np.arange(k) + 2)


def ideal_dcg(grades: Sequence[int]) -> float:
    """DCG of the best order of judged documents."""
    best = np.sort(np.asarray(grades, np.float64))[::-1][:CUTOFF]
    return float(best @ _discounts(len(best)))


class Mixture:
    """Normalised scores of several teachers over the same candidates, averaged at any weights (equations 8, 9).

    Args:
        teachers: raw scores of each [queries, candidates], NaN where it does not know them.
    """

    def __init__(self, teachers: Sequence[Scores]) -> None:
        raw = [torch.from_numpy(scores) for scores in teachers]
        self._known = [~scores.isnan() for scores in raw]
        self._combination = Combination(list(zip(raw, self._known, strict=True)))

    def at(self, weights: Sequence[float]) -> Scores:
        """[queries, candidates]; NaN where no teacher of a positive weight knows the score.

        Of a query whose candidates no teacher tells apart, those that are known are equal.
        """
        mixed, known = self._combination.at(weights)
        asked = torch.stack([there for there, weight in zip(self._known, weights, strict=True) if weight > 0])
        known = known | (asked.any(0) & ~known.any(1, keepdim=True))
        return mixed.masked_fill(~known, torch.nan).numpy()


def choose_weights(
    count: int, quality: Callable[[Sequence[float]], float], start: Sequence[float]
) -> tuple[float, ...]:
    """Weights of sum 1 at which `quality` is highest, among a grid in steps of 0.1 and then, by moving 0.05
    from one teacher to another while that helps, of 0.05. Of equally good ones the nearest to `start`.

    The grid is coarser where there are so many teachers that it would have more than 3,000 points.
    """
    steps = STEPS
    while steps > 1 and _points(count, steps) > MOST_POINTS:
        steps -= 1
    target = np.asarray(start, np.float64) / np.sum(start)

    def rank(point: NDArray[np.float64]) -> tuple[float, float]:
        return round(quality(point.tolist()), 9), -float(np.abs(point - target).sum())

    grid = [np.array(point) / steps for point in _compositions(steps, count)]
    best = max(grid, key=rank)
    value = rank(best)
    while True:
        moves = []
        for source, target_teacher in itertools.permutations(range(count), 2):
            if best[source] >= FINE_STEP - 1e-9:
                moved = best.copy()
                moved[source] -= FINE_STEP
                moved[target_teacher] += FINE_STEP
                moves.append(np.maximum(moved, 0))
        ranked = [(rank(point), point) for point in moves]
        if not ranked or max(one[0] for one in ranked) <= value:
            return tuple(round(float(weight), 4) for weight in best)
        value, best = max(ranked, key=lambda one: one[0])


def _points(count: int, steps: int) -> int:
    return math.comb(steps + count - 1, count - 1)


def _compositions(total: int, count: int) -> list[tuple[int, ...]]:
    """All ways to write `total` as a sum of `count` whole numbers >= 0."""
    if count == 1:
        return [(total,)]
    return [(first, *rest) for first in range(total + 1) for rest in _compositions(total - first, count - 1)]


def halves(query_ids: Sequence[str]) -> NDArray[np.bool_]:
    """Which queries are held back when weights are chosen: every other one in the order of their ids' hashes,
    so that neither the order of a file nor the run decides."""
    order = np.argsort([hashlib.sha256(query_id.encode()).hexdigest() for query_id in query_ids])
    held_back = np.zeros(len(query_ids), np.bool_)
    held_back[order[1::2]] = True
    return held_back
