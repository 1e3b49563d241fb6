"""One table, for a terminal and as Markdown: cells are texts and never markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rich import box as boxes
from rich.table import Table
from rich.text import Text

ABSENT = "–"
Rows = Sequence[Sequence[object]]
_FIGURE = re.compile(r"[-+–<]? ?\.?\d|[-–]$|not stated$|all$")


def terminal_table(headings: Sequence[str], rows: Rows, title: str = "", frame: bool = True) -> Table:
    """A table for `console.print`; columns of figures stand to the right, long cells are folded.

    Args:
        headings: above the columns; none at all if all are empty.
        rows: cells as texts, or as `Text` with a style.
        frame: with lines around the cells.
    """
    table = Table(
        title=title or None,
        title_justify="left",
        show_header=any(headings),
        box=boxes.HEAVY_HEAD if frame else None,
        pad_edge=frame,
    )
    for place, heading in enumerate(headings):
        cells = [str(row[place]) for row in rows]
        figures = place > 0 and any(cells) and all(_FIGURE.match(cell) for cell in cells if cell)
        table.add_column(Text(heading), justify="right" if figures else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return table


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The same as Markdown, ending with a newline; columns after the first stand to the right."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    ruler = "|" + "|".join([" --- "] + [" ---: "] * (len(headings) - 1)) + "|"
    return "\n".join([line(headings), ruler, *map(line, rows)]) + "\n"
