"""`neural-sparse ab-test`: how much an experiment needs, interleaving, and what the clicks say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from neural_sparse.cli.login import Login, takes_login

if TYPE_CHECKING:
    from rich.console import Console

    from neural_sparse.evaluation.ab_analysis import Preference

app = typer.Typer(
    no_args_is_help=True, help="Experiments with users: plan, interleave, serve, analyse, export-srw."
)


@app.command()
def plan(
    effect: float | None = typer.Option(
        None,
        help="What is to be found. Queries: difference of the measure. Clicks: share of sessions that B wins (.55). "
        "Users: gain in click-through (.01).",
        show_default="tells what --size finds",
    ),
    size: int | None = typer.Option(None, min=1, help="How many there are: tells the effect that they find."),
    by: str = typer.Option(
        "queries", help="queries: judged ones. clicks: interleaved sessions. users: a split test, per group."
    ),
    runs: list[Path] = typer.Option(
        [], "--evaluation", "-e", help="Two folders of `evaluate --output`: the spread of their differences."
    ),
    measure: str = typer.Option("nDCG@10", "--measure", "-m", help="Of the evaluations."),
    sd: float | None = typer.Option(None, help="Standard deviation of differences per query."),
    ties: float = typer.Option(0.5, help="clicks: share of sessions without a winner."),
    rate: float = typer.Option(0.3, help="users: share of users of A who click."),
    alpha: float = typer.Option(0.05, help="Chance of finding what is not there."),
    power: float = typer.Option(0.8, help="Chance of finding what is there."),
) -> None:
    """How many queries, sessions or users an effect needs, or which effect so many find.

    Examples:

      neural-sparse ab-test plan --effect 0.01 -e results/a -e results/b

      neural-sparse ab-test plan --by clicks --effect 0.55

      neural-sparse ab-test plan --by users --rate 0.3 --size 20000
    """
    from neural_sparse.errors import InputError
    from neural_sparse.evaluation import ab_design as design
    from neural_sparse.io.terminal import console as make_console

    if (effect is None) == (size is None):
        raise InputError("give either --effect (how many are needed?) or --size (what do so many find?)")
    if by not in ("queries", "clicks", "users"):
        raise InputError(f"--by {by!r}: queries, clicks or users")
    if by != "queries" and (runs or sd is not None):
        raise InputError("--evaluation and --sd are for --by queries")
    if by == "clicks" and effect is not None and not 0.5 < effect < 1:
        raise InputError(
            f"--effect {effect:g}: of clicks it is the share of sessions that B wins, above .5, such as .55"
        )
    console = make_console(120)
    certainty = f"alpha {alpha:g}, power {power:g}"
    if by == "queries":
        spread = _spread(runs, measure, sd, console)
        if effect is not None:
            count = design.queries_needed(effect, spread, alpha, power)
            console.print(f"{count:,} judged queries find a difference of {effect:g} ({certainty})")
        else:
            found = design.queries_effect(int(size or 0), spread, alpha, power)
            console.print(f"{size:,} judged queries find a difference of {found:.4f} ({certainty})")
        return
    for looks, words in (("once", "one look at the end"), ("any", "looked at daily, decided by the end")):
        if by == "clicks":
            unit = f"sessions ({ties:.0%} of them without a winner)"
            if effect is not None:
                count = design.sessions_needed(effect, ties, alpha=alpha, power=power, looks=looks)  # type: ignore[arg-type]
                what = f"{effect:.1%} of those with a winner going to B"
            else:
                share = design.sessions_effect(int(size or 0), ties, alpha=alpha, power=power, looks=looks)  # type: ignore[arg-type]
                what = f"{share:.1%} of those with a winner going to B"
        else:
            unit = "users per group"
            if effect is not None:
                count = design.users_needed(rate, effect, alpha=alpha, power=power, looks=looks)  # type: ignore[arg-type]
                what = f"a click-through of {rate + effect:.2%} against {rate:.2%}"
            else:
                gain = design.users_effect(int(size or 0), rate, alpha=alpha, power=power, looks=looks)  # type: ignore[arg-type]
                what = f"a click-through of {rate + gain:.2%} against {rate:.2%}"
        console.print(f"{count if size is None else size:,} {unit} find {what} ({certainty}; {words})")


def _spread(runs: list[Path], measure: str, sd: float | None, console: Console) -> float:
    import numpy as np

    from neural_sparse.errors import InputError
    from neural_sparse.evaluation.compare import System

    if (sd is None) == (not runs):
        raise InputError(
            "how far apart are two systems from query to query? Give two --evaluation folders, or --sd"
        )
    if sd is not None:
        return sd
    if len(runs) != 2:
        raise InputError(f"two --evaluation folders, please, not {len(runs)}")
    a, b = (System.load(folder) for folder in runs)
    differences = []
    for name in sorted(set(a.evaluations) & set(b.evaluations)):
        ours, theirs = (one.evaluations[name].per_query for one in (a, b))
        if measure not in ours or measure not in theirs:
            raise InputError(f"{name}: {measure} is not among the measures of both ({', '.join(ours)})")
        differences += [
            theirs[measure][query_id] - value
            for query_id, value in ours[measure].items()
            if query_id in theirs[measure]
        ]
    if len(differences) < 2:
        raise InputError(f"{runs[0]} and {runs[1]} have fewer than two queries in common")
    spread = float(np.std(differences, ddof=1))
    if spread == 0:
        raise InputError(f"{runs[0]} and {runs[1]} do not differ on any query in {measure}; give --sd")
    console.print(
        f"{measure} over {len(differences):,} queries: difference {np.mean(differences):+.4f}, standard deviation of "
        f"differences {spread:.4f}"
    )
    return spread


@app.command()
def interleave(
    a: Path = typer.Argument(help="TREC run file of system A."),
    b: Path = typer.Argument(help="TREC run file of system B."),
    output: Path = typer.Option(..., "--output", "-o", help="JSON lines: query_id, hits with id and team."),
    k: int = typer.Option(10, min=1, help="Documents per page."),
    session: str = typer.Option("", help="Whose pages: another session gets other coins."),
    secret: str = typer.Option("", help="Of the experiment, so that nobody can compute who placed what."),
) -> None:
    """Interleave two runs by team draft, the same pages every time for the same session and secret.

    In production, `neural-sparse ab-test serve` does this per request.
    """
    import json

    from neural_sparse.errors import InputError
    from neural_sparse.evaluation.interleaving import seed_of, team_draft
    from neural_sparse.evaluation.measures import trec_order
    from neural_sparse.evaluation.runs import read_run
    from neural_sparse.io.files import check_output, write_text
    from neural_sparse.io.terminal import console as make_console

    check_output(output)
    ours, theirs = read_run(a), read_run(b)
    shared = [query_id for query_id in ours if query_id in theirs]
    if not shared:
        raise InputError(f"{a} and {b} have no query in common")
    rows = []
    for query_id in shared:
        a_docs, b_docs = (trec_order(run[query_id]) for run in (ours, theirs))
        placed = team_draft(a_docs, b_docs, k, seed_of(secret, session, query_id))
        rows.append({"query_id": query_id, "hits": [{"id": one.doc_id, "team": one.team} for one in placed]})
    write_text(output, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    make_console().print(f"{len(rows):,} pages written to {output}")


@app.command()
@takes_login
def serve(
    url: str = typer.Option(
        ..., envvar="OPENSEARCH_URL", help="Address of the cluster, or of several nodes, by commas."
    ),
    index: str = typer.Option(..., help="Index or alias of A, and of B unless --index-b."),
    log: Path = typer.Option(..., help="File of impressions and clicks; continued if it is there."),
    a: str = typer.Option(
        "match", help='A. match: BM25. sparse: as the index takes it. A JSON file with "$query".'
    ),
    b: str = typer.Option("sparse", help="B, the same."),
    index_b: str | None = typer.Option(None, help="Index of B."),
    pipeline_a: str | None = typer.Option(None, help="Search pipeline of A."),
    pipeline_b: str | None = typer.Option(None, help="Search pipeline of B."),
    model: str | None = typer.Option(
        None, help="Query weights of sparse searches; else the cluster makes them."
    ),
    field: str | None = typer.Option(None, help="Field of vectors.", show_default="the only one"),
    text_field: str = typer.Option("text", help="Field for BM25."),
    show: str = typer.Option("text", help="Fields that hits bring along, parted by commas; empty for none."),
    name: str = typer.Option("experiment", help="Name of the experiment."),
    host: str = typer.Option("127.0.0.1", help="Address to listen on; other machines reach it by 0.0.0.0."),
    port: int = typer.Option(8765, min=0, max=65535, help="Port to listen on; 0 for a free one."),
    *,
    login: Login,
) -> None:
    """Serve interleaved results of two kinds of search, and take clicks.

    GET /search?q=TEXT&session=ID answers {query_id, session_id, hits}; POST /click takes {query_id, doc_id}. Who placed
    what is in the log alone. There is no login: put it behind the application that shows the results.

    Examples:

      neural-sparse ab-test serve --url https://search.example.org:9200 --index docs --log clicks.jsonl

      neural-sparse ab-test serve --url http://localhost:9200 --index docs --a sparse --b sparse --index-b docs-2 --log clicks.jsonl
    """  # noqa: E501
    from neural_sparse.cli.listening import answer_until_ended
    from neural_sparse.errors import InputError
    from neural_sparse.evaluation.interleaving_server import ExperimentLog, Interleaver, make_server
    from neural_sparse.io.terminal import console as make_console
    from neural_sparse.opensearch.load import Template
    from neural_sparse.opensearch.searches import About, Kind, bm25_search, sparse_search
    from neural_sparse.opensearch.two_searches import Side, two_searches

    templates = {side: Template(side) for side in (a, b) if side not in ("match", "sparse")}
    client = login.client(url)
    encoder = None
    if model is not None:
        from neural_sparse.model.encoder import NeuralSparseEncoder

        encoder = NeuralSparseEncoder(model)

    def side(kind: str, of: str, pipeline: str | None) -> Side:
        about = About.of(client, of)
        if (template := templates.get(kind)) is not None:
            return Side(of, Kind(kind, pipeline, lambda texts: [template(text) for text in texts]))
        if kind == "match":
            return Side(of, bm25_search(about, text_field, 10))
        return Side(of, sparse_search(about, 10, field=field, model=encoder, pipeline=pipeline))

    first, second = side(a, index, pipeline_a), side(b, index_b or index, pipeline_b)
    sides = {
        letter: {"index": one.index, "search": one.kind.word, "pipeline": one.kind.pipeline}
        for letter, one in (("a", first), ("b", second))
    }
    if sides["a"] == sides["b"]:
        raise InputError("A and B are the same; name another --a, --b, --index-b or pipeline")
    ask = two_searches(client, first, second, [one for one in show.split(",") if one])
    for letter, answer in zip("ab", ask("test", 1), strict=True):
        if isinstance(answer, str):
            raise InputError(f"{letter} ({sides[letter]['search']}): {answer}")
    record = ExperimentLog(log, {"name": name, **sides})
    server = make_server(Interleaver(ask, record), name, host, port)
    console = make_console()
    console.print(
        f"{name}: A {first.kind.word} of {first.index}, B {second.kind.word} of {second.index}; log {log}"
    )
    console.print(f"listening on http://{host}:{server.server_address[1]}; Ctrl-C ends it")

    try:
        answer_until_ended(server, console)
    finally:
        record.close()


@app.command()
def analyse(
    log: list[Path] = typer.Argument(
        None, help="Logs of `ab-test serve`, or of the same form.", show_default=False
    ),
    ubi_events: Path | None = typer.Option(None, help="Export of ubi_events: clicks."),
    ubi_queries: Path | None = typer.Option(
        None, help='Export of ubi_queries with "teams" or "arm" in query_attributes; or give the log.'
    ),
    action: list[str] = typer.Option(["click"], help="UBI: action_name that counts. Repeatable."),
    unit: str = typer.Option("session", help="What counts once: session, user or query."),
    window: float | None = typer.Option(
        None,
        help="Minutes after a unit's first page in which its clicks count.",
        show_default="60; user: 1440",
    ),
    until: str | None = typer.Option(None, help="Leave out what came later (ISO 8601).", show_default="all"),
    alpha: float = typer.Option(0.05, help="Chance of deciding wrongly, however often this is asked."),
    output: Path | None = typer.Option(None, "--output", "-o", help="JSON file."),
) -> None:
    """Say which system users prefer, with an interval; it may be asked every day.

    Examples:

      neural-sparse ab-test analyse clicks.jsonl

      neural-sparse ab-test analyse clicks.jsonl --ubi-events ubi_events.jsonl --unit user
    """
    from neural_sparse.errors import InputError
    from neural_sparse.evaluation.ab_analysis import analyse_clicks
    from neural_sparse.evaluation.click_log import read_click_log, read_ubi, seconds
    from neural_sparse.io.files import check_output, write_json
    from neural_sparse.io.terminal import console as make_console

    log = log or []
    if unit not in ("session", "user", "query"):
        raise InputError(f"--unit {unit!r}: session, user or query")
    if window is not None and not window > 0:
        raise InputError("--window is longer than 0 minutes")
    if output is not None:
        check_output(output)
    if ubi_events is not None:
        if len(log) > 1 or (not log and ubi_queries is None):
            raise InputError(
                "--ubi-events needs to know what was shown: --ubi-queries, or one log of `ab-test serve`"
            )
        read = read_ubi(ubi_queries, ubi_events, log[0] if log else None, tuple(action))
    elif ubi_queries is not None:
        raise InputError("--ubi-queries are what was shown; --ubi-events holds the clicks")
    elif not log:
        raise InputError("give a log, or --ubi-queries and --ubi-events")
    else:
        read = read_click_log(*log)
    end = None if until is None else seconds(until, "--until")
    found = analyse_clicks(read, unit, window=None if window is None else 60 * window, alpha=alpha, until=end)  # type: ignore[arg-type]
    _show(found, make_console(120))
    if output is not None:
        write_json(output, found.to_dict())


def _show(found: Preference, console: Console) -> None:
    from neural_sparse.report.tables import terminal_table

    last = found.days[-1]
    units = "queries" if found.unit == "query" else f"{found.unit}s"
    if found.kind == "interleaving":
        console.print(
            f"{found.units:,} {units}: B wins {found.wins:,}, A wins {found.losses:,}, {found.ties:,} ties; "
            f"{found.open:,} still open"
        )
        what = "share of wins of B"
    else:
        rates = ", ".join(
            f"{arm.upper()} {rate:.2%} of {count:,}" for arm, (count, rate) in found.groups.items()
        )
        console.print(f"{found.units:,} {units} with a click: {rates}; {found.open:,} still open")
        what = "gain in click-through"
    rows = [
        [
            day.day,
            f"{day.units:,}",
            _percent(day.value),
            f"[{_percent(day.low)}, {_percent(day.high)}]",
            _p(day.p_value),
        ]
        for day in found.days
    ]
    if len(rows) > 15:
        rows = [*rows[:2], ["...", "", "", "", ""], *rows[-12:]]
    level = f"{100 * (1 - found.alpha):g}%"
    console.print(terminal_table(["day", units, what, f"{level} at all times", "p at any time"], rows))
    if found.winner:
        console.print(f"{found.winner.upper()} is better (decided on {found.decided}, alpha {found.alpha:g})")
    else:
        console.print(
            f"undecided: p {last.p_value:.3g} at alpha {found.alpha:g}; go on, or see `ab-test plan`"
        )
    for remark in found.remarks:
        console.print(remark, style="yellow")


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}%"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "<.001"


@app.command("export-srw")
def export_srw(
    queries: Path = typer.Option(..., help="queries.jsonl, {_id, text} per line."),
    qrels: Path = typer.Option(..., help="Judgements, such as qrels/test.tsv."),
    output: Path = typer.Option(..., "--output", "-o", help="Folder to write."),
    name: str = typer.Option("neural-sparse", help="Of the query set and the judgement list."),
    replace: bool = typer.Option(
        False,
        "--replace",
        help="Put spaces where texts hold what the workbench refuses (quotes, < and >, \\\\).",
    ),
) -> None:
    """Write queries and judgements for OpenSearch's Search Relevance Workbench."""
    from neural_sparse.corpora.corpus_file import read_queries
    from neural_sparse.corpora.qrels_file import read_qrels
    from neural_sparse.io.files import check_output_folder
    from neural_sparse.io.terminal import console as make_console
    from neural_sparse.opensearch.relevance_workbench import write_workbench

    check_output_folder(output, "query_set.json")
    counts = write_workbench(
        output, name, queries=read_queries(queries), qrels=read_qrels(qrels), replace=replace
    )
    make_console().print(f"{counts[0]:,} queries and {counts[1]:,} judgements written to {output}")
