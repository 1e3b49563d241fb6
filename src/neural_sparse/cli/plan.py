"""`neural-sparse plan`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer


def plan(
    recipe: str = typer.Argument(help="A recipe file, or the name of a shipped one (`recipes` lists them)."),
    overrides: list[str] | None = typer.Argument(
        None, metavar="[KEY=VALUE]...", help="Keys of the recipe to change."
    ),
    documents: list[float] | None = typer.Option(
        None, help="In the corpus, such as 8.84e6; repeat it to compare.", show_default="counted in the data"
    ),
    queries: float | None = typer.Option(
        None, help="In the training data.", show_default="counted in the data, or at most MS MARCO's"
    ),
    hardware: list[str] | None = typer.Option(
        None,
        help="gb10, h100x8, cluster32, this, or a YAML file; repeat it to compare.",
        show_default="this",
    ),
    terms: float | None = typer.Option(
        None, min=1, help="Non-zero entries per document of the finished model."
    ),
    price: float | None = typer.Option(None, min=0, help="USD per node and hour."),
    measure: bool = typer.Option(
        False, "--measure", help="Time a sample of each stage here, with the recipe's models (a minute)."
    ),
    markdown: bool = typer.Option(False, help="Print tables as Markdown."),
) -> None:
    """Time, memory, disk and money of IDF, mining, teaching, training, encoding and indexing, before they start.

    Example: neural-sparse plan finetune init=distilbert/distilbert-base-uncased --documents 8.84e6 --hardware h100x8
    """
    from dataclasses import replace

    from neural_sparse.config import read_recipe
    from neural_sparse.errors import InputError
    from neural_sparse.io.terminal import console as make_console
    from neural_sparse.planning import table
    from neural_sparse.planning.hardware import hardware_of
    from neural_sparse.planning.rates import DEFAULT
    from neural_sparse.planning.stages import plan as estimate
    from neural_sparse.planning.workload import workload_of

    settings = read_recipe(recipe, overrides or [])
    if any(number < 1 for number in (*(documents or ()), queries or 1)):
        raise InputError("--documents and --queries are numbers of at least 1")
    machines = [hardware_of(name) for name in hardware or ["this"]]
    if price is not None:
        machines = [replace(machine, price_per_hour=price) for machine in machines]
    work = workload_of(settings, max(documents) if documents else None, queries, terms)
    console = make_console(150)
    here = DEFAULT
    if measure:
        from neural_sparse.planning.measure import measure as measure_here

        here, measured = measure_here(
            settings, DEFAULT, work, lambda what: console.print(f"measuring: {what}")
        )
        work = work if terms is not None else measured
    both = [
        (number, machine, here if machine.name == "this" else DEFAULT)
        for number in documents or [work.documents.value]
        for machine in machines
    ]
    plans = [
        estimate(settings, work.of(number) if documents else work, machine, rate)
        for number, machine, rate in both
    ]
    if len(plans) == 1:
        _, machine, rate = both[0]
        stages, found = table.stage_rows(plans[0], machine), table.limits(plans[0], machine)
        _show(
            console,
            markdown,
            title=f"on {machine.nodes} x {machine.name}",
            columns=table.COLUMNS,
            rows=stages,
        )
        for line in found:
            console.print(line, style=None if markdown else "bold")
        console.print(f"{machine.name}: {machine.source}")
        figures = table.figure_rows(settings, work, rate, machine)
        _show(
            console,
            markdown,
            title="what it rests on",
            columns=("figure", "value", "basis", "source"),
            rows=figures,
        )
        return
    rows = [
        table.short_row(number, one, machine) for (number, machine, _), one in zip(both, plans, strict=True)
    ]
    _show(console, markdown, title="time of each stage", columns=table.short_columns(plans[0]), rows=rows)


def _show(
    console: Any, markdown: bool, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    from neural_sparse.report.tables import markdown_table, terminal_table

    if markdown:
        print(markdown_table(columns, rows))
        return
    console.print(terminal_table(columns, rows, title))
