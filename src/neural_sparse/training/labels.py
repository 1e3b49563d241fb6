"""Labels of points in a picture, placed so that they cover neither each other nor the points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.transforms import Bbox

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
            note = _annotate(axes, text, x, y, place, far=False)
            box = note.get_window_extent().padded(pixel)
            note.remove()
            covered = 4 * sum(_overlap(box, other) for other in (*taken, *dots))
            outside = box.width * box.height - _overlap(box, frame)
            tries.append((covered + outside, rank, place, box))
        _, rank, place, box = min(tries, key=lambda attempt: attempt[:2])
        _annotate(axes, text, x, y, place, far=rank >= len(_NEAR))
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
