"""How much an experiment needs, and what it can find: judged queries, interleaved sessions, users of an A/B test.

Each question has its inverse, the smallest effect that so much would find. `looks="once"` is for a test that is made
at the end alone, `looks="any"` for one that may be looked at daily (`sequential`); its numbers are for being decided
by then, and on the way there it may be decided sooner.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from scipy.optimize import brentq
from scipy.stats import binom, nct, norm, t

from neural_sparse.errors import InputError
from neural_sparse.evaluation.sequential import DIFFERENCE_PRIOR, log_evidence

Looks = Literal["once", "any"]
MOST = 100_000_000


def queries_needed(effect: float, sd: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Judged queries with which a paired t-test finds a mean difference (Sakai 2016, "Topic set size design").

    The randomisation test that `compare` makes needs as many (Smucker, Allan and Carterette 2007).

    Args:
        effect: mean difference per query, such as .01 of nDCG@10.
        sd: standard deviation of the differences per query.

    >>> queries_needed(0.5, 1.0)  # Cohen 1988: 34 pairs for a medium effect
    34
    """
    _check(alpha, power)
    if effect == 0 or not sd > 0:
        raise InputError("an effect other than 0 and a standard deviation above 0, please")
    return _smallest(lambda count: paired_power(count, effect, sd, alpha) >= power, 2)


