"""Several rankings of one query made into one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from neural_sparse.errors import InputError

METHODS = ("rrf", "minmax", "sum")
RANK = 60  # k of reciprocal ranks
DEPTH = 100  # hits of each ranking, where nobody says how many

# Document id -> score.
Ranking = Mapping[str, float]


def fused(
    rankings: Sequence[Ranking], method: str = "rrf", weights: Sequence[float] | None = None
) -> dict[str, float]:
    """One ranking of several, best first; equal scores by the best place in any of them, the first ranking's first.

    Args:
        rankings: their best hits, one mapping each; a document that a ranking lacks gets nothing from it.
        method: "rrf", the sum of weight / (60 + rank) (Cormack, Clarke and Büttcher 2009); "minmax", the weighted sum
            of scores moved to 0 .. 1 within each ranking, 1 where all are equal (as in Bruch, Gai and Ingber 2023);
            "sum", that of the scores as they are, as one query of a search engine adds up its clauses.
        weights: one per ranking, >= 0, not all 0; equal ones if None.

    Raises:
        InputError: another method, or weights that do not fit.

    >>> fused([{"a": 9.0, "b": 7.0, "c": 1.0}, {"b": 3.0, "d": 2.0}], "minmax", [0.5, 0.5])
    {'b': 0.875, 'a': 0.5, 'd': 0.0, 'c': 0.0}
    >>> list(fused([{"a": 9.0, "b": 7.0}, {"b": 3.0, "d": 2.0}]))
    ['b', 'a', 'd']
    """
    weights = check_fusion(method, weights, len(rankings))
    scores: dict[str, float] = {}
    places: dict[str, tuple[int, int]] = {}
    for number, (ranking, weight) in enumerate(zip(rankings, weights, strict=True)):
        order = sorted(ranking, key=lambda doc_id: -ranking[doc_id])  # stable: equal scores as they came
        least = ranking[order[-1]] if order else 0.0
        width = ranking[order[0]] - least if order else 0.0
        for rank, doc_id in enumerate(order):
            if method == "rrf":
                gain = weight / (RANK + rank + 1)
            elif method == "sum":
                gain = weight * ranking[doc_id]
            else:
                gain = weight * ((ranking[doc_id] - least) / width if width > 0 else 1.0)
            scores[doc_id] = scores.get(doc_id, 0.0) + gain
            places[doc_id] = min(places.get(doc_id, (rank, number)), (rank, number))
    best_first = sorted(scores, key=lambda doc_id: (-scores[doc_id], places[doc_id]))
    return {doc_id: scores[doc_id] for doc_id in best_first}


def check_fusion(method: str, weights: Sequence[float] | None, count: int) -> Sequence[float]:
    """The weights, equal ones if None; refuses what `fused` would refuse."""
    if method not in METHODS:
        raise InputError(f"unknown fusion {method!r}; choose from {', '.join(METHODS)}")
    weights = [1.0 / count] * count if weights is None else weights
    if len(weights) != count:
        raise InputError(f"{len(weights)} weights for {count} rankings")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise InputError(f"weights of a fusion are >= 0 and not all 0, got {', '.join(map(str, weights))}")
    return weights
