"""Quantiles of what was measured one after another, with intervals that know neighbours are alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

Floats = npt.NDArray[np.float64]
Blocks = npt.NDArray[np.int64]
RESAMPLES = 1000
LEAST_BEYOND = 10  # values beyond a quantile, for the interval of a ratio of two
_CELLS = 8_000_000  # weights held at a time


@dataclass(frozen=True)
class Quantile:
    """A quantile, or a ratio of two, with a 95% interval.

    Attributes:
        value: None where it is infinite: more requests failed than the quantile leaves out.
        low, high: None where the sample says nothing: of fewer than 3,688 values the greatest is no upper bound of the
            99.9th percentile.
    """

    value: float | None
    low: float | None
    high: float | None


def name(level: float) -> str:
    """
    >>> [name(level) for level in (0.5, 0.99, 0.999)]
    ['p50', 'p99', 'p99.9']
    """
    return f"p{100 * level:.6g}"


def blocked_quantiles(
    values: Floats, blocks: Blocks, levels: Sequence[float], seed: int = 0, confidence: float = 0.95
) -> dict[str, Quantile]:
    """Quantiles by name with intervals.

    The interval is the wider, at either end, of two: the percentile bootstrap over blocks of time (Künsch 1989, "The
    jackknife and the bootstrap for general stationary observations"), because requests that wait in one queue are slow
    together; and the order statistics' (David and Nagaraja 2003, section 7.1), which makes no assumption on the
    distribution and says where the sample ends.

    Args:
        values: [n]; infinite ones are requests that failed.
        blocks: number of the block of each, [n].
    """
    found: dict[str, Quantile] = {}
    if not len(values):
        return found
    order = np.sort(values)
    drawn = _resampled(values, blocks, levels, np.random.default_rng(seed))
    outside = (1 - confidence) / 2
    for place, level in enumerate(levels):
        count = len(values)
        first = int(binom.ppf(outside, count, level))  # order statistics from 1; 0 is no bound
        last = int(binom.ppf(1 - outside, count, level)) + 1
        low, high = np.quantile(drawn[:, place], (outside, 1 - outside), method="closest_observation")
        low = min(low, order[first - 1]) if first >= 1 else None
        high = max(high, order[last - 1]) if last <= count else None
        found[name(level)] = Quantile(_finite(_at(order, level)), _finite(low), _finite(high))
    return found


def quantile_ratios(
    first: tuple[Floats, Blocks], second: tuple[Floats, Blocks], levels: Sequence[float], seed: int = 0
) -> dict[str, Quantile]:
    """Quantiles of one sample over those of another that was taken in turns with it.

    Blocks of one number stand for the same conditions and are drawn together.

    Args:
        first, second: values [n] and numbers of their blocks [n].
    """
    count = 1 + max(int(blocks.max(initial=-1)) for _, blocks in (first, second))
    if count < 1 or not len(first[0]) or not len(second[0]):
        return {}
    above = _resampled(*first, levels, np.random.default_rng(seed), count)
    below = _resampled(*second, levels, np.random.default_rng(seed), count)
    found = {}
    for place, level in enumerate(levels):
        a, b = (_at(np.sort(values), level) for values, _ in (first, second))
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn = above[:, place] / below[:, place]
        if np.isnan(drawn).any() or not np.isfinite(a) or not np.isfinite(b):
            found[name(level)] = Quantile(None, None, None)
            continue
        low, high = np.quantile(drawn, (0.025, 0.975), method="closest_observation")
        if min(len(first[0]), len(second[0])) * (1 - level) < LEAST_BEYOND - 1e-9:
            low = high = None
        found[name(level)] = Quantile(_finite(a / b), _finite(low), _finite(high))
    return found


def _at(ordered: Floats, level: float) -> float:
    """The smallest value that at least this share of the sample does not exceed."""
    return float(ordered[max(0, math.ceil(level * len(ordered) - 1e-9) - 1)])


def _resampled(
    values: Floats,
    blocks: Blocks,
    levels: Sequence[float],
    rng: np.random.Generator,
    count: int | None = None,
) -> Floats:
    """Quantiles of samples made of blocks drawn with replacement, [RESAMPLES, levels]."""
    order = np.argsort(values, kind="stable")
    ordered, block_of = values[order], blocks[order]
    count = count or int(blocks.max()) + 1
    drawn = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)
    found = np.empty((RESAMPLES, len(levels)))
    step = max(1, _CELLS // len(values))
    for start in range(0, RESAMPLES, step):
        weights = np.cumsum(drawn[start : start + step][:, block_of], axis=1)
        for row, cumulated in enumerate(weights, start=start):
            total = int(cumulated[-1])
            wanted = [max(1, math.ceil(level * total - 1e-9)) for level in levels]
            places = np.minimum(np.searchsorted(cumulated, wanted), len(ordered) - 1)
            found[row] = ordered[places]
    return found


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
