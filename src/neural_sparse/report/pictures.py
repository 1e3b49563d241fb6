"""Pictures of a comparison, as SVG in the page's own text colour: readable on light and on dark."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from neural_sparse.evaluation.compare import Pair, Report
from neural_sparse.evaluation.significance import Comparison
from neural_sparse.report.comparison import MARKS
from neural_sparse.report.plots import place_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's order, in mid-tones that stand out from white and from near-black.
COLOURS = ("#3b8bc9", "#e0701a", "#1fa37a", "#c978a7", "#d39a16", "#8b7fd6", "#7f8c8d", "#b5534f")
BETTER, WORSE = "#1fa37a", "#d0593c"
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")

# Drawn in these colours, then replaced by what the page says.
_INK, _GRID = "#010203", "#040506"
_PAGE_COLOURS = {
    _INK: "currentColor",
    "#222222": "currentColor",
    _GRID: "var(--line)",
    "#999999": "var(--soft)",
}


def relevance_against_cost(report: Report) -> str:
    """Systems as points: FLOPS to the right, relevance upwards. A system without vectors is a dashed line."""
    figure, axes = _axes(7.2, 4.2)
    means = [report.macro(system) for system in report.systems]
    costs = [values["FLOPS"] for values in means if values.get("FLOPS")]
    if costs and max(costs) > 10 * min(costs):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    labels: list[tuple[str, float | None, float]] = []
    for place, (system, values) in enumerate(zip(report.systems, means, strict=True)):
        colour, height = COLOURS[place % len(COLOURS)], values[report.measure]
        if "FLOPS" in values:
            marker = _MARKERS[place % len(_MARKERS)]
            axes.scatter([values["FLOPS"]], [height], s=58, color=colour, marker=marker, zorder=3)
        else:
            axes.axhline(height, color=colour, linestyle="--", linewidth=1.4, zorder=2)
        labels.append((system.name, values.get("FLOPS"), height))
    axes.margins(x=0.15, y=0.18)
    axes.set_xlabel("FLOPS: expected multiplications per query-document pair")
    axes.set_ylabel(report.measure)
    place_labels(axes, labels)
    return _svg(figure, f"{report.measure} against FLOPS for each system")


def bars(report: Report) -> str:
    """A group of bars per collection (per measure where there is one collection); marks as in the tables."""
    first = report.systems[0].name
    if len(report.collections) > 1:
        groups = [*report.collections, "mean"]
        picked = [(name, report.measure) for name in report.collections] + [("", report.measure)]
    else:
        groups = list(report.measures)
        picked = [(report.collections[0], measure) for measure in report.measures]
    figure, axes = _axes(max(7.2, 0.9 + len(groups) * (0.32 + 0.2 * len(report.systems))), 3.8)
    width = 0.8 / len(report.systems)
    highest = 0.0
    for place, system in enumerate(report.systems):
        offset = (place - (len(report.systems) - 1) / 2) * width
        for group, (collection, measure) in enumerate(picked):
            means = system.evaluations[collection].means if collection else report.macro(system)
            height = means[measure]
            highest = max(highest, height)
            axes.bar(
                group + offset,
                height,
                width * 0.9,
                color=COLOURS[place % len(COLOURS)],
                label=system.name if group == 0 else None,
                zorder=2,
            )
            if place:
                pair = report.pair(first, system.name, measure)
                verdict = pair.verdict(collection) if collection else pair.macro_verdict()
                axes.annotate(
                    MARKS[verdict],
                    (group + offset, height),
                    xytext=(0, 2),
                    textcoords="offset points",
                    ha="center",
                    color=BETTER if verdict > 0 else WORSE,
                    fontsize=9,
                )
    crowded = len(groups) > 6
    axes.set_xticks(range(len(groups)), groups, rotation=30 * crowded, ha="right" if crowded else "center")
    axes.tick_params(axis="x", length=0)
    axes.set_ylim(0, min(1.0, highest * 1.12) or 1)
    axes.set_ylabel(report.measure if len(report.collections) > 1 else "mean over queries")
    axes.legend(
        frameon=False,
        ncols=4,
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        borderaxespad=0.2,
        labelcolor=_INK,
    )
    by = "collection" if len(report.collections) > 1 else "measure"
    return _svg(figure, f"Relevance of each system by {by}")


def intervals(pair: Pair) -> str:
    """Difference with its 95% interval, one line per collection and one for the mean."""
    entries = [(name, one, pair.verdict(name)) for name, one in pair.collections.items()]
    if len(entries) > 1:
        entries.append(("mean", pair.macro, pair.macro_verdict()))
    described = f"Difference in {pair.measure} between {pair.b} and {pair.a} with 95% intervals"
    return interval_lines(entries, pair.measure, described)


def interval_lines(entries: Sequence[tuple[str, Comparison, int]], measure: str, described: str) -> str:
    """Differences with their 95% intervals, one line each.

    Args:
        entries: label, comparison, and 1 where it is significantly better, -1 where worse, else 0.
    """
    figure, axes = _axes(7.2, 0.9 + 0.34 * len(entries))
    for row, (_, one, verdict) in enumerate(entries):
        colour = {1: BETTER, -1: WORSE, 0: COLOURS[6]}[verdict]
        axes.plot(
            [one.low, one.high], [row, row], color=colour, linewidth=2.4, solid_capstyle="butt", zorder=2
        )
        axes.plot([one.difference], [row], "o", color=colour, markersize=6, zorder=3)
    axes.axvline(0, color=_INK, linewidth=0.8)
    axes.set_yticks(range(len(entries)), [name for name, _, _ in entries])
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.grid(False, axis="y")
    axes.grid(True, axis="x", color=_GRID, linewidth=0.7)
    axes.set_xlabel(f"difference in {measure}, with its 95% interval")
    return _svg(figure, described)


def query_differences(report: Report, a: str, b: str) -> str:
    """Every query's difference, largest gain first: how many win, tie and lose, and by how much."""
    systems = {system.name: system for system in report.systems}
    differences = []
    for name in report.collections:
        ours = systems[a].evaluations[name].per_query[report.measure]
        theirs = systems[b].evaluations[name].per_query[report.measure]
        differences += [theirs[query_id] - value for query_id, value in ours.items() if query_id in theirs]
    values = np.sort(np.array(differences))[::-1]
    figure, axes = _axes(7.2, 2.8)
    edges = np.arange(len(values) + 1)
    for keep, colour in ((values > 0, BETTER), (values < 0, WORSE)):
        axes.stairs(np.where(keep, values, 0), edges, fill=True, color=colour, zorder=2)
    wins, losses = int((values > 0).sum()), int((values < 0).sum())
    ties = len(values) - wins - losses
    axes.set_title(f"{wins:,} won", loc="left", color=BETTER, fontsize=11)
    axes.set_title(f"{ties:,} tied", loc="center", color=_INK, fontsize=11)
    axes.set_title(f"{losses:,} lost", loc="right", color=WORSE, fontsize=11)
    axes.axhline(0, color=_INK, linewidth=0.8, zorder=3)
    axes.set_xlim(0, max(len(values), 1))
    axes.set_xlabel(f"{len(values):,} queries, from the largest gain to the largest loss")
    axes.set_ylabel(f"difference in {report.measure}")
    return _svg(figure, f"{report.measure} of {b} minus {a} for every query")


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_axisbelow(True)
    axes.grid(True, axis="y", color=_GRID, linewidth=0.7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_GRID)
    axes.tick_params(colors=_INK, which="both", labelsize=10)
    axes.xaxis.label.set_color(_INK)
    axes.yaxis.label.set_color(_INK)
    return figure, axes


def _svg(figure: Figure, description: str) -> str:
    """The figure as an <svg> element that scales with the page, its neutral colours left to the page."""
    out = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": description, "font.family": "sans-serif"}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    for drawn, wanted in _PAGE_COLOURS.items():
        text = text.replace(drawn, wanted)
    width, height = (72 * side for side in figure.get_size_inches())
    described = html.escape(description, quote=True)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
        f'aria-label="{described}" viewBox="0 0 {width:g} {height:g}" width="100%" '
        f'style="max-width:{1.45 * width:.0f}px">'
    )
    # Everything after the metadata; group names, the same in every figure, would be repeated ids on a page.
    body = re.sub(r'<g id="[^"]*"', "<g", text[text.index("</metadata>") + len("</metadata>") :])
    return head + body.strip()
