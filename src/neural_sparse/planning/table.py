"""Plans as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from neural_sparse.config import Recipe
from neural_sparse.planning.estimate import Estimate, Figure
from neural_sparse.planning.hardware import Hardware
from neural_sparse.planning.rates import Rates
from neural_sparse.planning.shapes import shape_of
from neural_sparse.planning.workload import Workload

COLUMNS = ("stage", "items", "time", "most of it", "memory", "per device", "disk", "USD", "rests on")


def duration(seconds: float) -> str:
    """As people say it."""
    for bound, unit, name in ((90, 1, "s"), (5400, 60, "min"), (172_800, 3600, "h"), (6.3e7, 86_400, "days")):
        if seconds < bound:
            amount = seconds / unit
            return f"{amount:.1f} {name}" if amount < 10 and unit > 1 else f"{amount:,.0f} {name}"
    return f"{seconds / 31_557_600:,.0f} years"


def size(amount: float) -> str:
    """Bytes, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if amount >= 10 or unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:,.1f} PB"


def count(number: float) -> str:
    """A number of items."""
    return f"{number:,.0f}" if number < 1e9 else f"{number:.3g}"


def stage_rows(estimates: Sequence[Estimate], hardware: Hardware) -> list[list[str]]:
    """A row of `COLUMNS` per stage, and one for all."""
    rows = [
        [
            one.stage,
            f"{count(one.items)} {one.of}",
            duration(one.seconds),
            one.limited_by,
            size(one.memory),
            size(one.device_memory) if one.device_memory else "-",
            size(one.disk),
            f"{one.price(hardware):,.2f}",
            one.basis.name,
        ]
        for one in estimates
    ]
    total = sum(one.seconds for one in estimates)
    price = sum(one.price(hardware) for one in estimates)
    return [*rows, ["all", "", duration(total), "", "", "", "", f"{price:,.2f}", ""]]


def limits(estimates: Sequence[Estimate], hardware: Hardware) -> list[str]:
    """What takes longest, and what there is too little of."""
    total = sum(one.seconds for one in estimates)
    longest = max(estimates, key=lambda one: one.seconds)
    found = [f"{longest.stage} takes longest: {longest.seconds / max(total, 1e-9):.0%} of the time"]
    for one in estimates:
        found += [f"{one.stage} does not fit: {lack}" for lack in one.lacks(hardware)]
    disk = sum(one.disk for one in estimates)
    if disk > hardware.disk_gb * 1e9 >= max(one.disk for one in estimates):
        found.append(
            f"the stages together do not fit: disk: {disk / 1e9:,.0f} GB of {hardware.disk_gb:,.0f}; delete what a "
            "stage leaves, such as the teachers' cache after training"
        )
    return found


def short_row(documents: float, estimates: Sequence[Estimate], hardware: Hardware) -> list[str]:
    """A row of the comparison: times of all stages, money, disk, what limits."""
    lacking = [one.stage for one in estimates if one.lacks(hardware)]
    if sum(one.disk for one in estimates) > hardware.disk_gb * 1e9:
        lacking.append("disk")
    longest = max(estimates, key=lambda one: one.seconds).stage
    return [
        count(documents),
        hardware.name,
        *(duration(one.seconds) for one in estimates),
        duration(sum(one.seconds for one in estimates)),
        f"{sum(one.price(hardware) for one in estimates):,.0f}",
        size(sum(one.disk for one in estimates)),
        longest + (f"; does not fit: {', '.join(lacking)}" if lacking else ""),
    ]


def short_columns(estimates: Sequence[Estimate]) -> list[str]:
    stages = [one.stage for one in estimates]
    return ["documents", "hardware", *stages, "all", "USD", "disk", "limits first"]


def figure_rows(recipe: Recipe, work: Workload, rates: Rates, hardware: Hardware) -> list[list[str]]:
    """All numbers that go in: name, value, basis, source."""
    rows: list[list[str]] = []
    for about in (work, rates):
        for field in fields(about):
            value: Any = getattr(about, field.name)
            if isinstance(value, Figure):
                rows.append([field.name, f"{value.value:,.4g}", value.basis.name, value.source])
    rows += [
        [f"{kind} on a device", f"{one.value:,.4g}", one.basis.name, one.source]
        for kind, one in rates.of_devices.items()
    ]
    if hardware.devices and not rates.of_devices:
        rows.append(["utilisation", f"{hardware.utilisation:g}", "assumed", f"of {hardware.tflops:g} TFLOPS"])
    if hardware.step_seconds:
        rows.append(
            ["step overhead", f"{hardware.step_seconds:g} s", "assumed", "launching kernels, waiting"]
        )
    if (count := hardware.all_devices) > 1:
        how = f"training: torchrun --nproc-per-node {hardware.devices}; a process uses one"
        rows.append(["devices", f"{count}", "assumed", how])
        rows.append(["exchange", f"{hardware.exchange_gb_s:g} GB/s", "assumed", "of gradients, per device"])
    if not rates.of_this_machine:
        rows.append(
            ["core speed", f"{hardware.core_speed:g}", "assumed", "against the cores that were measured"]
        )
    rows.append(["price", f"{hardware.price_per_hour:g} USD/h", "assumed", "per node; --price"])
    for name in dict.fromkeys([recipe.init, *(str(one.name) for one in recipe.teachers if one.has_model)]):
        shape = shape_of(name)
        source = "its config.json" if shape.basis.name == "derived" else "as published"
        rows.append([name, f"{shape.parameters / 1e6:,.0f}M parameters", shape.basis.name, source])
    return rows
