"""One line of the doctor's report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        check: what was looked at.
        found: the figure, in words.
        verdict: a "warning" costs relevance, speed or time; with a "problem" something does not work.
        advice: what to do, with the key to change; also where all is well, if there is a choice to know of.
    """

    check: str
    found: str
    verdict: Verdict
    advice: str = ""


def ok(check: str, found: str, advice: str = "") -> Finding:
    return Finding(check, found, "ok", advice)


def warning(check: str, found: str, advice: str) -> Finding:
    return Finding(check, found, "warning", advice)


def problem(check: str, found: str, advice: str) -> Finding:
    return Finding(check, found, "problem", advice)
