"""`neural-sparse`."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from importlib import metadata

import typer

from neural_sparse.cli.ab_test import app as ab_test
from neural_sparse.cli.adapt import adapt
from neural_sparse.cli.average import average
from neural_sparse.cli.commands import TextCommand
from neural_sparse.cli.compare import compare
from neural_sparse.cli.data import app as data
from neural_sparse.cli.deploy import deploy
from neural_sparse.cli.doctor import doctor
from neural_sparse.cli.encode import encode
from neural_sparse.cli.endpoint import endpoint
from neural_sparse.cli.evaluate import evaluate
from neural_sparse.cli.export import export, push
from neural_sparse.cli.idf import app as idf
from neural_sparse.cli.judge_teachers import judge_teachers
from neural_sparse.cli.load_test import load_test
from neural_sparse.cli.make_start import make_start
from neural_sparse.cli.mine import mine
from neural_sparse.cli.plan import plan
from neural_sparse.cli.quickstart import quickstart
from neural_sparse.cli.recipes import recipes
from neural_sparse.cli.refresh import refresh
from neural_sparse.cli.search import explain, search
from neural_sparse.cli.serve import serve
from neural_sparse.cli.sweep import sweep
from neural_sparse.cli.teach import app as teach
from neural_sparse.cli.train import train
from neural_sparse.cli.verify import verify
from neural_sparse.errors import InputError
from neural_sparse.io.resources import keep_memory
from neural_sparse.io.terminal import replace_what_cannot_be_shown

app = typer.Typer(
    help="Train, judge and ship inference-free neural sparse retrievers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
)
COMMANDS = (
    quickstart,
    adapt,
    refresh,
    make_start,
    mine,
    judge_teachers,
    recipes,
    plan,
    train,
    sweep,
    average,
    doctor,
    evaluate,
    compare,
    encode,
    search,
    explain,
    serve,
    export,
    verify,
    deploy,
    endpoint,
    load_test,
    push,
)
for command in COMMANDS:
    app.command(cls=TextCommand if command in (search, explain) else None)(command)
app.add_typer(idf, name="idf")
app.add_typer(teach, name="teach")
app.add_typer(data, name="data")
app.add_typer(ab_test, name="ab-test")


TRAINING = (
    "train",
    "quickstart",
    "adapt",
    "sweep",
)  # commands whose steps take and free the same memory again and again


def _version(asked: bool) -> None:
    if asked:
        print(f"neural-sparse {metadata.version('neural-sparse')}")
        raise typer.Exit


@app.callback()
def settings(
    context: typer.Context,
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Say more about what is going on."),
    version: bool = typer.Option(
        False, "--version", help="Show the version and exit.", is_eager=True, callback=_version
    ),
) -> None:
    if context.invoked_subcommand in TRAINING:
        keep_memory()
    # Before torch is imported. Threads that share a product of matrices wait for the last of them; by default OpenMP
    # lets them spin for milliseconds, which takes the core that the last one needs where other programs run, too. This
    # is what it takes itself where it knows of more threads than cores: docs/performance.md.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # Before transformers is imported; its own bars would tear ours.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("neural_sparse").setLevel(logging.DEBUG if verbose else logging.INFO)
    for library in (
        "sentence_transformers",
        "opensearch",
    ):  # the latter shows a traceback of what is told in a line
        logging.getLogger(library).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)  # of libraries, to their own developers


def main() -> None:
    replace_what_cannot_be_shown()
    try:
        app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)
