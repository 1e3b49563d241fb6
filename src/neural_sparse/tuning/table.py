"""The table of a sweep, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.table import Table
from rich.text import Text

from neural_sparse.training.dev import MEASURE
from neural_sparse.tuning.result import FINISHED, SweepResult

ABSENT = "–"


def sweep_table(result: SweepResult) -> Table:
    """Runs, means over seeds, and what they are compared with; "front" marks what no other run beats."""
    table = Table(title=f"{MEASURE} on {result.collection}", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column(", ".join(result.keys))
    for heading in (MEASURE, "FLOPS", "terms/doc", "minutes"):
        table.add_column(heading, justify="right")
    table.add_column("")
    front = {point.name for point in result.front}
    chosen = result.chosen.name if result.chosen else None

    def mark(name: str) -> str:
        return "front, recommended" if name == chosen else "front" * (name in front)

    averaged = any(len(runs) > 1 for runs in result.groups.values())
    for one in result.outcomes:
        run = one.run
        note = one.status if one.status != FINISHED else "" if averaged else mark(run.group)
        minutes = ABSENT if one.seconds is None else f"{one.seconds / 60:.1f}"
        table.add_row(Text(run.label), *_figures(one.figures), minutes, note)
    if averaged:
        table.add_section()
        for name, runs in result.groups.items():
            means = {key: sum(one.figures[key] for one in runs) / len(runs) for key in runs[0].figures}
            table.add_row(Text(f"{name}, mean of {len(runs)}"), *_figures(means), "", mark(name))
    table.add_section()
    table.add_row("BM25", *_figures(result.bm25), "", "")
    for other in result.references:
        cost = {} if other.cost is None else {"FLOPS": other.cost}
        table.add_row(Text(other.name), *_figures({MEASURE: other.relevance, **cost}), "", "")
    return table


def _figures(figures: Mapping[str, float]) -> tuple[str, str, str]:
    def show(key: str, decimals: int) -> str:
        return f"{figures[key]:,.{decimals}f}" if key in figures else ABSENT

    return show(MEASURE, 3), show("FLOPS", 2), show("doc_terms", 0)
