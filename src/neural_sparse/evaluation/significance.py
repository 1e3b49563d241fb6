"""Whether two systems differ by more than the choice of queries explains."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from neural_sparse.errors import InputError

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]
Key = TypeVar("Key", bound=Hashable)

SAMPLES = 100_000
RESAMPLES = 10_000
_BLOCK = 4_000_000  # random numbers held at a time


@dataclass(frozen=True)
class Comparison:
    """System B against system A on the same queries.

    Attributes:
        queries: how many both were measured on.
        mean_a, mean_b, difference: means, and mean_b - mean_a.
        low, high: bootstrap interval of the difference.
        p_value: paired randomisation test, two-sided.
        wins, ties, losses: queries on which B is better, equal, worse.
    """

    queries: int
    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    p_value: float
    wins: int
    ties: int
    losses: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def randomisation_test(differences: npt.ArrayLike, samples: int = SAMPLES, seed: int = 0) -> float:
    """Two-sided p-value of a mean paired difference under random signs (Smucker et al. 2007).

    All 2^n sign patterns are taken where there are at most `samples` of them, which gives the exact p-value;
    otherwise `samples` random ones, the observed one counted among them: p is never 0.

    Args:
        differences: one per query, float [queries]. Those without a difference do not matter.
    """
    values = np.asarray(differences, dtype=np.float64).ravel()
    values = values[values != 0]
    if not len(values):
        return 1.0
    # Sums that are equal but for rounding count as equal.
    reached = abs(values.sum()) * (1 - 1e-12) - 1e-15
    if len(values) < 63 and 2 ** len(values) <= samples:
        sums = np.zeros(1)
        for value in values:
            sums = np.concatenate([sums + value, sums - value])
        return float(np.mean(np.abs(sums) >= reached))
    rng = np.random.default_rng(seed)
    extreme = 0
    for count in _blocks(samples, len(values)):
        bits = np.unpackbits(rng.integers(0, 256, (count, -(-len(values) // 8)), dtype=np.uint8), axis=1)
        sums = 2.0 * (bits[:, : len(values)].astype(np.float64) @ values) - values.sum()
        extreme += int(np.count_nonzero(np.abs(sums) >= reached))
    return (extreme + 1) / (samples + 1)


def bootstrap_interval(
    *differences: npt.ArrayLike,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean difference, queries drawn with replacement.

    Args:
        differences: float [queries]. Several, one per data set, give the interval of the mean of their
            means; queries are drawn within each.
    """
    rng = np.random.default_rng(seed)
    total = np.zeros(resamples)
    for group in differences:
        values = np.asarray(group, dtype=np.float64).ravel()
        done = 0
        for count in _blocks(resamples, len(values)):
            drawn = rng.integers(0, len(values), (count, len(values)))
            total[done : done + count] += values[drawn].mean(axis=1)
            done += count
    low, high = np.quantile(total / len(differences), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def holm(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """Holm's step-down adjustment (1979): compare the result with the level wanted for all tests together.

    The chance of any wrong mark is then below that level, however the tests depend on one another.

    The i-th smallest of m p-values is multiplied by m - i + 1, never below an earlier one, never above 1.

    >>> holm({"nDCG@10": 0.01, "RR@10": 0.04, "R@1000": 0.03})
    {'nDCG@10': 0.03, 'RR@10': 0.06, 'R@1000': 0.06}
    """
    adjusted: dict[Key, float] = {}
    largest = 0.0
    for place, (name, p_value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_value))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def compare_scores(
    a: Mapping[str, float],
    b: Mapping[str, float],
    samples: int = SAMPLES,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """B against A from their values per query (query id -> value) on one data set.

    Raises:
        InputError: no query in common.

    >>> a = {"q1": 0.2, "q2": 0.5, "q3": 0.5, "q4": 0.1, "q5": 0.0}
    >>> b = {"q1": 0.4, "q2": 0.7, "q3": 0.5, "q4": 0.6, "q5": 0.3}
    >>> found = compare_scores(a, b)
    >>> found.wins, found.ties, found.losses, round(found.difference, 2), found.p_value
    (4, 1, 0, 0.24, 0.125)
    """
    x, y = _paired(a, b)
    low, high = bootstrap_interval(y - x, resamples=resamples, seed=seed)
    return _comparison([x], [y], low=low, high=high, p_value=randomisation_test(y - x, samples, seed))


def compare_macro(
    pairs: Sequence[tuple[Mapping[str, float], Mapping[str, float]]],
    samples: int = SAMPLES,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """B against A over several data sets, each data set weighing the same (macro average).

    Raises:
        InputError: no data set, or no query in common on one of them.
    """
    if not pairs:
        raise InputError("the systems share no data set")
    both = [_paired(a, b) for a, b in pairs]
    differences = [y - x for x, y in both]
    low, high = bootstrap_interval(*differences, resamples=resamples, seed=seed)
    weighted = np.concatenate([values / (len(values) * len(pairs)) for values in differences])
    p_value = randomisation_test(weighted, samples, seed)
    return _comparison([x for x, _ in both], [y for _, y in both], low=low, high=high, p_value=p_value)


def _paired(a: Mapping[str, float], b: Mapping[str, float]) -> tuple[Floats, Floats]:
    shared = [query_id for query_id in a if query_id in b]
    if not shared:
        raise InputError("the systems have no query in common: were they evaluated on the same split?")
    if len(shared) < max(len(a), len(b)):
        logger.warning(
            "only %d queries are in both evaluations (%d and %d); the others are left out",
            len(shared),
            len(a),
            len(b),
        )
    x = np.array([a[query_id] for query_id in shared], dtype=np.float64)
    return x, np.array([b[query_id] for query_id in shared], dtype=np.float64)


def _comparison(a: list[Floats], b: list[Floats], low: float, high: float, p_value: float) -> Comparison:
    mean_a = float(np.mean([values.mean() for values in a]))
    mean_b = float(np.mean([values.mean() for values in b]))
    signs = np.sign(np.round(np.concatenate(b) - np.concatenate(a), 12))
    return Comparison(
        queries=len(signs),
        mean_a=mean_a,
        mean_b=mean_b,
        difference=mean_b - mean_a,
        low=low,
        high=high,
        p_value=p_value,
        wins=int(np.count_nonzero(signs > 0)),
        ties=int(np.count_nonzero(signs == 0)),
        losses=int(np.count_nonzero(signs < 0)),
    )


def _blocks(rows: int, columns: int) -> list[int]:
    """Sizes of blocks of rows that keep the random numbers of one block in bounds."""
    size = max(1, _BLOCK // max(columns, 1))
    full, rest = divmod(rows, size)
    return [*itertools.repeat(size, full), *([rest] if rest else [])]
