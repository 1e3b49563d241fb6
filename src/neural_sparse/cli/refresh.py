"""`neural-sparse refresh`."""

from __future__ import annotations

from pathlib import Path

import typer


def refresh(
    base: str = typer.Argument(metavar="INDEX|MODEL", help="A folder that `encode` wrote, or a model."),
    documents: Path | None = typer.Argument(
        None,
        metavar="NEW_DOCUMENTS",
        help="A folder in BEIR layout, a file of rows, a .txt with a document per line, or a folder of .txt and .md "
        "files.",
        show_default=False,
    ),
    output: Path | None = typer.Option(
        None, "--output", "-o", help="Folder of versions.", show_default="INDEX-query, beside it"
    ),
    queries: Path | None = typer.Option(
        None, help="Kept queries ({_id, text} per line), judged by --qrels: the old weights against the new."
    ),
    qrels: Path | None = typer.Option(None, help="Which documents answer them (query-id, corpus-id, score)."),
    corpus: Path | None = typer.Option(None, help="The old documents, of a MODEL; an INDEX holds them."),
    counts: Path | None = typer.Option(
        None, help="Document frequencies of the old documents (`idf --counts`), in place of counting them."
    ),
    start: Path | None = typer.Option(
        None,
        help="The IDF that training began at, for the first refresh.",
        show_default="IDF of the old documents",
    ),
    model: str | None = typer.Option(
        None, help="What encodes new documents, for judging.", show_default="the one that INDEX names"
    ),
    sample: int = typer.Option(
        2000, min=1, help="New documents that are encoded for judging, and old ones of a MODEL, at most."
    ),
    count_repeats: bool = typer.Option(
        False, "--count-repeats", help="Judge with a word counting as often as a query holds it."
    ),
    force: bool = typer.Option(False, "--force", help="Use the new weights even if they are worse."),
    seed: int = typer.Option(42, help="Of everything random."),
    rollback: bool = typer.Option(
        False, "--rollback", help="Use the version again that the current one was made from."
    ),
    to: int | None = typer.Option(None, min=1, help="With --rollback: the version to use."),
) -> None:
    """Adapt query weights to new documents; no indexed document is encoded again.

    Counts the new documents, shows which tokens moved, gives each query weight its new IDF (what training learned
    stays), judges old against new, and writes the query side as a version: OUTPUT/current/query is the one in use.
    Says when the documents' side has drifted, and what training anew would take.

    Examples:

      neural-sparse refresh outputs/mine/index new.jsonl --queries queries.jsonl --qrels qrels/test.tsv

      neural-sparse refresh outputs/mine/index --rollback
    """
    from neural_sparse.errors import InputError
    from neural_sparse.refresh.versions import CURRENT, Versions

    place = Path(base.rstrip("/"))
    output = output or place.with_name(f"{place.name}-query")
    if rollback:
        if documents is not None:
            raise InputError("--rollback takes no documents; it goes back to an earlier version")
        number = Versions(output).back(to)
        print(f"version {number} is in use: {output / CURRENT}")
        return
    if to is not None:
        raise InputError("--to goes with --rollback")
    if documents is None:
        raise InputError("name the new documents, or say --rollback")
    from neural_sparse.refresh import RefreshSettings
    from neural_sparse.refresh import refresh as run

    run(
        RefreshSettings(
            base,
            documents,
            corpus=corpus,
            counts=counts,
            start=start,
            queries=queries,
            qrels=qrels,
            model=model,
            sample=sample,
            count_repeats=count_repeats,
            force=force,
            seed=seed,
        ),
        output,
    )
