"""`neural-sparse idf CORPUS`, and `merge`, `adapt`, `inspect` and `compare` beneath it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from neural_sparse.cli.commands import group_with_default
from neural_sparse.cli.encode import CORPUS_HELP
from neural_sparse.cli.engine import ADDRESS, ENGINE, EngineName, chosen_engine

MODEL_HELP = "Model whose tokenizer counts: hub id, folder, or folder inside a package."
OUTPUT_HELP = "Where to write {token: weight}."


app = typer.Typer(cls=group_with_default("compute"), no_args_is_help=True)


@app.callback()
def idf() -> None:
    """Compute the inverse document frequency of every token, merge counts, adapt trained weights, look at tables.

    `neural-sparse idf CORPUS --model MODEL` is short for `idf compute`; its options: `idf compute --help`.
    A corpus whose path is the name of a command is written ./compare.
    """


@app.command()
def compute(
    corpus: str = typer.Argument(help=CORPUS_HELP),
    model: str = typer.Option(help=MODEL_HELP),
    output: str = typer.Option("idf.json", "--output", "-o", help=OUTPUT_HELP + " A path or a URL."),
    counts: str | None = typer.Option(
        None, help="Where to keep the document frequencies, for `idf merge` and --update."
    ),
    update: str | None = typer.Option(
        None, help="Counts of earlier documents; those of this corpus are added to the file."
    ),
    workers: int | None = typer.Option(
        None, min=1, help="Processes; all cores, or all of the cluster, if not given."
    ),
    engine: EngineName = ENGINE,
    address: str | None = ADDRESS,
) -> None:
    """Compute the inverse document frequency of every token: the query side of a retriever.

    ln(1 + (N - df + 0.5) / (df + 0.5)), documents counted once per token; unseen tokens weigh 1. The same
    command goes on where an interrupted one stopped.
    """
    import shutil
    import time

    from neural_sparse.idf import DocumentFrequencies
    from neural_sparse.idf.corpus import count_corpus
    from neural_sparse.io.files import check_output
    from neural_sparse.io.parts import alone
    from neural_sparse.io.urls import location, read_from, work_folder
    from neural_sparse.model.tokenizer import load_tokenizer

    for file in filter(None, (output, counts)):
        check_output(file)
    before = None
    if update:
        with read_from(location(update)) as path:
            before = DocumentFrequencies.load(path)
    tokenizer = load_tokenizer(model)
    work = work_folder(location(output))
    with alone(work, output), chosen_engine(engine, address, gpus=False) as chosen:
        started = time.perf_counter()
        found = count_corpus(corpus, tokenizer, work, onto=before, workers=workers, engine=chosen)
        seconds = time.perf_counter() - started
        _write(found, tokenizer, output, counts or update)
        shutil.rmtree(work, ignore_errors=True)
    new = found.documents - (before.documents if before else 0)
    print(f"{new:,} documents in {seconds:.1f} s ({new / seconds:,.0f} per second)")


@app.command("merge")
def merge_counts(
    files: list[Path] = typer.Argument(help="Files of counts, as `idf --counts` writes them."),
    model: str = typer.Option(help=MODEL_HELP),
    output: Path = typer.Option(Path("idf.json"), "--output", "-o", help=OUTPUT_HELP),
    counts: Path | None = typer.Option(None, help="Where to keep the merged counts."),
) -> None:
    """Add up counts of parts of a corpus, made on several machines, and compute the table."""
    from neural_sparse.idf import DocumentFrequencies, merge
    from neural_sparse.io.files import check_output
    from neural_sparse.model.tokenizer import load_tokenizer

    for file in filter(None, (output, counts)):
        check_output(file)
    total = merge(map(DocumentFrequencies.load, files))
    _write(total, load_tokenizer(model), output, counts)


def _write(frequencies: Any, tokenizer: Any, output: str | Path, counts: str | Path | None) -> None:
    from neural_sparse.idf import save_idf_weights, weights_of
    from neural_sparse.idf.weights import describe
    from neural_sparse.io.urls import location, written_to

    weights = weights_of(frequencies, tokenizer)
    with written_to(location(output)) as path:
        save_idf_weights(weights, path)
    if counts is not None:
        with written_to(location(counts)) as path:
            frequencies.save(path)
    print(describe(weights, frequencies))
    print(f"lightest: {' '.join(sorted(weights, key=weights.__getitem__)[:8])}")
    print(f"written to {output}" + (f", counts to {counts}" if counts else ""))


@app.command()
def adapt(
    table: Path = typer.Argument(help="IDF of your corpus, made by `neural-sparse idf`."),
    model: str = typer.Option(help="Model whose query weights were trained (train_query_weights=true)."),
    start: Path | None = typer.Option(
        None,
        help="The IDF that its training began at; if not given, the idf.json of the run that MODEL lies in.",
    ),
    output: Path = typer.Option(Path("adapted-idf.json"), "--output", "-o", help=OUTPUT_HELP),
) -> None:
    """Carry trained query weights over to another corpus: its IDF times what training changed.

    Example: neural-sparse idf adapt my-idf.json --model outputs/run/final_model --output adapted-idf.json

    The table is what `evaluate` and `export` take as --idf.
    """
    from neural_sparse.errors import InputError
    from neural_sparse.idf import adapt_weights, idf_weights, save_idf_weights
    from neural_sparse.idf.weights import read_table
    from neural_sparse.io.files import check_output
    from neural_sparse.model.encoder import NeuralSparseEncoder
    from neural_sparse.text.tokens import vocabulary

    check_output(output)
    if start is None:
        start = Path(model).parent / "idf.json"
        if not start.is_file():
            raise InputError(
                f"{start} does not exist: name the IDF that {model}'s training began at, --start FILE"
            )
    encoder = NeuralSparseEncoder(model, device="cpu")
    trained, before = encoder.idf_table(), idf_weights(start, encoder.tokenizer)
    adapted = adapt_weights(read_table(table), trained, before, encoder.tokenizer)
    every = zip(vocabulary(encoder.tokenizer), trained.vector, before.vector, strict=True)
    changes = sorted((after / weight, token) for token, after, weight in every if weight > 0)
    if not changes or changes[-1][0] - changes[0][0] < 1e-6:
        raise InputError(
            f"the query weights of {model} are those of {start}: they were not trained; use {table} as it is"
        )
    save_idf_weights(adapted, output)
    for name, some in (("weakened", changes[:8]), ("strengthened", changes[:-9:-1])):
        print(f"{name} most by training: {' '.join(f'{token} x{change:.2f}' for change, token in some)}")
    print(f"written to {output}")


@app.command()
def inspect(
    file: Path = typer.Argument(help="A table {token: weight}."),
    picture: Path | None = typer.Option(
        None, help="Where to draw the histogram; beside the table if not given."
    ),
    top: int = typer.Option(15, min=1, help="How many of the lightest and heaviest tokens to show."),
    default_idf: float = typer.Option(1.0, help="The weight of tokens that were not seen."),
) -> None:
    """Show what is in a table: range, mean, histogram, lightest and heaviest tokens, what cannot be right."""
    from neural_sparse.errors import InputError
    from neural_sparse.idf.inspection import draw_histogram
    from neural_sparse.idf.inspection import inspect as inspected
    from neural_sparse.idf.weights import read_table
    from neural_sparse.io.terminal import console as make_console
    from neural_sparse.report.tables import terminal_table

    weights = read_table(file)
    if not weights:
        raise InputError(f"{file}: the table is empty")
    found = inspected(weights, top, default_idf)
    picture = picture or file.with_suffix(".png")
    draw_histogram(weights, picture, default_idf)
    console = make_console()
    console.print(f"IDF range: {found.low:.2f} ~ {found.high:.2f}")
    console.print(f"IDF mean: {found.mean:.2f}, median {found.median:.2f}")
    console.print(
        f"{found.tokens:,} tokens, {found.unseen:,} of them unseen ({found.unseen / found.tokens:.1%}); "
        f"about {found.documents:,} documents, if the heaviest token is in one"
    )
    rows = [
        [light[0], f"{light[1]:.3f}", heavy[0], f"{heavy[1]:.3f}"]
        for light, heavy in zip(found.lightest, found.heaviest, strict=True)
    ]
    console.print(terminal_table(["lightest", "weight", "heaviest", "weight"], rows))
    for problem in found.problems:
        console.print(f"warning: {problem}", style="yellow")
    if not found.problems:
        console.print("nothing in it looks wrong")
    console.print(f"histogram: {picture!s}")


@app.command()
def compare(
    first: Path = typer.Argument(help="A table {token: weight}."),
    second: Path = typer.Argument(help="Another one."),
    top: int = typer.Option(15, min=1, help="How many of the largest differences to show."),
    default_idf: float = typer.Option(1.0, help="The weight of tokens that were not seen."),
) -> None:
    """Show how two tables differ: correlation, largest differences, tokens missing in either."""
    from neural_sparse.idf.inspection import compare as compared
    from neural_sparse.idf.weights import read_table
    from neural_sparse.io.terminal import console as make_console
    from neural_sparse.report.tables import terminal_table

    found = compared(read_table(first), read_table(second), top, default_idf)
    console = make_console()
    for name, missing in ((first, found.only_first), (second, found.only_second)):
        some = f" (for example {' '.join(missing[:5])})" if missing else ""
        console.print(f"only in {name!s}: {len(missing):,}{some}")
    console.print(
        f"in both: {found.common:,} tokens; unseen in the first alone {found.unseen_first:,}, "
        f"in the second alone {found.unseen_second:,}"
    )
    console.print(
        f"over the {found.seen_in_both:,} tokens that both have seen: Pearson {found.pearson:.4f}, "
        f"Spearman {found.spearman:.4f}, median of first - second {found.shift:+.3f}, "
        f"mean distance from it {found.spread:.3f}"
    )
    rows = [[token, f"{a:.3f}", f"{b:.3f}", f"{a - b:+.3f}"] for token, a, b in found.largest]
    headings = ["token", "first", "second", "difference"]
    console.print(terminal_table(headings, rows, "farthest from the median difference"))
