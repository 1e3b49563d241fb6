"""`neural-sparse compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from neural_sparse.evaluation.compare import System


def compare(
    runs: list[Path] = typer.Argument(
        ...,
        help="Two or more: folders written by `evaluate --output`, or TREC run files (with --collection). "
        "The first is what the others are measured against.",
        show_default=False,
    ),
    output: Path | None = typer.Option(
        None,
        "--output",
        "-o",
        help="Folder for report.html (one self-contained page), report.md and report.json.",
    ),
    name: list[str] = typer.Option([], help="Name of a run in the report, in the same order. Repeatable."),
    measure: list[str] = typer.Option(
        [],
        "--measure",
        "-m",
        help="Measures to compare by; the first leads.",
        show_default="all the runs have",
    ),
    collection: str | None = typer.Option(
        None, "--collection", "-c", help="Collection that run files belong to (as in `evaluate`)."
    ),
    split: str = typer.Option("test", help="Which qrels/SPLIT.tsv to judge run files by."),
    shown: int = typer.Option(
        5, min=0, help="How many of the largest gains and losses to show for each pair."
    ),
    seed: int = typer.Option(0, help="Seed of the randomisation test and the bootstrap."),
) -> None:
    """Set evaluated systems against each other: relevance, cost, significance, queries that differ most.

    Significance is a paired randomisation test with Holm's correction over the collections; intervals are
    bootstrap intervals of the mean difference.

    Examples:

      neural-sparse compare results/bm25 results/mine -o results/comparison

      neural-sparse compare a.trec b.trec -c scifact
    """
    from neural_sparse.errors import InputError
    from neural_sparse.evaluation.compare import compare_systems
    from neural_sparse.io.files import check_output
    from neural_sparse.io.terminal import console as make_console
    from neural_sparse.report.comparison import print_report
    from neural_sparse.report.html_page import write_report

    if len(runs) < 2:
        raise InputError("give at least two runs to compare")
    if name and len(name) != len(runs):
        raise InputError(f"{len(runs)} runs but {len(name)} names; give a --name for each or none")
    if output is not None:
        check_output(output, folder=True)
    systems = _systems(runs, name, collection=collection, split=split, measures=measure)
    report = compare_systems(systems, measure or None, shown, seed)
    console = make_console(160)
    print_report(report, console)
    if output is not None:
        write_report(report, output, title=" / ".join(system.name for system in systems))
        console.print(f"written to {output} (report.html is the whole report)")


def _systems(
    runs: list[Path], names: list[str], collection: str | None, split: str, measures: list[str]
) -> list[System]:
    from neural_sparse.corpora.names import load_collection
    from neural_sparse.errors import InputError
    from neural_sparse.evaluation import DEFAULT_MEASURES, evaluate_external_run, read_run
    from neural_sparse.evaluation.compare import System

    loaded = None
    systems = []
    for place, path in enumerate(runs):
        name = names[place] if names else None
        if path.is_dir():
            systems.append(System.load(path, name))
            continue
        if collection is None and path.is_file():
            raise InputError(f"{path} is a run file: say which --collection it belongs to")
        found = read_run(path)
        loaded = loaded or load_collection(str(collection), split)
        scored = evaluate_external_run(found, loaded, measures or DEFAULT_MEASURES, name=name or path.stem)
        systems.append(System.of(scored))
    if len({system.name for system in systems}) < len(systems):  # folders tell apart what is called alike
        for system, path in zip(systems, runs, strict=True):
            system.name = str(path)
    return systems
