"""A load test as a table, a picture and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from neural_sparse.evaluation.load import Cell, Load
from neural_sparse.evaluation.tail import Quantile
from neural_sparse.io.files import replacing
from neural_sparse.report.tables import ABSENT, Rows

LEGEND = (
    "Milliseconds from the moment a request was due to its answer, 95% intervals in brackets (blocks of one second; ≥: "
    "the sample has no upper bound). took: what the engine says it worked. A failed request counts as never answered. "
    "busy: connections in use. lag: p99 of the generator's own delay."
)
_COLOURS = ("#0b6e99", "#c0562b", "#4c8a3b", "#7a5195")


def load_table(cells: Sequence[Cell]) -> tuple[list[str], Rows]:
    """Headings and rows: every system at every rate and number of connections."""
    names = [name for cell in cells for one in cell.loads for name in (one.latency or {})]
    levels = list(dict.fromkeys(names)) or ["p50", "p90", "p99", "p99.9"]
    headings = ["system", "rate", "clients", "achieved", *levels, "took p50", "took p99"]
    headings += ["failed", "busy", "lag", ""]
    rows = [
        [
            one.system,
            f"{one.asked:g}",
            str(one.clients),
            f"{one.achieved:.1f}",
            *(_shown((one.latency or {}).get(level)) for level in levels),
            *(_value((one.took or {}).get(level)) for level in ("p50", "p99")),
            _failed(one),
            f"{100 * one.busy:.0f}%",
            f"{one.lag:.1f}",
            "saturated" if one.saturated else ("no figures" if one.remark else ""),
        ]
        for cell in cells
        for one in cell.loads
    ]
    return headings, rows


def ratio_table(cells: Sequence[Cell]) -> tuple[list[str], Rows]:
    """Headings and rows: latency of the first system over that of each other one, 95% intervals in brackets."""
    found = [(cell, name, ratios) for cell in cells for name, ratios in cell.ratios.items()]
    levels = list(dict.fromkeys(level for _, _, ratios in found for level in ratios))
    rows = [
        [
            f"{cell.loads[0].system} / {name}",
            f"{cell.rate:g}",
            str(cell.clients),
            *(_shown(ratios.get(level), digits=2) for level in levels),
        ]
        for cell, name, ratios in found
    ]
    return ["ratio", "rate", "clients", *levels], rows


def remarks(cells: Sequence[Cell]) -> list[str]:
    """Why cells have no figures, each once per system."""
    return [
        f"{one.system}, {one.asked:g}/s, {one.clients} clients: {one.remark}"
        for cell in cells
        for one in cell.loads
        if one.remark
    ]


def plot_load(cells: Sequence[Cell], path: str | Path, level: str = "p99") -> None:
    """Latency against the rate, one panel per number of connections, intervals as bars; a PNG."""
    counts = sorted({cell.clients for cell in cells})
    systems = list(dict.fromkeys(one.system for cell in cells for one in cell.loads))
    figure = Figure(figsize=(max(5.5, 3.0 * len(counts) + 1.2), 3.8), layout="constrained")
    rates = sorted({cell.rate for cell in cells})
    panels = figure.subplots(1, len(counts), sharey=True, squeeze=False)[0]
    for axes, count in zip(panels, counts, strict=True):
        for number, (system, colour) in enumerate(zip(systems, _COLOURS * len(systems), strict=False)):
            aside = 0.12 * (number - (len(systems) - 1) / 2)
            loads = [
                one
                for cell in sorted(cells, key=lambda cell: cell.rate)
                if cell.clients == count
                for one in cell.loads
                if one.system == system and one.latency
            ]
            for shown, style in ((level, "-"), ("p50", ":")):
                points = [(one.asked, one.latency[shown]) for one in loads if one.latency]
                drawn = [(rate, found) for rate, found in points if found.value is not None]
                values = [found.value or 0.0 for _, found in drawn]
                spread = [
                    [value - (found.low or value) for value, (_, found) in zip(values, drawn, strict=True)],
                    [(found.high or value) - value for value, (_, found) in zip(values, drawn, strict=True)],
                ]
                axes.errorbar(
                    [rates.index(rate) + aside for rate, _ in drawn],
                    values,
                    spread,
                    color=colour,
                    linestyle=style,
                    marker="o",
                    markersize=4,
                    capsize=3,
                    linewidth=1.4,
                    label=f"{system} {shown}",
                )
            for one in loads:
                found = (one.latency or {})[level]
                if one.saturated and found.value is not None:
                    axes.annotate(
                        "saturated", (rates.index(one.asked) + aside, found.value), xytext=(0, 6),
                        textcoords="offset points", ha="center", fontsize=7, color=colour,
                    )  # fmt: skip
        axes.set_title(f"{count} client{'s' if count > 1 else ''}", fontsize=10)
        axes.set_xlabel("requests per second")
        axes.set_yscale("log")
        axes.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
        axes.set_xlim(-0.5, len(rates) - 0.5)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#dddddd", linewidth=0.6)
    panels[0].set_ylabel("ms from due to answered")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def _shown(found: Quantile | None, digits: int = 1) -> str:
    if found is None:
        return ABSENT
    if found.value is None:
        return "failed"
    if found.low is None and found.high is None:
        return f"{found.value:.{digits}f}"
    if found.high is None:
        return f"{found.value:.{digits}f} [≥ {found.low:.{digits}f}]"
    low = ABSENT if found.low is None else f"{found.low:.{digits}f}"
    return f"{found.value:.{digits}f} [{low}, {found.high:.{digits}f}]"


def _value(found: Quantile | None) -> str:
    return ABSENT if found is None or found.value is None else f"{found.value:.0f}"


def _failed(one: Load) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in one.errors.items()) or "0"
