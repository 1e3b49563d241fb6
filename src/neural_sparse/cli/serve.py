"""`neural-sparse serve`."""

from __future__ import annotations

from pathlib import Path

import typer


def serve(
    index: list[str] = typer.Argument(
        help="Folders made by `neural-sparse encode`, each FOLDER or NAME=FOLDER; the first is the default."
    ),
    model: str | None = typer.Option(
        None, help="The model that the indexes were encoded with: they can be changed, and texts encoded."
    ),
    bm25: bool = typer.Option(False, "--bm25", help="BM25 over the first index's texts beside it."),
    recall: float | None = typer.Option(
        None,
        help="Approximate: score as few documents as find so much of the exact hits, such as 0.95, measured on "
        "--sample or on queries made of documents. For deep rankings of large collections; where it gains nothing the "
        "search is exact, as it is with filters.",
        show_default="exact",
    ),
    sample: Path | None = typer.Option(
        None, help="With --recall: queries.jsonl, {_id, text} per line, such as people ask."
    ),
    judgements: Path | None = typer.Option(
        None, help="Folder for judgements made on the page, in BEIR layout: `evaluate -c FOLDER` reads it."
    ),
    split: str = typer.Option("test", help="Judgements are kept in qrels/SPLIT.tsv."),
    host: str = typer.Option(
        "127.0.0.1",
        help="Address to listen on. Others than the loopback need NEURAL_SPARSE_API_KEY to be set.",
    ),
    port: int = typer.Option(
        8000, min=0, max=65535, help="0 for any that is free; the first line says which."
    ),
    verify: bool = typer.Option(
        True, help="Compare every file with its checksum first, which reads all of them; else their sizes."
    ),
    workers: int | None = typer.Option(None, min=1, help="Searches at a time.", show_default="all cores"),
) -> None:
    """Serve search over HTTP, and a page at / to look at hits side by side and judge them.

    GET /docs shows the requests. Ends at SIGTERM or Ctrl-C, when what runs is finished.

    Examples:

      neural-sparse serve outputs/index --bm25 --judgements outputs/judged

      neural-sparse serve student=outputs/index start=outputs/start-index --port 8080
    """
    from neural_sparse.serve import serve as run

    run(
        index,
        model=model,
        bm25=bm25,
        judgements=judgements,
        split=split,
        host=host,
        port=port,
        verify=verify,
        workers=workers,
        recall=recall,
        sample=sample,
    )
