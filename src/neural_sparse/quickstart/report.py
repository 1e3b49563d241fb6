"""The quickstart's table of systems: for the terminal, as Markdown and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich import box
from rich.table import Table
from rich.text import Text

ABSENT = "–"


@dataclass(frozen=True)
class Column:
    """One figure of a system.

    Attributes:
        key: in a row.
        heading: above the column.
        decimals: shown.
        best: which value is set in bold; None where values of different systems do not compare.
        unit: a value is divided by this before it is shown.
    """

    key: str
    heading: str
    decimals: int
    best: Literal["max", "min"] | None
    unit: float = 1.0

    def show(self, value: float | None) -> str:
        return ABSENT if value is None else f"{value / self.unit:,.{self.decimals}f}"


COLUMNS = (
    Column("nDCG@10", "nDCG@10", 3, "max"),
    Column("R@1000", "R@1000", 3, "max"),
    Column("RR@10", "RR@10", 3, "max"),
    Column("FLOPS", "FLOPS", 2, "min"),
    # Weights of BM25 and of learned vectors are on scales of their own.
    Column("L1", "mean L1", 1, None),
    Column("doc_terms", "terms/doc", 1, "min"),
    Column("index_bytes", "index MB", 1, "min", unit=1e6),
    Column("latency_p50_ms", "ms", 2, "min"),
)
LEAD = "lead"  # key of a row: a `Lead` of the student over that system


def results_table(rows: Sequence[dict[str, Any]], title: str | None = None) -> Table:
    """A table for the terminal, the best of each column in bold.

    Args:
        rows: one dict per system: "system" (its name) and the keys of `COLUMNS`, as `Evaluation.summary()`
            has them; a figure that is absent, None or not finite is shown as a dash, a column without figures
            not at all. "lead" is a `Lead` of the student over that system, in bold where it is significant.
    """
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("system")
    for heading in _headings(rows):
        table.add_column(heading, justify="right")
    for name, cells in _cells(rows):
        table.add_row(Text(name), *(Text(text, style="bold" if best else "") for text, best in cells))
    return table


def results_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The same table in Markdown, ending with a newline."""
    headings = _headings(rows)
    lines = ["| " + " | ".join(["system", *headings]) + " |", "|---|" + "---:|" * len(headings)]
    for name, cells in _cells(rows):
        shown = [f"**{text}**" if best else text for text, best in cells]
        lines.append("| " + " | ".join([_escape(name), *shown]) + " |")
    return "\n".join(lines) + "\n"


def results_dict(rows: Sequence[dict[str, Any]], **about: Any) -> dict[str, Any]:
    """The rows in full precision, absent figures as None, and whatever else is worth keeping (`about`)."""
    systems = [
        {
            "system": str(row["system"]),
            **{column.key: _value(row, column) for column in COLUMNS},
            LEAD: row[LEAD].to_dict() if row.get(LEAD) is not None else None,
        }
        for row in rows
    ]
    return {**about, "systems": systems}


def _columns(rows: Sequence[dict[str, Any]]) -> list[Column]:
    return [column for column in COLUMNS if any(_value(row, column) is not None for row in rows)]


def _headings(rows: Sequence[dict[str, Any]]) -> list[str]:
    headings = [column.heading for column in _columns(rows)]
    return [*headings, "lead"] if any(row.get(LEAD) for row in rows) else headings


def _cells(rows: Sequence[dict[str, Any]]) -> list[tuple[str, list[tuple[str, bool]]]]:
    """Per system its name and, per column, the text and whether it is in bold: the column's best as shown."""
    columns = _columns(rows)
    best = [_best(rows, column) for column in columns]
    with_leads = len(_headings(rows)) > len(columns)
    found = []
    for row in rows:
        cells = [
            (text, text == top)
            for column, top in zip(columns, best, strict=True)
            for text in (column.show(_value(row, column)),)
        ]
        if with_leads:
            lead = row.get(LEAD)
            cells.append((ABSENT, False) if lead is None else (str(lead), lead.significant))
        found.append((str(row["system"]), cells))
    return found


def _best(rows: Sequence[dict[str, Any]], column: Column) -> str | None:
    """The best of a column as shown, so that what looks equal is equally bold; None among fewer than two."""
    values = [value for row in rows if (value := _value(row, column)) is not None]
    if column.best is None or len(values) < 2:
        return None
    return column.show(max(values) if column.best == "max" else min(values))


def _value(row: dict[str, Any], column: Column) -> float | None:
    value = row.get(column.key)
    return float(value) if value is not None and math.isfinite(value) else None


def _escape(text: str) -> str:
    return text.replace("|", "\\|")
