"""Which of two systems users prefer, from their clicks, so that it may be asked every day."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
from scipy.stats import binomtest

from neural_sparse.errors import InputError
from neural_sparse.evaluation.click_log import ClickLog, Impression, Unit
from neural_sparse.evaluation.interleaving import credit
from neural_sparse.evaluation.sequential import Evidence, difference_of_means, share_of_wins

WINDOWS: dict[Unit, float] = {"query": 1800.0, "session": 3600.0, "user": 86400.0}
_DAY = 86400.0
_MISMATCH = 0.001  # Fabijan et al. 2019: a ratio that chance gives so rarely is a fault of the experiment


@dataclass(frozen=True)
class Day:
    """What was known at the end of a day (UTC), or of the log.

    Attributes:
        units: sessions or users so far.
        value: share of wins of B among units with a winner; or difference of click-through, B - A.
        low, high: confidence sequence, None where there is no bound.
        p_value: always valid: the smallest so far.
    """

    day: str
    units: int
    value: float
    low: float | None
    high: float | None
    p_value: float


@dataclass(frozen=True)
class Preference:
    """Result of an experiment so far.

    Attributes:
        kind: "interleaving" or "split".
        unit: what was counted; each unit once.
        units: so many; those whose window has not passed are not among them but `open`.
        wins, ties, losses: units with more clicks for B, as many, more for A (interleaving).
        groups: units, and the share of them with a click, by arm (split).
        days: the last one is the result.
        winner: "a", "b" or "" while undecided at `alpha`; once decided it stays.
        decided: the day on which it was.
    """

    kind: Literal["interleaving", "split"]
    unit: Unit
    alpha: float
    units: int
    open: int
    wins: int
    ties: int
    losses: int
    groups: dict[str, tuple[int, float]]
    days: list[Day]
    winner: str
    decided: str
    remarks: list[str]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class _Outcome:
    """A unit: when it counts, clicks for A and B (interleaving), or its arm and whether it clicked."""

    settled: float
    a: int
    b: int
    arm: str


def analyse_clicks(
    log: ClickLog,
    unit: Unit = "session",
    window: float | None = None,
    alpha: float = 0.05,
    until: float | None = None,
) -> Preference:
    """Count every unit once and test, with a test that may be repeated daily.

    A unit's outcome is what it did within `window` of its first impression, and it counts when that has passed: its
    outcome never changes afterwards, which is what the test's promise rests on.

    Args:
        window: seconds; of `WINDOWS` if None.
        until: seconds since 1970; the time of the log's last line if None.

    Raises:
        InputError: interleaved pages and a split test in one log; no unit whose window has passed; units that are not
            known.
    """
    if not 0 < alpha < 1:
        raise InputError(f"alpha is between 0 and 1, not {alpha}")
    window = WINDOWS[unit] if window is None else window
    until = log.last if until is None else until
    pages = sorted(log.impressions.values(), key=lambda one: one.time)
    split = {one.arm is not None for one in pages}
    if len(split) > 1:
        raise InputError(
            f"{log.source}: interleaved pages and pages of a split test; analyse them one by one"
        )
    outcomes, still_open, remarks = _outcomes(log, pages, unit=unit, window=window, until=until)
    if not outcomes:
        raise InputError(
            f"{log.source}: no {unit} is {window / 60:g} minutes old yet ({still_open} begun); wait, or give a shorter "
            "--window"
        )
    outcomes.sort(key=lambda one: one.settled)
    remarks = [*log.remarks, *remarks]
    is_split = split == {True}
    if is_split:
        remarks += _group_sizes(outcomes)
    else:
        remarks += _first_places(pages)
    days, winner, decided = _days(outcomes, is_split, alpha, until)
    signs = np.sign([one.b - one.a for one in outcomes])
    return Preference(
        kind="split" if is_split else "interleaving",
        unit=unit,
        alpha=alpha,
        units=len(outcomes),
        open=still_open,
        wins=0 if is_split else int(np.count_nonzero(signs > 0)),
        ties=0 if is_split else int(np.count_nonzero(signs == 0)),
        losses=0 if is_split else int(np.count_nonzero(signs < 0)),
        groups=_groups(outcomes) if is_split else {},
        days=days,
        winner=winner,
        decided=decided,
        remarks=remarks,
    )


def _outcomes(
    log: ClickLog, pages: list[Impression], unit: Unit, window: float, until: float
) -> tuple[list[_Outcome], int, list[str]]:
    by_unit: dict[str, list[Impression]] = defaultdict(list)
    for one in pages:
        if one.time <= until:
            by_unit[one.unit(unit, log.source)].append(one)
    outcomes, still_open, both = [], 0, 0
    for shown in by_unit.values():
        end = shown[0].time + window
        if end > until:
            still_open += 1
            continue
        arms = {one.arm for one in shown if one.time <= end}
        if len(arms) > 1:
            both += 1
            continue
        a = b = 0
        for one in shown:
            clicked = [doc_id for doc_id, time in one.clicks.items() if time <= end]
            if one.arm is None:
                of_a, of_b = credit(one.teams, clicked)
                a, b = a + of_a, b + of_b
            else:
                a, b = (a + len(clicked), b) if one.arm == "a" else (a, b + len(clicked))
        outcomes.append(_Outcome(end, a, b, str(shown[0].arm or "")))
    remarks = [f"{both:,} {unit}s saw both arms and are left out"] if both else []
    return outcomes, still_open, remarks


class _Running:
    """Counts up to a time, and what they say."""

    def __init__(self, split: bool, alpha: float) -> None:
        self.split, self.alpha = split, alpha
        self.units = self.wins = self.losses = 0
        self.clicked = {"a": [0, 0], "b": [0, 0]}  # units, units with a click

    def add(self, one: _Outcome) -> None:
        self.units += 1
        if self.split:
            self.clicked[one.arm][0] += 1
            self.clicked[one.arm][1] += one.a + one.b > 0
        else:
            self.wins += one.b > one.a
            self.losses += one.b < one.a

    def evidence(self) -> Evidence:
        if not self.split:
            return share_of_wins(self.wins, self.losses, self.alpha)
        groups = []
        for count, clicked in (self.clicked["a"], self.clicked["b"]):
            mean = clicked / count if count else 0.0
            groups.append((count, mean, mean * (1 - mean)))
        return difference_of_means(groups[0], groups[1], self.alpha)


def _days(outcomes: list[_Outcome], split: bool, alpha: float, until: float) -> tuple[list[Day], str, str]:
    """The state at each day's end at which something was new; the first that decides stays the decision."""
    running = _Running(split, alpha)
    days: list[Day] = []
    smallest, winner, decided = 1.0, "", ""
    low, high = -math.inf, math.inf
    place = 0
    while place < len(outcomes):
        end = min((math.floor(outcomes[place].settled / _DAY) + 1) * _DAY, until)
        while place < len(outcomes) and outcomes[place].settled <= end:
            running.add(outcomes[place])
            place += 1
        found = running.evidence()
        smallest = min(smallest, found.p_value)
        low, high = max(low, found.low), min(high, found.high)  # all hold at once, so their intersection does
        name = datetime.fromtimestamp(end - 1e-3, UTC).date().isoformat()
        if not winner and smallest <= alpha:
            winner = "b" if found.estimate > (0 if split else 0.5) else "a"
            decided = name
        bounds = [value if math.isfinite(value) else None for value in (low, high)]
        days.append(
            Day(name, running.units, value=found.estimate, low=bounds[0], high=bounds[1], p_value=smallest)
        )
    return days, winner, decided


def _groups(outcomes: list[_Outcome]) -> dict[str, tuple[int, float]]:
    found = {}
    for arm in ("a", "b"):
        clicked = [one.a + one.b > 0 for one in outcomes if one.arm == arm]
        found[arm] = (len(clicked), float(np.mean(clicked)) if clicked else 0.0)
    return found


def _group_sizes(outcomes: list[_Outcome]) -> list[str]:
    of_b = sum(one.arm == "b" for one in outcomes)
    if binomtest(of_b, len(outcomes)).pvalue >= _MISMATCH:
        return []
    return [
        f"WARNING: {len(outcomes) - of_b:,} units of A and {of_b:,} of B are no even split (sample ratio mismatch): "
        "something loses units of one arm, and the result is not to be trusted"
    ]


def _first_places(pages: list[Impression]) -> list[str]:
    firsts = [next(iter(one.teams.values())) for one in pages if one.teams]
    of_b, count = firsts.count("b"), firsts.count("a") + firsts.count("b")
    if not count or binomtest(of_b, count).pvalue >= _MISMATCH:
        return []
    return [
        f"WARNING: B has the first place of {of_b:,} of {count:,} pages, and a fair coin gives each team half: are "
        "pages lost, or loaded by machines?"
    ]
