"""`neural-sparse doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from neural_sparse.doctor import Examination


def doctor(
    paths: list[str] | None = typer.Argument(
        None,
        metavar="[PATH]...",
        help="An IDF table, a model folder, a run folder; the machine if none is given.",
    ),
    model: str | None = typer.Option(None, help="Model whose tokenizer IDF tables have to fit."),
    backbone: list[str] | None = typer.Option(
        None, help="A model to start from: what stands in its way, and the recipe's keys that help."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of tables."),
) -> None:
    """Say what is wrong with this machine, an IDF table, a model, a run or a backbone, and which key to change.

    Ends with status 1 if there is a problem; a warning is none.

    Example: neural-sparse doctor outputs/mine outputs/mine/final_model
    """
    import contextlib
    import json
    from dataclasses import asdict

    from rich.text import Text

    from neural_sparse.doctor.examine import examine, examine_backbone, kind_of
    from neural_sparse.errors import InputError
    from neural_sparse.io.terminal import console as make_console

    kinds = [kind_of(path) for path in paths or ()]  # before minutes are spent on the first
    if model is not None and "idf" not in kinds:
        raise InputError("--model goes with an IDF table: neural-sparse doctor idf.json --model MODEL")
    errors = make_console(stderr=True)
    waiting = errors.status("looking at ...") if errors.is_terminal else contextlib.nullcontext()
    found: list[Examination] = []
    with waiting as status:
        for name in backbone or ():
            if status is not None:
                status.update(Text(f"looking at {name}"))
            found.append(examine_backbone(name))
        for path in paths or (() if backbone else (None,)):
            if status is not None:
                what = path or "this machine (torch.compile takes up to a minute)"
                status.update(Text(f"looking at {what}"))  # a path is no markup
            found.append(examine(path, model))
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=2, ensure_ascii=False))
    else:
        _print(found)
    if any(one.problems for one in found):
        raise typer.Exit(1)


CHANGED = (
    "A run with changed keys needs another output=, --overwrite, which starts anew, or --resume-anyway, which goes on "
    "from the last checkpoint (a finished run with more num_steps)."
)


def _print(found: Sequence[Examination]) -> None:
    from rich.text import Text

    from neural_sparse.io.terminal import console as make_console
    from neural_sparse.report.tables import terminal_table

    console = make_console()
    colours = {"ok": "green", "warning": "yellow", "problem": "bold red"}
    titles = {
        "machine": "this machine",
        "idf": "IDF table",
        "model": "model",
        "run": "run",
        "backbone": "backbone",
    }
    for one in found:
        rows = [
            [finding.check, finding.found, Text(finding.verdict, colours[finding.verdict]), finding.advice]
            for finding in one.findings
        ]
        console.print(Text(f"{titles[one.kind]} {one.path}".rstrip(), "bold"))
        console.print(terminal_table(["check", "found", "verdict", "advice"], rows, frame=False))
        if one.kind == "run" and one.problems + one.warnings:
            console.print(Text(CHANGED))
        verdict = f"{one.problems} problems, {one.warnings} warnings"
        console.print(Text("healthy\n" if not one.problems + one.warnings else f"{verdict}\n"))
