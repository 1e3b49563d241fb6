"""What one stage takes, as numbers that say what they rest on."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from neural_sparse.planning.hardware import Hardware


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


@dataclass(frozen=True)
class Estimate:
    """
    Attributes:
        stage: as the command that does it.
        items: how many, of what `of` says.
        parts: seconds by what they are spent on.
        memory: bytes of main memory per node.
        device_memory: bytes per device; 0 where cores compute.
        disk: bytes, at the peak.
        basis: of the weakest figure in it.
    """

    stage: str
    items: float
    of: str
    parts: dict[str, float] = field(default_factory=dict)
    memory: float = 0.0
    device_memory: float = 0.0
    disk: float = 0.0
    basis: Basis = Basis.derived

    @property
    def seconds(self) -> float:
        return sum(self.parts.values())

    @property
    def limited_by(self) -> str:
        """What most of the time is spent on."""
        return max(self.parts, key=lambda part: self.parts[part]) if self.seconds else "-"

    def price(self, hardware: Hardware) -> float:
        """USD: all nodes, idle ones too, as long as the stage lasts."""
        return self.seconds / 3600 * hardware.price_per_hour * hardware.nodes

    def lacks(self, hardware: Hardware) -> list[str]:
        """What the hardware has too little of."""
        shared = hardware.devices and not hardware.device_memory_gb
        needs = [
            ("memory", self.memory + (self.device_memory if shared else 0), hardware.memory_gb),
            ("device memory", self.device_memory, hardware.device_memory_gb),
            ("disk", self.disk, hardware.disk_gb),
        ]
        return [
            f"{what}: {needed / 1e9:,.0f} GB of {there:,.0f}"
            for what, needed, there in needs
            if there and needed > there * 1e9
        ]
