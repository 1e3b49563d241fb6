"""`neural-sparse data list | prepare | stats`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from neural_sparse.data.prepared import PreparedSet

app = typer.Typer(help="Training data: public sets, your own, or made from documents.", no_args_is_help=True)


@app.command("list")
def list_sets() -> None:
    """The public sets that `prepare` knows by name, with licence and size."""
    from neural_sparse.data.registry import groups, public_sets
    from neural_sparse.io.terminal import console as make_console
    from neural_sparse.report.tables import terminal_table

    rows = [
        [
            entry.name,
            f"{entry.rows:,}" if entry.rows else "not stated",
            f"{entry.sample:,}" if entry.sample else "all",
            entry.licence + (" (to be accepted)" if entry.accept else ""),
        ]
        for entry in public_sets().values()
    ]
    console = make_console()
    console.print(terminal_table(["name", "pairs", "sampled", "licence"], rows, frame=False))
    for group, names in groups().items():
        console.print(f"{group}: the first {len(names)} of them")


@app.command()
def prepare(
    sources: list[str] = typer.Argument(
        help="Public sets (see `list`), groups of them (pretraining), files or folders: JSONL, TSV, CSV or Parquet "
        "with pairs, BEIR or MS MARCO folders, a corpus.jsonl, a folder of .txt and .md."
    ),
    output: Path = typer.Option(
        ..., "--output", "-o", help="Folder to write; `train=` of a recipe takes it."
    ),
    sample: str | None = typer.Option(
        None, help="Examples to keep per source: a number, or one for each (0: all)."
    ),
    weights: str | None = typer.Option(None, help="Share of the training batches of each source, as in 1,2."),
    seed: int = typer.Option(42, help="Of every draw."),
    fields: str | None = typer.Option(
        None, help="Unusual columns, as in query=frage,positive=antwort,negative=x."
    ),
    queries_from: str = typer.Option(
        "auto",
        help="Queries where there are none: auto, title, heading, first-sentence, none, or module:function of "
        "your own (called with text and title, gives queries); endpoint:MODEL@URL or endpoint:FILE.yaml: a language "
        "model writes them.",
    ),
    split: str = typer.Option("train", help="Judgements of a collection to train on."),
    languages: str | None = typer.Option(None, help="Keep these languages only, as in en,ko."),
    min_query_words: int = typer.Option(1, min=0),
    max_query_words: int | None = typer.Option(None, min=1),
    min_document_words: int = typer.Option(1, min=0),
    max_document_words: int | None = typer.Option(None, min=1),
    near_duplicates: float = typer.Option(
        0.8, min=0, max=1, help="Share of word n-grams from which two texts count as one; 0: only equal ones."
    ),
    decontaminate: str | None = typer.Option(
        None, help="Test collections whose queries are kept out, as in beir-13,scifact or a folder."
    ),
    decontaminate_documents: bool = typer.Option(
        False, help="Keep documents of these collections out as well."
    ),
    repair: bool = typer.Option(True, help="Undo mojibake, bring to NFC, remove control characters."),
    accept_licence: list[str] = typer.Option(
        [], help="A set whose terms you have read and accept; again for each, or all."
    ),
    workers: int | None = typer.Option(None, min=1, help="Processes; all cores if not given."),
    overwrite: bool = typer.Option(False, help="Replace an output of other data or settings."),
) -> None:
    """Make training data one folder: cleaned, without near-duplicates, every text stored once.

    The same command goes on where an interrupted one stopped.

    Example: neural-sparse data prepare pairs.jsonl docs/ --weights 2,1 --output data/mine
    """
    import os
    import sys

    if sys.stderr.isatty():  # the hub's own bars, else off: some of its files take an hour
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "0"

    from neural_sparse.data.cleaning import Cleaning
    from neural_sparse.data.prepare import PrepareOptions
    from neural_sparse.data.prepare import prepare as run
    from neural_sparse.work.workers import available_cores

    cleaning = Cleaning(
        repair=repair,
        languages=_names(languages),
        min_query_words=min_query_words,
        max_query_words=max_query_words,
        min_document_words=min_document_words,
        max_document_words=max_document_words,
        near_duplicates=near_duplicates or None,
        decontaminate=_names(decontaminate),
        decontaminate_documents=decontaminate_documents,
    )
    samples = None if sample is None else tuple(_numbers(sample, int, "--sample"))
    if queries_from.startswith("endpoint:"):
        from neural_sparse.mining.made_queries import written_queries

        asked = max(samples) if samples and all(samples) else None
        queries_from = written_queries(queries_from, sources, _fields(fields), sample=asked, seed=seed)
    options = PrepareOptions(
        cleaning=cleaning,
        weights=tuple(_numbers(weights, float, "--weights")),
        samples=samples,
        seed=seed,
        fields=_fields(fields),
        queries_from=queries_from,
        split=split,
        accept_licences=tuple(accept_licence),
        workers=workers or available_cores(),
    )
    _print(run(sources, output, options, overwrite=overwrite, show_progress=True))
    print(f"train on it: neural-sparse train RECIPE train={output}")


@app.command()
def stats(
    folder: Path = typer.Argument(help="A prepared folder."),
    json_output: bool = typer.Option(False, "--json", help="Print JSON."),
    verify: bool = typer.Option(True, help="Check the files' checksums first."),
) -> None:
    """What a prepared folder holds: examples, texts and their lengths, licences, what was dropped and why."""
    import json

    from neural_sparse.data.prepared import PreparedSet, statistics

    prepared = PreparedSet.load(folder)
    if verify:
        prepared.verify()
    if json_output:
        print(json.dumps(statistics(prepared), indent=2, ensure_ascii=False))
    else:
        _print(prepared)


def _print(prepared: PreparedSet) -> None:
    from neural_sparse.data.cleaning import REASONS
    from neural_sparse.data.prepared import statistics
    from neural_sparse.io.terminal import console as make_console
    from neural_sparse.report.tables import terminal_table

    found = statistics(prepared)
    console = make_console()
    rows = [
        [
            source["name"],
            f"{source['read']:,}",
            f"{sum(source['dropped'].values()):,}",
            f"{source['examples']:,}",
            f"{source['share']:.1%}",
            source["licence"],
        ]
        for source in found["sources"]
    ]
    headings = ["source", "read", "dropped", "kept", "share of batches", "licence"]
    console.print(terminal_table(headings, rows, frame=False))
    reasons = {key: sum(one["dropped"].get(key, 0) for one in found["sources"]) for key in REASONS}
    for key, number in reasons.items():
        if number:
            console.print(f"dropped {number:,}: {REASONS[key]} ({key})", highlight=False)
    for name, what in (
        ("negatives_dropped", "hard negatives left out"),
        ("repaired", "texts repaired, as often as they occur"),
    ):
        if number := sum(one[name] for one in found["sources"]):
            console.print(f"{number:,} {what}", highlight=False)
    console.print(
        f"{found['examples']:,} examples, {found['queries']:,} queries, {found['documents']:,} documents "
        f"({found['documents_no_example_names']:,} that no example names), "
        f"{found['negatives']:.1f} hard negatives per example",
        highlight=False,
    )
    console.print(f"words per query: {_words(found['query_words'])}", highlight=False)
    console.print(f"words per document: {_words(found['document_words'])}", highlight=False)


def _words(lengths: dict[str, float]) -> str:
    return (
        f"mean {lengths['mean']:.1f}, median {lengths['median']:.0f}, 95% have at most {lengths['p95']:.0f}"
    )


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(one.strip() for one in (text or "").split(",") if one.strip())


def _numbers(text: str | None, kind: type, option: str) -> list[Any]:
    from neural_sparse.errors import InputError

    try:
        return [kind(one) for one in _names(text)]
    except ValueError as error:
        raise InputError(f"{option} {text}: expected numbers parted by commas") from error


def _fields(text: str | None) -> dict[str, str]:
    from neural_sparse.errors import InputError

    pairs = [one.partition("=") for one in _names(text)]
    if any(not equals or not value for _, equals, value in pairs):
        raise InputError(f"--fields {text}: written query=NAME,positive=NAME,negative=NAME")
    return {key.strip(): value.strip() for key, _, value in pairs}