def queries_effect(queries: int, sd: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """The mean difference that so many judged queries find; the inverse of `queries_needed`."""
    _check(alpha, power)
    if queries < 2 or not sd > 0:
        raise InputError("at least two queries and a standard deviation above 0, please")
    return float(
        brentq(lambda effect: paired_power(queries, effect, sd, alpha) - power, 1e-9 * sd, 1000 * sd)
    )


def paired_power(queries: int, effect: float, sd: float, alpha: float = 0.05) -> float:
    """Power of the two-sided paired t-test, by the noncentral t distribution."""
    shift = abs(effect) / sd * math.sqrt(queries)
    edge = float(t.ppf(1 - alpha / 2, queries - 1))
    if shift > 37:  # beyond what the distribution function can tell from 1
        return 1.0
    return float(nct.sf(edge, queries - 1, shift) + nct.cdf(-edge, queries - 1, shift))


def sessions_needed(
    share: float, ties: float = 0.0, alpha: float = 0.05, power: float = 0.8, looks: Looks = "once"
) -> int:
    """Interleaved sessions with which the sign test finds that B wins this share of those that have a winner.

    Args:
        share: of wins among sessions with a winner, such as .55.
        ties: share of sessions without one (no click, or as many for both).
        looks: see the module.

    >>> sessions_needed(0.6), sessions_needed(0.6, ties=0.5)
    (201, 402)
    """
    _check(alpha, power)
    _check_ties(ties)
    if not 0 < share < 1 or share == 0.5:
        raise InputError(f"a share of wins is between 0 and 1 and not one half, not {share}")
    decisive = _smallest(lambda count: sign_power(count, share, alpha, looks) >= power, 6)
    return math.ceil(decisive / (1 - ties) - 1e-9)


def sessions_effect(
    sessions: int, ties: float = 0.0, alpha: float = 0.05, power: float = 0.8, looks: Looks = "once"
) -> float:
    """The share of wins above one half that so many sessions find; the inverse of `sessions_needed`.

    Raises:
        InputError: too few to find any.
    """
    _check(alpha, power)
    _check_ties(ties)
    decisive = int(sessions * (1 - ties) + 1e-9)
    edge = 1 - 1e-9
    if decisive < 1 or sign_power(decisive, edge, alpha, looks) < power:
        raise InputError(f"{sessions} sessions, {decisive} with a winner, cannot find any preference")
    return float(brentq(lambda share: sign_power(decisive, share, alpha, looks) - power, 0.5, edge))


def sign_power(decisive: int, share: float, alpha: float = 0.05, looks: Looks = "once") -> float:
    """Power of the two-sided sign test with so many sessions that have a winner: exact."""
    least = _wins_needed(decisive, alpha, looks)
    if least > decisive:
        return 0.0
    return float(binom.sf(least - 1, decisive, share) + binom.cdf(decisive - least, decisive, share))


def _wins_needed(decisive: int, alpha: float, looks: Looks) -> int:
    """The smallest number of wins, above half, that decides."""
    if looks == "once":
        return int(binom.isf(alpha / 2, decisive, 0.5)) + 1
    low, high = (decisive + 1) // 2, decisive + 1
    while low < high:
        middle = (low + high) // 2
        if log_evidence(middle, decisive - middle) >= math.log(1 / alpha):
            high = middle
        else:
            low = middle + 1
    return low


def users_needed(
    rate: float, effect: float, alpha: float = 0.05, power: float = 0.8, looks: Looks = "once"
) -> int:
    """Users **per group** with whom two click-through rates are told apart (Fleiss, Levin and Paik 2003, section 4.2).

    Args:
        rate: share of users of A who click.
        effect: what B adds to it, in absolute terms: .01 is one point.

    >>> users_needed(0.3, 0.02)
    8394
    """
    _check(alpha, power)
    _check_rates(rate, effect)
    return _smallest(
        lambda count: rates_power(count, rate, effect=effect, alpha=alpha, looks=looks) >= power, 2
    )


def users_effect(
    users: int, rate: float, alpha: float = 0.05, power: float = 0.8, looks: Looks = "once"
) -> float:
    """The gain in click-through rate that so many users per group find; the inverse of `users_needed`.

    Raises:
        InputError: too few to find any.
    """
    _check(alpha, power)
    if not 0 < rate < 1 or users < 2:
        raise InputError(f"a click-through rate between 0 and 1 and at least two users, not {rate}, {users}")
    most = 1 - rate - 1e-9
    if rates_power(users, rate, effect=most, alpha=alpha, looks=looks) < power:
        raise InputError(f"{users} users per group cannot find any gain over {rate}")
    return float(
        brentq(
            lambda effect: rates_power(users, rate, effect=effect, alpha=alpha, looks=looks) - power,
            1e-9,
            most,
        )
    )


def rates_power(users: int, rate: float, effect: float, alpha: float = 0.05, looks: Looks = "once") -> float:
    """Power of the comparison of two proportions with so many users per group."""
    other = rate + effect
    apart = math.sqrt((rate * (1 - rate) + other * (1 - other)) / users)
    if looks == "once":
        middle = (rate + other) / 2
        edge = float(norm.isf(alpha / 2)) * math.sqrt(2 * middle * (1 - middle) / users)
    else:
        ratio = DIFFERENCE_PRIOR**2 / apart**2
        edge = apart * math.sqrt((1 + ratio) / ratio * (math.log1p(ratio) - 2 * math.log(alpha)))
    return float(norm.sf((edge - abs(effect)) / apart))


def _smallest(enough: Callable[[int], bool], least: int) -> int:
    """The smallest count that is enough, where more is better (all but for the steps of discrete tests)."""
    high = least
    while not enough(high):
        high *= 2
        if high > MOST:
            raise InputError(f"more than {MOST:,} would be needed: the effect is too small to be found")
    low = max(least, high // 2)
    while low < high:
        middle = (low + high) // 2
        if enough(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _check(alpha: float, power: float) -> None:
    if not 0 < alpha < 1 or not alpha < power < 1:
        raise InputError(f"alpha is between 0 and 1 and power between alpha and 1, not {alpha} and {power}")


def _check_ties(ties: float) -> None:
    if not 0 <= ties < 1:
        raise InputError(f"the share of ties is at least 0 and below 1, not {ties}")


def _check_rates(rate: float, effect: float) -> None:
    if not 0 < rate < 1 or not 0 < rate + effect < 1 or effect == 0:
        raise InputError(f"click-through rates are between 0 and 1 and differ: {rate} and {rate + effect:g}")
