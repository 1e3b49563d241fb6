"""Tests that may be looked at every day: the chance of ever being wrong stays below alpha, however often one looks.

A fixed-sample p-value that is looked at daily until it is small is wrong far more often than it says. Here the
evidence is a nonnegative martingale under the null hypothesis, a mixture likelihood ratio (Robbins 1970; the mixture
SPRT), which by Ville's inequality exceeds 1/alpha at any time with probability alpha at most. Its running inverse is
an always-valid p-value (Johari, Koomen, Pekelis and Walsh 2022, "Always valid inference"), and the values of the
parameter that it does not refuse are a confidence sequence (Howard, Ramdas, McAuliffe and Sekhon 2021, "Time-uniform,
nonparametric, nonasymptotic confidence sequences").
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.optimize import brentq
from scipy.special import betaln

from neural_sparse.errors import InputError

# The mixture's spread is fixed before any data: it decides where the test is sharpest and nothing about its level.
SHARE_PRIOR = 50.0  # Beta(50, 50): shares of wins .05 from one half
LEAST = 100
DIFFERENCE_PRIOR = 0.02  # standard deviation: click-through rates 2 points apart


@dataclass(frozen=True)
class Evidence:
    """What is known at one time.

    Attributes:
        estimate: of the share or the difference.
        low, high: of the confidence sequence.
        log_e: logarithm of the evidence against the null hypothesis; e >= 1 / alpha decides.
    """

    estimate: float
    low: float
    high: float
    log_e: float

    @property
    def p_value(self) -> float:
        """Of this time alone; an always-valid one is the smallest so far."""
        return min(1.0, math.exp(-min(self.log_e, 700.0)))


def share_of_wins(wins: int, losses: int, alpha: float = 0.05, prior: float = SHARE_PRIOR) -> Evidence:
    """Whether B wins more than half of the comparisons that have a winner: the sequential sign test.

    Exact for any number of them: the evidence against the share p is the beta-binomial likelihood over that of p
    (Robbins 1970; Howard et al. 2021, proposition 7).

    Args:
        wins, losses: comparisons that B won, and lost. Ties say nothing about the sign.

    >>> share_of_wins(60, 40).p_value > 0.05 > share_of_wins(600, 400).p_value
    True
    """
    _check(alpha)
    if min(wins, losses) < 0:
        raise InputError(f"wins and losses are counts, not {wins} and {losses}")

    def log_e(share: float) -> float:
        return log_evidence(wins, losses, share, prior)

    count = wins + losses
    estimate = wins / count if count else 0.5
    limit = math.log(1 / alpha)
    edge = 1e-12

    def bound(side: float) -> float:
        if not count or log_e(side) <= limit:
            return side
        middle = min(max(estimate, edge), 1 - edge)
        return float(brentq(lambda share: log_e(share) - limit, min(side, middle), max(side, middle)))

    low, high = bound(edge), bound(1 - edge)
    return Evidence(estimate, 0.0 if low == edge else low, 1.0 if high == 1 - edge else high, log_e(0.5))


def log_evidence(wins: int, losses: int, share: float = 0.5, prior: float = SHARE_PRIOR) -> float:
    """Logarithm of the evidence against a share of wins: the beta-binomial likelihood over that of the share."""
    mixture = float(betaln(prior + wins, prior + losses) - betaln(prior, prior))
    return mixture - wins * math.log(share) - losses * math.log1p(-share)


def difference_of_means(
    a: tuple[int, float, float],
    b: tuple[int, float, float],
    alpha: float = 0.05,
    prior: float = DIFFERENCE_PRIOR,
) -> Evidence:
    """Whether the mean of B differs from that of A, by the normal mixture with estimated variances.

    Asymptotic: right for some hundred units and more (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2021,
    "Time-uniform central limit theory"; the statistic is Johari et al.'s for two samples). Fewer than `LEAST` in a
    group say nothing.

    Args:
        a, b: number of units, mean and variance of each group.
        prior: standard deviation of the differences at which the test is sharpest.
    """
    _check(alpha)
    if min(a[0], b[0]) < LEAST:
        return Evidence(b[1] - a[1] if min(a[0], b[0]) else 0.0, -math.inf, math.inf, -math.inf)
    estimate = b[1] - a[1]
    variance = a[2] / a[0] + b[2] / b[0]
    if variance <= 0:  # nobody, or everybody, clicked: that is no certainty
        return Evidence(estimate, -math.inf, math.inf, -math.inf)
    ratio = prior**2 / variance
    log_e = -0.5 * math.log1p(ratio) + estimate**2 / (2 * variance) * ratio / (1 + ratio)
    reach = math.sqrt(variance * (1 + ratio) / ratio * (math.log1p(ratio) - 2 * math.log(alpha)))
    return Evidence(estimate, estimate - reach, estimate + reach, log_e)


def _check(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise InputError(f"alpha is between 0 and 1, not {alpha}")
