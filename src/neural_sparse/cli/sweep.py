"""`neural-sparse sweep`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from neural_sparse.tuning.result import SweepResult


def sweep(
    recipe: str = typer.Argument(help="A recipe file, or the name of a shipped one."),
    settings: list[str] | None = typer.Argument(
        None,
        metavar="[KEY=VALUE,VALUE...]...",
        help="Keys to sweep, with their values; a key with one value is changed for all runs.",
    ),
    collection: list[str] = typer.Option(
        [],
        "--collection",
        "-c",
        help="What the runs are judged on: a folder in BEIR layout, or a name. Repeatable: figures are means.",
        show_default="the recipe's dev collection",
    ),
    split: str | None = typer.Option(
        None,
        help="Which qrels/SPLIT.tsv of the collections.",
        show_default="dev, or else train where it is not trained on, or else test, with a warning",
    ),
    within: float | None = typer.Option(
        None,
        min=0,
        help="Points of nDCG@10 that a cheaper run may lose and still be recommended.",
        show_default="what a paired test does not find significant",
    ),
    reference: list[str] = typer.Option(
        [], help="A system to show beside the runs: NAME=NDCG,FLOPS, nDCG@10 from 0 to 1. Repeatable."
    ),
    trials: int | None = typer.Option(
        None,
        min=1,
        help="Instead of every combination: so many runs at values that Optuna chooses in ranges, written "
        "KEY=LOW..HIGH or KEY=LOW..HIGH:log.",
        show_default=False,
    ),
    overwrite: bool = typer.Option(False, help="Train every run anew."),
) -> None:
    """Train a recipe with several values of a key, and say which one to take.

    Runs share data, negatives and teachers. The same command goes on where an interrupted sweep stopped. Runs,
    sweep.json, sweep.csv and pareto.png are in the recipe's output folder.

    Examples:

      neural-sparse sweep tiny-cpu train=pairs.jsonl lambda_flops=0.005,0.01,0.02,0.05,0.1 -c my-collection

      neural-sparse sweep recipe.yaml lambda_flops=0.01,0.02 seed=1,2 -c scifact -c nfcorpus

      neural-sparse sweep recipe.yaml lambda_flops=0.005..0.1:log --trials 8 -c scifact
    """
    from neural_sparse.errors import InputError
    from neural_sparse.io.terminal import console as make_console
    from neural_sparse.tuning.grid import Grid, read_grid
    from neural_sparse.tuning.judging import parse_reference, published
    from neural_sparse.tuning.optuna_search import has_range, read_space, search

    # Before torch is imported: a mistake in the command line is told at once.
    given = [parse_reference(text) for text in reference]
    settings = settings or []
    if trials is None and has_range(settings):
        raise InputError("a range needs --trials: how many runs Optuna may make; or list the values instead")
    plan = read_grid(recipe, settings) if trials is None else read_space(recipe, settings)

    from neural_sparse.tuning.judging import Judge
    from neural_sparse.tuning.result import FAILED
    from neural_sparse.tuning.sweep import sweep as run

    console = make_console(120)
    judge = Judge.of([one.recipe for one in plan.runs], collection, split)
    options: dict[str, Any] = {
        "within": None if within is None else within / 100,
        "references": [*published(judge.collections), *given],
        "overwrite": overwrite,
        "say": lambda text: console.print(text, highlight=False),
    }
    result = (
        run(plan, judge, **options) if isinstance(plan, Grid) else search(plan, trials or 0, judge, **options)
    )
    _report(result, console)
    if any(one.status == FAILED for one in result.outcomes):
        raise typer.Exit(1)


def _report(result: SweepResult, console: Console) -> None:
    from neural_sparse.tuning.result import FILE, PICTURE, TABLE, sweep_table

    console.print()
    console.print(sweep_table(result))
    console.print(f"Recommended: {result.recommendation}", highlight=False)
    written = [name for name in (FILE, TABLE, PICTURE) if (result.output / name).is_file()]
    console.print(f"written to {result.output}: {', '.join(written)}", highlight=False)
