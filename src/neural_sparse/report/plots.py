"""Pictures of training runs: losses and sparsity, and what a result costs against what it finds, labels kept apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox

from neural_sparse.errors import InputError
from neural_sparse.io.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation


# (offset in points from the point, horizontal and vertical alignment), best first.
_Place = tuple[float, float, str, str]
_NEAR: tuple[_Place, ...] = (
    *(
        (8, 0, "left", "center"),
        (-8, 0, "right", "center"),
        (0, 7, "center", "bottom"),
        (0, -7, "center", "top"),
    ),
    *((6, 6, "left", "bottom"), (6, -6, "left", "top"), (-6, 6, "right", "bottom"), (-6, -6, "right", "top")),
)
_FAR: tuple[_Place, ...] = tuple(  # to the sides, so that the lines to the points fan out and cross no text
    (side * 26, step * 13, "left" if side > 0 else "right", "center")
    for step in (0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, -6, 7, -7)
    for side in (1, -1)
)
_ON_LINE: tuple[_Place, ...] = ((-4, 3, "right", "bottom"), (-4, -3, "right", "top"))
_DOT = 5.0  # half the width of a marker, in points


def place_labels(axes: Axes, labels: Sequence[tuple[str, float | None, float]]) -> None:
    """Write each (text, x, y) beside its point, or on the level line at y where x is None.

    Each label takes the first of a list of places that covers least; one far from its point gets a thin line
    to it. Scales, limits and legend have to be set before.
    """
    figure = axes.figure
    figure.draw_without_rendering()  # type: ignore[union-attr]  # settles the layout, so that extents are those of the saved picture
    pixel = figure.dpi / 72
    frame = axes.get_window_extent()
    points = [axes.transData.transform((x, y)) for _, x, y in labels if x is not None]
    dots = [Bbox.from_extents(x - r, y - r, x + r, y + r) for x, y in points for r in (_DOT * pixel,)]
    heights = [axes.transData.transform((1, y))[1] for _, x, y in labels if x is None]
    dots += [Bbox.from_extents(frame.x0, height, frame.x1, height + pixel) for height in heights]
    taken = []
    if legend := axes.get_legend():
        taken.append(legend.get_window_extent())
    for text, x, y in sorted(labels, key=lambda label: (label[1] is not None, -label[2])):
        tries = []
        for rank, place in enumerate(_ON_LINE if x is None else _NEAR + _FAR):
            # Measured without its line, which would count as covering the point it leads to.
            note = _annotate(axes, text, x=x, y=y, place=place, far=False)
            box = note.get_window_extent().padded(pixel)
            note.remove()
            covered = 4 * sum(_overlap(box, other) for other in (*taken, *dots))
            outside = box.width * box.height - _overlap(box, frame)
            tries.append((covered + outside, rank, place, box))
        _, rank, place, box = min(tries, key=lambda attempt: attempt[:2])
        _annotate(axes, text, x=x, y=y, place=place, far=rank >= len(_NEAR))
        taken.append(box)


def _annotate(axes: Axes, text: str, x: float | None, y: float, place: _Place, far: bool) -> Annotation:
    dx, dy, horizontal, vertical = place
    edge = (0.0 if dx > 0 else 1.0, 0.5)
    line = {
        "arrowstyle": "-",
        "color": "#999999",
        "linewidth": 0.6,
        "shrinkA": 1,
        "shrinkB": 4,
        "relpos": edge,
    }
    return axes.annotate(
        text,
        (1.0 if x is None else x, y),
        xycoords=axes.get_yaxis_transform() if x is None else "data",
        xytext=(dx, dy),
        textcoords="offset points",
        ha=horizontal,
        va=vertical,
        fontsize=9,
        color="#222222",
        arrowprops=line if far else None,
        zorder=4,
    )


def _overlap(one: Bbox, other: Bbox) -> float:
    """Area two boxes share, in square pixels."""
    shared = Bbox.intersection(one, other)
    return shared.width * shared.height if shared is not None else 0.0


DPI = 150
# Okabe and Ito's colours, which the colour-blind can tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_GREY = "#666666"
_LOSSES = {"loss": "total", "ranking": "ranking", "flops": "FLOPS", "terms": "terms"}
_SHARES = {
    "saturation": "saturation",
    "dead_dimensions": "dead dimensions",
    "teacher_agreement": "agreement with the teachers",
}
_SMOOTH_FROM = 60  # points; fewer are drawn as they are


def plot_losses(
    history: Sequence[dict[str, Any]], path: str | Path, dev: Sequence[dict[str, Any]] = ()
) -> None:
    """Draw loss components over steps and, below them, sparsity, shares, nDCG@10 on the dev collection, gradients.

    Args:
        history: rows of "step" and any of "loss", "ranking", "flops", "terms", "nonzero_terms", "saturation",
            "dead_dimensions", "teacher_agreement", "grad_norm", "learning_rate"; values that are absent or not
            finite are left out, and so is a panel without values.
        path: of the PNG to write.
        dev: rows of "step" and "ndcg10".

    Raises:
        InputError: no row has a step and a loss, or the file cannot be written.
    """
    losses = {label: _series(history, key) for key, label in _LOSSES.items()}
    losses = {label: points for label, points in losses.items() if points[0]}
    if not losses:
        raise InputError(f"{path}: the history has no loss to draw")
    shares = {label: _series(history, key) for key, label in _SHARES.items()}
    shares = {label: points for label, points in shares.items() if points[0]}
    single = {
        "non-zero terms\nper document": _series(history, "nonzero_terms"),
        "share": next(iter(shares.values()), ([], [])),
        "dev nDCG@10": _series(dev, "ndcg10"),
        "gradient\nnorm": _series(history, "grad_norm"),
        "learning rate": _series(history, "learning_rate"),
    }
    single = {label: points for label, points in single.items() if points[0]}

    heights = [3.0] + [1.0 if label in ("learning rate", "gradient\nnorm") else 1.6 for label in single]
    figure = Figure(figsize=(8, 1.2 + sum(heights)), layout="constrained")
    panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    # Medians: a penalty that ramps up from almost nothing is no reason to squeeze the rest.
    typical = [median(series) for _, series in losses.values()]
    if max(typical) > 10 * min(typical) > 0:
        panels[0].set_yscale("log")
    for (label, (steps, series)), colour in zip(losses.items(), _COLOURS, strict=False):
        _line(
            panels[0],
            steps,
            values=series,
            colour=colour,
            label=label,
            width=2.6 if label == "total" else 1.5,
        )
    panels[0].set_ylabel("loss")
    _legend_above(panels[0], len(losses))
    for panel, (label, (steps, series)) in zip(panels[1:], single.items(), strict=True):
        panel.set_ylabel(label)
        if label == "learning rate":  # follows a schedule: nothing to smooth
            panel.plot(steps, series, color=_GREY, linewidth=1.5)
        elif label == "dev nDCG@10":
            panel.plot(steps, series, color=_COLOURS[4], linewidth=1.5, marker="o", markersize=4)
        elif label == "share":
            for (name, points), colour in zip(shares.items(), _COLOURS, strict=False):
                _line(panel, *points, colour, name)
            _legend_above(panel, len(shares))
        else:
            _line(panel, steps, series, _COLOURS[3])
        if label != "dev nDCG@10":  # its differences are small
            panel.set_ylim(bottom=0)
    for panel in panels:
        _tidy(panel)
    panels[-1].set_xlabel("optimiser step")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    figure.align_ylabels(panels)
    _save(figure, path)


def plot_relevance_against_cost(
    points: Sequence[dict[str, Any]],
    path: str | Path,
    cost_label: str = "FLOPS per query-document pair",
    relevance_label: str = "nDCG@10",
    line: Sequence[tuple[float, float]] = (),
) -> None:
    """Draw systems as labelled points, cost to the right and relevance upwards.

    Args:
        points: dicts of "name", "relevance", "kind" (points of a kind share colour and marker, and the legend
            names it) and "cost"; a cost of None, for a system that has none, draws a dashed level line.
        path: of the PNG to write.
        line: (cost, relevance) of points to join, for example those of the Pareto front.

    Raises:
        InputError: no point, or the file cannot be written.
    """
    if not points:
        raise InputError(f"{path}: no points to draw")
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    placed = [point for point in points if point.get("cost") is not None]
    costs = [point["cost"] for point in placed]
    if costs and min(costs) > 0 and max(costs) > 10 * min(costs):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    kinds = list(dict.fromkeys(point["kind"] for point in points))
    for number, kind in enumerate(kinds):
        colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
        of_kind = [point for point in placed if point["kind"] == kind]
        axes.scatter(
            [point["cost"] for point in of_kind],
            [point["relevance"] for point in of_kind],
            s=48, color=colour, marker=marker, label=kind if of_kind else None, zorder=3,
        )  # fmt: skip
        for point in points:
            if point["kind"] == kind and point.get("cost") is None:
                axes.axhline(point["relevance"], color=colour, linestyle="--", linewidth=1, zorder=1)
    if line:
        axes.plot(*zip(*line, strict=True), color="#aaaaaa", linewidth=1, zorder=2)
    axes.margins(x=0.12, y=0.14)
    axes.set_xlabel(cost_label)
    axes.set_ylabel(relevance_label)
    if not placed:
        axes.set_xticks([])
    _tidy(axes)
    if placed and len(kinds) > 1:
        axes.legend(
            frameon=False, ncols=len(kinds), loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2
        )
    place_labels(axes, [(point["name"], point.get("cost"), point["relevance"]) for point in points])
    _save(figure, path)


def _series(history: Sequence[dict[str, Any]], key: str) -> tuple[list[float], list[float]]:
    """Steps and finite values of `key`, by step."""
    rows = sorted(
        (float(row["step"]), float(row[key]))
        for row in history
        if row.get("step") is not None and row.get(key) is not None and math.isfinite(row[key])
    )
    return [step for step, _ in rows], [value for _, value in rows]


def _line(
    axes: Axes,
    steps: list[float],
    values: list[float],
    colour: str,
    label: str | None = None,
    width: float = 1.5,
) -> None:
    """A line; a long one is drawn pale with its centred running mean on top."""
    if len(values) < _SMOOTH_FROM:
        marker = "o" if len(values) == 1 else None
        axes.plot(steps, values, color=colour, linewidth=width, label=label, marker=marker)
        return
    half = max(len(values) // 60, 2)
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    mean = []
    for at in range(len(values)):
        reach = min(half, at, len(values) - 1 - at)  # symmetric, so that the ends are not bent
        mean.append((sums[at + reach + 1] - sums[at - reach]) / (2 * reach + 1))
    axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.3)
    axes.plot(steps, mean, color=colour, linewidth=width, label=label)


def _legend_above(axes: Axes, columns: int) -> None:
    axes.legend(frameon=False, ncols=columns, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2)


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def _save(figure: Figure, path: str | Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)
