"""`neural-sparse quickstart`."""

from __future__ import annotations

from pathlib import Path

import typer


def quickstart(
    output: Path = typer.Option(
        Path("outputs/quickstart"),
        "--output",
        "-o",
        help="Folder for the page, the model, its export and the pictures.",
    ),
    data: Path | None = typer.Option(
        None,
        help="Your own collection in BEIR layout (corpus.jsonl; queries.jsonl and qrels/test.tsv judge, "
        "qrels/train.tsv is trained on, where they are there).",
    ),
    steps: int = typer.Option(200, min=1, help="Training steps."),
) -> None:
    """Train a retriever on this machine, from a corpus to a verdict: `adapt` with settings for a first try.

    Without --data the corpus is the documentation of the installed Python packages: each summary line
    becomes a query, the rest of its text is what should be found. Nothing is downloaded. How long it takes depends
    on the machine: samples of the long stages are timed first, and what they come to is said before they begin. Ctrl-C
    then loses nothing, and the same command goes on.
    """
    from neural_sparse.adapt.quickstart import quickstart_settings
    from neural_sparse.adapt.run import adapt

    adapt(quickstart_settings(data, steps), output)
