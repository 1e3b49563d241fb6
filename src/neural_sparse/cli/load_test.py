"""`neural-sparse load-test`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from neural_sparse.cli.login import Login, takes_login

if TYPE_CHECKING:
    from neural_sparse.evaluation.load import Cell


@takes_login
def load_test(
    url: str = typer.Option(
        ...,
        envvar="OPENSEARCH_URL",
        help="Address of the cluster, such as https://search.example.org:9200, or of several nodes, parted by commas.",
    ),
    index: str = typer.Option(..., help="Index or alias."),
    queries: Path = typer.Option(..., help="queries.jsonl, {_id, text} per line."),
    rate: str = typer.Option("20,50,100", help="Requests per second, one after another."),
    clients: str = typer.Option("1,8,32", help="Connections, each with one request at a time."),
    duration: float = typer.Option(60.0, help="Seconds that count, of every system, rate and clients."),
    warmup: float = typer.Option(5.0, help="Seconds before, which do not count."),
    arrivals: str = typer.Option("poisson", help="poisson: independent users. fixed: evenly spaced."),
    against: str = typer.Option(
        "match",
        help='match: BM25 in the same index. none. Or a JSON file: a search with "$query" for the text.',
    ),
    body: Path | None = typer.Option(
        None, help='The search itself from a JSON file with "$query", in place of what the mapping tells.'
    ),
    model: str | None = typer.Option(
        None, help="Send query weights made by this model.", show_default="the cluster makes them"
    ),
    model_id: str | None = typer.Option(None, help="Query model on the cluster."),
    analyzer: str | None = typer.Option(None, help="OpenSearch's analyzer of query weights."),
    pipeline: str | None = typer.Option(
        None, help="Search pipeline.", show_default="the index's; _none with --model"
    ),
    field: str | None = typer.Option(
        None, help="Field of vectors.", show_default="the only one that the mapping has"
    ),
    text_field: str = typer.Option("text", help="Field for BM25."),
    k: int = typer.Option(10, min=1, help="Documents per search."),
    timeout: float = typer.Option(10.0, help="Seconds after which a request has failed."),
    lag_limit: float = typer.Option(
        0.1, help="No figures where this process itself was late by more than this share of the p99 latency."
    ),
    seed: int = typer.Option(0, help="Of arrivals and the order of queries."),
    output: Path | None = typer.Option(
        None, "--output", "-o", help="Folder for load.json, load.md, load.png and workload/."
    ),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Ask every search once, write workload/, and stop."
    ),
    *,
    login: Login,
) -> None:
    """Search a cluster at a given rate and say how long users wait, with BM25 beside it.

    Open loop: requests go out when they are due, and time counts from there. workload/ is the same load for
    opensearch-benchmark.

    Examples:

      neural-sparse load-test --url https://search.example.org:9200 --index docs --queries queries.jsonl -o load

      neural-sparse load-test --url http://localhost:9200 --index docs --queries queries.jsonl --rate 50 --clients 8
    """
    from neural_sparse.corpora.corpus_file import read_queries
    from neural_sparse.errors import InputError
    from neural_sparse.evaluation.load import LoadOptions, measure_load, planned_seconds
    from neural_sparse.io.files import check_output
    from neural_sparse.io.terminal import console as make_console
    from neural_sparse.opensearch.load import Template, search_system
    from neural_sparse.opensearch.searches import About, Searches, bm25_search, sparse_search
    from neural_sparse.opensearch.workload import write_workload

    rates, counts = _numbers(rate, "--rate", float), _numbers(clients, "--clients", int)
    options = LoadOptions(
        duration,
        warmup,
        arrivals=arrivals,  # type: ignore[arg-type]
        slice_seconds=min(5.0, duration),
        lag_limit=lag_limit,
        seed=seed,
    )
    if output is not None:
        check_output(output, folder=True)
    elif dry_run:
        raise InputError("--dry-run writes workload/ into --output: name that folder")
    own, other = (
        Template(file) if file is not None else None
        for file in (body, Path(against) if against not in ("match", "none") else None)
    )
    texts = list(read_queries(queries).values())
    client = login.client(url)
    about = About.of(client, index)
    if own is not None:
        searches = {"search": Searches(str(body), [own(text) for text in texts], pipeline)}
    else:
        encoder = None
        if model is not None:
            from neural_sparse.model.encoder import NeuralSparseEncoder

            encoder = NeuralSparseEncoder(model)
        searches = {
            "sparse": sparse_search(
                about,
                k,
                field=field,
                model=encoder,
                model_id=model_id,
                analyzer=analyzer,
                pipeline=pipeline,
            ).of(texts)
        }
    if other is not None:
        searches["other"] = Searches(against, [other(text) for text in texts], pipeline)
    elif against == "match":
        searches["match"] = bm25_search(about, text_field, k).of(texts)
    systems = [
        search_system(name, client, index, one.bodies, pipeline=one.pipeline, timeout=timeout)
        for name, one in searches.items()
    ]
    console = make_console(190)
    what = ", ".join(f"{name} ({one.kind})" for name, one in searches.items())
    console.print(f"{what}: {len(texts):,} queries, k={k}")
    if output is not None:
        write_workload(
            output / "workload",
            index,
            searches=searches,
            rates=rates,
            clients=counts,
            duration=duration,
            warmup=warmup,
            poisson=arrivals == "poisson",
        )
        console.print(
            f"the same for opensearch-benchmark: opensearch-benchmark run --pipeline=benchmark-only "
            f"--workload-path={output / 'workload'} --target-hosts={url.split('://')[-1]}"
        )
    if dry_run:
        return
    from tqdm import tqdm

    total = planned_seconds(len(systems), len(rates), len(counts), options)
    layout = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left"
    with tqdm(total=total, desc="load", disable=None, bar_format=layout) as progress:
        cells = measure_load(
            systems, len(texts), rates=rates, clients=counts, options=options, report=progress.update
        )
    _show(cells, console)
    if output is not None:
        about_run = {
            "index": index,
            "queries": len(texts),
            "k": k,
            "systems": {name: one.kind for name, one in searches.items()},
            "options": options.__dict__,
        }
        _write(cells, about_run, output)
        console.print(f"written: {output}/load.json, load.md, load.png")


def _numbers(text: str, option: str, kind: type) -> list:  # type: ignore[type-arg]
    from neural_sparse.errors import InputError

    try:
        found = [kind(one) for one in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) <= 0:
        what = "whole numbers" if kind is int else "numbers"
        raise InputError(f"{option} {text!r}: {what} above 0, parted by commas")
    return found


def _show(cells: list[Cell], console: object) -> None:
    from rich.console import Console

    from neural_sparse.report.load import LEGEND, load_table, ratio_table, remarks
    from neural_sparse.report.tables import terminal_table

    assert isinstance(console, Console)
    console.print(terminal_table(*load_table(cells), "Load"))
    headings, rows = ratio_table(cells)
    if rows:
        console.print(terminal_table(headings, rows, "Latency of the first system over the other's"))
    console.print(LEGEND, style="dim")
    for remark in remarks(cells):
        console.print(remark, style="yellow")


def _write(cells: list[Cell], about: dict[str, object], output: Path) -> None:
    from neural_sparse.io.files import write_json, write_text
    from neural_sparse.report.load import LEGEND, load_table, plot_load, ratio_table, remarks
    from neural_sparse.report.tables import markdown_table

    write_json(output / "load.json", {**about, "cells": [cell.to_dict() for cell in cells]})
    headings, rows = load_table(cells)
    parts = [markdown_table(headings, rows)]  # type: ignore[arg-type]
    headings, rows = ratio_table(cells)
    if rows:
        parts.append(markdown_table(headings, rows))  # type: ignore[arg-type]
    write_text(output / "load.md", "\n".join([*parts, LEGEND, *remarks(cells)]) + "\n")
    plot_load(cells, output / "load.png")
