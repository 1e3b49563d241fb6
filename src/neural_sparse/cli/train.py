"""`neural-sparse train`."""

from __future__ import annotations

import typer


def train(
    recipe: str = typer.Argument(help="A recipe file, or the name of a shipped one (`recipes` lists them)."),
    overrides: list[str] | None = typer.Argument(
        None, metavar="[KEY=VALUE]...", help="Keys of the recipe to change."
    ),
    overwrite: bool = typer.Option(False, help="Start anew although the output folder holds another run."),
    resume_anyway: bool = typer.Option(
        False, help="Go on with the run in the output folder although the recipe has changed."
    ),
) -> None:
    """Train a model from a recipe. The same command goes on where an interrupted run stopped.

    Example: neural-sparse train tiny-cpu train=pairs.jsonl output=outputs/mine num_steps=500
    """
    from neural_sparse.config import read_recipe
    from neural_sparse.io.files import read_json
    from neural_sparse.io.terminal import console as make_console
    from neural_sparse.training.train import train as run
    from neural_sparse.work import ranks

    settings = read_recipe(recipe, overrides or [])
    model = run(settings, overwrite=overwrite, resume_anyway=resume_anyway)
    if ranks.rank():
        return
    metrics = read_json(model.parent / "metrics.json")
    console = make_console()
    if metrics["history"]:
        last = metrics["history"][-1]
        console.print(
            f"step {last['step']:,}: loss {last['loss']:.4f}, ranking {last['ranking']:.4f}, "
            f"{last['nonzero_terms']:.0f} terms per document"
        )
    console.print(
        f"{metrics['steps']:,} steps in {metrics['seconds'] / 60:.1f} minutes; the model is {model}"
    )
