"""`neural-sparse teach RECIPE`, and `export` and `convert` of scores beneath it."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import typer

from neural_sparse.cli.commands import group_with_default
from neural_sparse.cli.engine import ADDRESS, ENGINE, EngineName, chosen_engine

RECIPE_HELP = "A recipe file, or the name of a shipped one (tiny-cpu)."
OVERRIDES = typer.Argument(None, metavar="[KEY=VALUE]...", help="Keys of the recipe to change.")
DATA_HELP = "Training data instead of the recipe's, paths or URLs; may be given several times."

app = typer.Typer(cls=group_with_default("fill"), no_args_is_help=True)


@app.callback()
def teach() -> None:
    """Encode all texts of a recipe with its teachers, ahead of training; export and convert scores.

    `neural-sparse teach RECIPE` is short for `teach fill`; its options: `teach fill --help`.
    """


@app.command("fill")
def fill_caches(
    recipe: str = typer.Argument(help=RECIPE_HELP),
    overrides: list[str] | None = OVERRIDES,
    data: list[str] | None = typer.Option(None, help=DATA_HELP),
    devices: str | None = typer.Option(
        None, help="A process for each, such as cuda:0,cuda:1; all GPUs if not given."
    ),
    block: int = typer.Option(1024, min=1, help="Texts between two writes: what an interruption can lose."),
    plan: bool = typer.Option(False, "--plan", help="Only say what it would take."),
    engine: EngineName = ENGINE,
    address: str | None = ADDRESS,
) -> None:
    """Encode what the recipe's teachers have not seen yet, and keep the vectors for any number of runs.

    Says first how many texts, how long and how much disk it takes. The same command goes on where an
    interrupted one stopped.
    """
    # A cluster that does not answer is found now, not after negatives are mined and teachers measured.
    with nullcontext() if plan else chosen_engine(engine, address) as chosen:
        _fill(_prepared(recipe, overrides, data, devices), block, plan, chosen)


def _fill(prepared: tuple[Any, Any, Any, Any], block: int, plan: bool, engine: Any) -> None:
    from neural_sparse.io.resources import readable
    from neural_sparse.io.terminal import console as make_console
    from neural_sparse.teachers.teach import check_disk, fill, needs_of

    console = make_console()
    cache, ensemble, examples, pairs = prepared
    cache.block = block
    console.print(f"measuring {len(ensemble.teachers)} teachers on a sample ...")
    needs = needs_of(
        ensemble.teachers, examples.queries, documents=examples.documents, pairs=pairs, cache=cache
    )
    console.print(_plan_table(needs))
    for need in needs:
        if need.cost:
            console.print(need.cost, highlight=False)
    needed = check_disk(cache.folder, needs)
    seconds = sum(need.seconds for need in needs)
    missing = sum(need.missing for need in needs)
    asked = sum(need.missing for need in needs if need.cost)
    if asked:
        console.print(f"{asked:,} to ask endpoints for, whose speed is not known before")
    if missing > asked:
        here = " by this machine alone" if engine is not None else ""
        console.print(
            f"{missing - asked:,} to encode: about {_duration(seconds)}{here}, {readable(needed)} in {cache.folder}"
        )
    if plan:
        return
    cache.engine = engine
    spent = [fill(need, cache) for need in needs]
    console.print(_report_table(needs, spent, cache))
    console.print(f"the vectors are in {cache.folder}; train with teacher_cache={cache.folder}")


@app.command()
def export(
    recipe: str = typer.Argument(help=RECIPE_HELP),
    overrides: list[str] | None = OVERRIDES,
    output: Path = typer.Option(
        ..., "--output", "-o", help="A .jsonl; with --collection also .parquet, .json or .json.gz."
    ),
    teacher: str | None = typer.Option(
        None, help="Name of one of the recipe's teachers; the cross-encoder if not given."
    ),
    collection: Path | None = typer.Option(None, help="BEIR folder whose ids are written instead of texts."),
    data: list[str] | None = typer.Option(None, help=DATA_HELP),
) -> None:
    """Write a teacher's scores of each query's candidates; what its cache lacks is encoded first."""
    from neural_sparse.errors import InputError
    from neural_sparse.io.files import check_output
    from neural_sparse.teachers.score_writing import (
        candidate_scores,
        collection_texts,
        translated,
        write_scores,
    )

    check_output(output)
    cache, ensemble, examples, pairs = _prepared(recipe, overrides, data)
    chosen = [
        one
        for one in ensemble.teachers
        if (
            one.name == teacher
            if teacher
            else getattr(one, "kind", None) in ("cross-encoder", "rerank-endpoint")
        )
    ]
    if not chosen:
        names = ", ".join(one.name for one in ensemble.teachers)
        raise InputError(
            f"the recipe has no teacher {teacher!r}; it has {names}"
            if teacher
            else f"the recipe has no cross-encoder; choose with --teacher: {names}"
        )
    prepared = chosen[0].prepare(examples.queries, examples.documents, pairs, cache)
    rows = candidate_scores(prepared, examples.queries, examples.documents, pairs)
    if collection:
        rows = translated(rows, *collection_texts(collection), texts=False)
    count = write_scores(output, rows)
    print(f"{count:,} scores of {chosen[0].name} written to {output}")


@app.command()
def convert(
    source: Path = typer.Argument(help="Scores: .jsonl, .parquet, .json or .json.gz."),
    target: Path = typer.Argument(help="Where to write them; the ending says in which form."),
    collection: Path | None = typer.Option(
        None, help="BEIR folder that says which text an id stands for; not needed from ids to ids."
    ),
    ids: bool = typer.Option(False, "--ids", help="Write ids to a .jsonl, instead of texts."),
) -> None:
    """Turn published scores into the JSONL that a precomputed teacher reads, or the other way round.

    Forms: {query, docs, scores} with texts, or query_id, passage_ids and scores, in JSONL; the latter in
    Parquet; {query id: {passage id: score}} in JSON. Scores are checked on the way.
    """
    from neural_sparse.io.files import check_output
    from neural_sparse.teachers.score_files import read_scores
    from neural_sparse.teachers.score_writing import collection_texts, translated, write_scores

    check_output(target)
    rows = read_scores(source)
    if collection:
        texts = target.suffix == ".jsonl" and not ids
        rows = translated(rows, *collection_texts(collection), texts=texts)
    count = write_scores(target, rows)
    print(f"{count:,} scores written to {target}")


def _prepared(
    recipe: str, overrides: list[str] | None, data: list[str] | None, devices: str | None = None
) -> tuple[Any, Any, Any, Any]:
    """Cache, ensemble, training set and candidate pairs, just as `train` would have them."""
    import json

    import torch

    from neural_sparse.config import read_recipe
    from neural_sparse.data.training_set import load_training_set
    from neural_sparse.errors import InputError
    from neural_sparse.teachers.builder import build_ensemble
    from neural_sparse.training.inputs import candidate_pairs, check_endpoints
    from neural_sparse.training.refresh import RunNegatives

    changes = [f"train={json.dumps(data)}"] if data else []
    settings = read_recipe(recipe, [*(overrides or []), *changes])
    if not settings.teachers:
        raise InputError(f"{recipe}: the recipe names no teachers")
    ensemble = build_ensemble(settings)
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    ensemble.cache.devices = tuple(devices.split(",") if devices else gpus)
    examples = load_training_set(settings.train, settings.corpus)
    check_endpoints(settings, examples)
    examples = RunNegatives(settings, examples).ahead()
    return ensemble.cache, ensemble, examples, candidate_pairs(examples)


def _plan_table(needs: list[Any]) -> Any:
    from neural_sparse.io.resources import readable
    from neural_sparse.report.tables import terminal_table

    headings = ["teacher", "of", "items", "to encode", "per second", "time", "disk", "cut"]
    rows = [
        [
            need.job.name,
            need.kind,
            f"{need.items:,}",
            f"{need.missing:,}",
            f"{need.rate:,.0f}" if need.seconds else "-",
            _duration(need.seconds) if need.seconds else "-",
            readable(need.bytes) if need.missing else "-",
            "-" if need.truncated is None else f"{need.truncated:.0%}",
        ]
        for need in needs
    ]
    return terminal_table(headings, rows, "before the start")


def _report_table(needs: list[Any], spent: list[float], cache: Any) -> Any:
    from neural_sparse.io.resources import readable
    from neural_sparse.report.tables import terminal_table

    rows = [
        [
            need.job.name,
            need.kind,
            f"{need.missing:,}",
            _duration(seconds),
            f"{need.missing / seconds:,.0f}" if need.missing else "-",
            readable(cache.bytes_on_disk(need.job)),
        ]
        for need, seconds in zip(needs, spent, strict=True)
    ]
    return terminal_table(["teacher", "of", "encoded", "time", "per second", "cache on disk"], rows, "done")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
