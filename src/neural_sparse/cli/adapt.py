"""`neural-sparse adapt`."""

from __future__ import annotations

from pathlib import Path

import typer


def adapt(
    corpus: Path = typer.Argument(
        help="A folder in BEIR layout, a corpus.jsonl or other file of rows, a .txt with a document per line, a "
        "folder of .txt and .md files, or python-docs: the documentation of the installed Python packages."
    ),
    output: Path = typer.Option(..., "--output", "-o", help="Folder for the page, the model and its export."),
    queries: Path | None = typer.Option(
        None, help="Real queries ({_id, text} per line), judged by --qrels; they override made ones."
    ),
    qrels: Path | None = typer.Option(None, help="Which documents answer them (query-id, corpus-id, score)."),
    train_qrels: Path | None = typer.Option(
        None,
        help="Which documents answer other queries of --queries: these are trained on, in place of made ones.",
    ),
    query_log: Path | None = typer.Option(
        None,
        help="Queries that people asked ({_id, text} per line), unjudged: the cost is limited on these, too.",
    ),
    queries_from: str = typer.Option(
        "documents",
        help="What queries are made of: documents (titles, headings, sentences, opening words), titles, or your "
        "function module:function, called with text and title; or endpoint:MODEL@URL or endpoint:FILE.yaml, a language "
        "model.",
    ),
    general: Path | None = typer.Option(
        None, help="Pairs of other texts ({query, pos} per line) to mix in, so that the model forgets less."
    ),
    general_share: float = typer.Option(0.25, help="Share of the training batches that is of --general."),
    budget: str = typer.Option("30m", help="Time for everything: 90s, 30m, 2h."),
    target_flops: float | None = typer.Option(
        None,
        help="Multiplications per query and document that the model should have.",
        show_default="what --times-bm25 says, at most",
    ),
    times_bm25: float | None = typer.Option(
        None,
        help="The same as a multiple of BM25's.",
        show_default="1.5 where queries of people are known, 1.2 where none are",
    ),
    target_p99: str | None = typer.Option(
        None,
        help="Milliseconds that the slowest hundredth of the queries may take in the exact index, on one core of this "
        "machine, in place of --target-flops; 5@1000000: in a collection of so many documents.",
        show_default="in one as large as the corpus",
    ),
    steps: int | None = typer.Option(
        None, min=1, help="Training steps.", show_default="as many as the budget allows"
    ),
    init: str = typer.Option(
        "cognition/model",
        help="Model to start from; own-vocabulary: a small random one that knows the documents' words, which takes the "
        "usual one's place where that does not read their language.",
    ),
    teacher: list[str] = typer.Option(
        [],
        "--teacher",
        "-t",
        help="bm25, dense:NAME, sparse:NAME, endpoint:MODEL@URL or endpoint:FILE.yaml, with "
        "=WEIGHT behind it to begin with. Repeatable.",
        show_default="dense, sparse and BM25, offline",
    ),
    teacher_cache: Path | None = typer.Option(
        None,
        help="Folder of the teachers' vectors, shared by runs: an endpoint is asked for each text once ever.",
        show_default="in OUTPUT, until the run is done",
    ),
    max_length: int | None = typer.Option(
        None,
        min=8,
        help="Tokens of a document that the model reads.",
        show_default="256, or 512 where a tenth of the documents are longer",
    ),
    passages: bool = typer.Option(
        True, help="Try documents that are longer than that as passages, too, which encodes them again."
    ),
    language: str = typer.Option(
        "auto",
        help="Words counted: of a language (german, or de), korean (morphemes), bigrams (pairs of letters), plain.",
        show_default="told from the documents",
    ),
    seed: int = typer.Option(42, help="Of everything random."),
) -> None:
    """From documents to a verdict: ship a model of their own, keep BM25, or not enough evidence.

    Cleans, makes queries where there are none, tries what costs nothing, trains within the budget, judges everything
    against BM25 on queries that nothing was chosen by, and writes one page: OUTPUT/report.html. Stopped at any moment,
    the same command goes on.

    Examples:

      neural-sparse adapt my-documents/ --budget 15m --output outputs/mine

      neural-sparse adapt corpus.jsonl --queries queries.jsonl --qrels qrels.tsv --budget 1h -o outputs/mine
    """
    from neural_sparse.adapt import AdaptSettings
    from neural_sparse.adapt import adapt as run
    from neural_sparse.adapt.settings import TEACHERS, parse_budget, parse_target_p99
    from neural_sparse.cli.judge_teachers import parse_teacher

    settings = AdaptSettings(
        corpus,
        queries=queries,
        qrels=qrels,
        train_qrels=train_qrels,
        query_log=query_log,
        queries_from=queries_from,
        general=general,
        general_share=general_share,
        budget=parse_budget(budget),
        target_flops=target_flops,
        times_bm25=times_bm25,
        target_p99=parse_target_p99(target_p99) if target_p99 is not None else {},
        steps=steps,
        init=init,
        teachers=tuple(map(parse_teacher, teacher)) or TEACHERS,
        teacher_cache=teacher_cache,
        max_length=max_length,
        passages=passages,
        language=language,
        seed=seed,
    )
    run(settings, output)
