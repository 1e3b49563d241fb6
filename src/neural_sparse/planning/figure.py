"""A number, and what it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Basis(IntEnum):
    """How a number is known; the greater, the less is it worth."""

    given = 0  # by the user
    measured = 1
    derived = 2  # by a formula, from measured numbers or from what is exact anyhow
    assumed = 3


@dataclass(frozen=True)
class Figure:
    """
    Attributes:
        value: in the unit its name says.
        source: command, page or reason behind it.
    """

    value: float
    basis: Basis
    source: str


def given(value: float) -> Figure:
    return Figure(value, Basis.given, "as given")


def measured(value: float, source: str) -> Figure:
    return Figure(value, Basis.measured, source)


def derived(value: float, source: str) -> Figure:
    return Figure(value, Basis.derived, source)


def assumed(value: float, source: str) -> Figure:
    return Figure(value, Basis.assumed, source)


def weakest(*figures: Figure) -> Basis:
    """The basis of what is computed from `figures`: derived at best."""
    return max((Basis.derived, *(figure.basis for figure in figures)))
