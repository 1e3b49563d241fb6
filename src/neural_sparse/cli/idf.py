"""`neural-sparse idf CORPUS`, and `merge`, `inspect` and `compare` beneath it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from neural_sparse.cli.corpus import CORPUS_HELP

MODEL_HELP = "Model whose tokenizer counts: hub id, folder, or folder inside a package."
OUTPUT_HELP = "Where to write {token: weight}."


class CommandOrCorpus(TyperGroup):
    """A group whose first argument may be a corpus: that means `compute`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["compute", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=CommandOrCorpus, no_args_is_help=True)


@app.callback()
def idf() -> None:
    """Compute the inverse document frequency of every token, merge counts, look at tables.

    `neural-sparse idf CORPUS --model MODEL` is short for `idf compute`; its options: `idf compute --help`.
    A corpus whose path is the name of a command is written ./compare.
    """


@app.command()
def compute(
    corpus: Path = typer.Argument(help=CORPUS_HELP),
    model: str = typer.Option(help=MODEL_HELP),
    output: Path = typer.Option(Path("idf.json"), help=OUTPUT_HELP),
    counts: Path | None = typer.Option(
        None, help="Where to keep the document frequencies, for `idf merge` and --update."
    ),
    update: Path | None = typer.Option(
        None, help="Counts of earlier documents; those of this corpus are added to the file."
    ),
    workers: int | None = typer.Option(None, min=1, help="Processes; all cores if not given."),
) -> None:
    """Compute the inverse document frequency of every token: the query side of a retriever.

    ln(1 + (N - df + 0.5) / (df + 0.5)), documents counted once per token; unseen tokens weigh 1. The same
    command goes on where an interrupted one stopped.
    """
    import shutil
    import time

    from neural_sparse.errors import InputError
    from neural_sparse.idf import DocumentFrequencies
    from neural_sparse.idf.corpus import count_corpus
    from neural_sparse.model.location import load_tokenizer

    for file in filter(None, (output, counts)):
        if file.is_dir():
            raise InputError(f"cannot write {file}: it is a folder")
    before = DocumentFrequencies.load(update) if update else None
    tokenizer = load_tokenizer(model)
    work = output.with_name(f".{output.name}.parts")
    started = time.perf_counter()
    found = count_corpus(corpus, tokenizer, work, onto=before, workers=workers)
    seconds = time.perf_counter() - started
    _write(found, tokenizer, output, counts or update)
    shutil.rmtree(work, ignore_errors=True)
    new = found.documents - (before.documents if before else 0)
    print(f"{new:,} documents in {seconds:.1f} s ({new / seconds:,.0f} per second)")


@app.command("merge")
def merge_counts(
    files: list[Path] = typer.Argument(help="Files of counts, as `idf --counts` writes them."),
    model: str = typer.Option(help=MODEL_HELP),
    output: Path = typer.Option(Path("idf.json"), help=OUTPUT_HELP),
    counts: Path | None = typer.Option(None, help="Where to keep the merged counts."),
) -> None:
    """Add up counts of parts of a corpus, made on several machines, and compute the table."""
    from neural_sparse.idf import DocumentFrequencies, merge
    from neural_sparse.model.location import load_tokenizer

    total = merge(map(DocumentFrequencies.load, files))
    _write(total, load_tokenizer(model), output, counts)


def _write(frequencies: Any, tokenizer: Any, output: Path, counts: Path | None) -> None:
    from neural_sparse.idf import save_idf_weights, weights_of
    from neural_sparse.idf.weights import describe

    weights = weights_of(frequencies, tokenizer)
    save_idf_weights(weights, output)
    if counts is not None:
        frequencies.save(counts)
    print(describe(weights, frequencies))
    print(f"lightest: {' '.join(sorted(weights, key=weights.__getitem__)[:8])}")
    print(f"written to {output}" + (f", counts to {counts}" if counts else ""))
