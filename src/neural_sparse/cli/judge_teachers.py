"""`neural-sparse judge-teachers`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from neural_sparse.config import TeacherConfig
    from neural_sparse.teachers.quality import TeacherQuality


def judge_teachers(
    recipe: str | None = typer.Argument(
        None, help="A recipe whose teachers, weights and cache are used.", show_default=False
    ),
    collection: str = typer.Option(
        ..., "--collection", "-c", help="Development collection: a folder in BEIR layout, or a name."
    ),
    split: str = typer.Option("dev", help="Which qrels/SPLIT.tsv to judge by; never the one reported later."),
    teacher: list[str] = typer.Option(
        [],
        "--teacher",
        "-t",
        help="Instead of a recipe: bm25, dense:NAME, sparse:NAME, cross-encoder:NAME, precomputed:FILE or "
        "endpoint:MODEL@URL (rerank-endpoint too), with =WEIGHT behind it if not all weigh the same. Repeatable.",
    ),
    depth: int = typer.Option(100, min=10, help="Candidates per query and retriever."),
    union: bool = typer.Option(
        False, "--union", help="Candidates of BM25 and of the teachers, not of BM25 alone."
    ),
    language: str | None = typer.Option(
        None,
        help="Of BM25's words, as first stage and as teacher: a language (german, or de), korean (morphemes), bigrams "
        "(pairs of letters), plain.",
        show_default="the recipe's, or told from the documents",
    ),
    teacher_cache: Path | None = typer.Option(
        None,
        help="Folder of the teachers' vectors, shared with training.",
        show_default="the recipe's, or outputs/teacher_cache",
    ),
    max_length: int | None = typer.Option(
        None, min=3, help="Tokens a teacher reads of a text.", show_default="the recipe's, or 512"
    ),
    bf16: bool | None = typer.Option(
        None, help="Encode in bfloat16.", show_default="where the device has it"
    ),
    trust_remote_code: list[str] = typer.Option(
        [],
        "--trust-remote-code",
        metavar="NAME",
        help="A model whose own program code may be run; repeatable. Only for a repository you have read.",
    ),
    output: Path | None = typer.Option(None, "--output", "-o", help="JSON file for the report."),
) -> None:
    """Measure teachers, their ensemble and the best weights before training with them.

    nDCG@10 of re-ranking what a first stage finds. Weights are chosen on half of the queries and judged on
    the other half.

    Examples:

      neural-sparse judge-teachers recipe.yaml -c my-collection/

      neural-sparse judge-teachers -t dense:BAAI/bge-small-en-v1.5=0.7 -t bm25=0.3 -c nfcorpus
    """
    from dataclasses import replace

    from neural_sparse.config import AUTO, check_language, check_trusted, read_recipe
    from neural_sparse.corpora.names import load_collection
    from neural_sparse.errors import InputError
    from neural_sparse.io.files import check_output, write_json
    from neural_sparse.io.terminal import console as make_console
    from neural_sparse.teachers.builder import TeacherBuilder
    from neural_sparse.teachers.cache import TeacherCache
    from neural_sparse.teachers.quality import judge_teachers as judge

    if (recipe is None) == (not teacher):
        raise InputError("give either a recipe or --teacher options")
    if output is not None:
        check_output(output)
    cache, trusted = Path("outputs/teacher_cache"), tuple(trust_remote_code)
    spoken = check_language(language or AUTO)
    if recipe is not None:
        # What it trains on does not matter here, and may not be settled yet.
        settings = read_recipe(recipe, ["train=any"])
        configs, cache = list(settings.teachers), Path(settings.teacher_cache)
        bf16 = settings.bf16 if bf16 is None else bf16
        trusted += settings.trust_remote_code
        spoken = settings.language if language is None else spoken
        if not configs:
            raise InputError(f"{recipe}: names no teachers")
    else:
        configs = [parse_teacher(text) for text in teacher]
    check_trusted(trust_remote_code, [config.name for config in configs])
    if max_length is not None:
        configs = [
            replace(config, max_length=max_length) if config.has_model else config for config in configs
        ]
    loaded = load_collection(collection, split)
    console = make_console(120)
    console.print(f"{loaded.name}: {len(loaded.texts):,} documents, {len(loaded.queries):,} queries")
    builder = TeacherBuilder((), bf16, trusted, language=spoken)
    report = judge(
        [builder.teacher(config) for config in configs],
        [config.weight for config in configs],
        collection=loaded,
        cache=TeacherCache(teacher_cache or cache),
        depth=depth,
        union=union,
        language=spoken,
    )
    _print(report, console)
    if output is not None:
        write_json(output, report.to_dict())
        console.print(f"written to {output}")


def parse_teacher(text: str) -> TeacherConfig:
    """A teacher of "KIND:NAME=WEIGHT"."""
    from dataclasses import replace
    from pathlib import Path

    from neural_sparse.config import ENDPOINTS, TeacherConfig, settings_from_yaml
    from neural_sparse.errors import InputError

    named, equals, weight = text.rpartition("=")
    try:
        value = float(weight) if equals else 1.0
    except ValueError:  # an equals sign of the name
        named, value = text, 1.0
    kind, _, name = (named or text).partition(":")
    if value < 0:
        raise InputError(f"--teacher {text}: the weight is negative")
    if kind in ENDPOINTS and name.endswith((".yaml", ".yml")):
        return replace(settings_from_yaml(TeacherConfig, Path(name)), weight=value)
    return TeacherConfig(kind, name or None, value)  # type: ignore[arg-type]  # it checks the kind


def _print(report: TeacherQuality, console: Console) -> None:
    from neural_sparse.report.tables import terminal_table

    headings = [
        "order of the candidates",
        "weight",
        f"all {report.queries:,} queries",
        f"held-back {report.held_back_queries:,}",
    ]
    best = dict(zip(range(len(report.teachers)), report.best_weights, strict=True))
    rows = [
        [
            standing.name,
            "" if standing.weight is None else f"{standing.weight:.2f}",
            "-" if standing.all_queries is None else f"{standing.all_queries:.4f}",
            f"{standing.held_back:.4f}",
        ]
        for standing in (report.first_stage, *report.teachers, report.ensemble, report.best, report.perfect)
    ]
    console.print(terminal_table(headings, rows, f"nDCG@10 of re-ranking {report.candidates}"))
    names = [f"{report.teachers[number].name} {weight:g}" for number, weight in best.items()]
    console.print(
        f"weights chosen on the other {report.queries - report.held_back_queries:,}: {', '.join(names)}"
    )
    console.print(
        f"{report.recall:.1%} of the relevant documents are among the candidates; the others are not added"
    )
    for warning in report.warnings:
        console.print(f"warning: {warning}", style="yellow")
