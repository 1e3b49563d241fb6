"""`neural-sparse make-start`."""

from __future__ import annotations

from pathlib import Path

import typer

from neural_sparse.cli.encode import CORPUS_HELP


def make_start(
    corpus: str = typer.Argument(help=CORPUS_HELP),
    output: Path = typer.Option(..., "--output", "-o", help="Folder to write; must not exist yet."),
    vocabulary: int = typer.Option(16_000, min=100, help="Pieces at most."),
    width: int = typer.Option(128, help="Of the transformer; a multiple of 64."),
    layers: int = typer.Option(2, min=1, help="Of the transformer."),
    seed: int = typer.Option(42, help="Of the weights."),
) -> None:
    """Make a start for a language that no model at hand reads: its vocabulary is learnt from the documents.

    A small random masked LM that knows the documents' pieces of words and nothing else, for `init` of a recipe. With
    own words (own_words=4) it is BM25 over its pieces before any training.

    Example: neural-sparse make-start corpus.jsonl -o starts/mine
    """
    from neural_sparse.corpora.corpus_file import corpus_file, corpus_texts
    from neural_sparse.io.files import check_output_folder
    from neural_sparse.io.urls import location
    from neural_sparse.model.own_vocabulary import make_start

    check_output_folder(output)
    made = make_start(
        corpus_texts(corpus_file(location(corpus))),
        output,
        vocabulary,
        width=width,
        layers=layers,
        seed=seed,
    )
    print(f"{made} is a start: neural-sparse train RECIPE init={made} own_words=4 language=LANGUAGE")
