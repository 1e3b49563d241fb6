"""`neural-sparse encode`."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import typer

from neural_sparse.cli.engine import ADDRESS, ENGINE, EngineName, chosen_engine

CORPUS_HELP = (
    "A corpus.jsonl ({_id, title?, text} per line), a folder that holds one, or a .txt (a text per line); "
    "a path or a URL (s3://, gs://, hf://)."
)


class BackendName(StrEnum):
    """What multiplies."""

    torch = "torch"
    onnx = "onnx"
    openvino = "openvino"


def encode(
    model: str = typer.Argument(
        help="A trained model: folder, hub id, or folder inside a package; or what `export --format onnx` wrote."
    ),
    corpus: str = typer.Option(help=CORPUS_HELP),
    output: str = typer.Option(
        ..., "--output", "-o", help="Folder or URL for the index, the texts and the query side."
    ),
    max_length: int | None = typer.Option(
        None, min=3, help="Tokens per document; the model's own limit if not given."
    ),
    max_ratio: float = typer.Option(
        0.0, help="Drop terms that weigh less than this share of a document's heaviest."
    ),
    top_k: int | None = typer.Option(None, min=1, help="Keep at most this many terms per document."),
    passages: int | None = typer.Option(
        None,
        min=8,
        help="Split documents at sentence ends into passages of at most so many tokens; the best one makes the score.",
    ),
    field: list[str] = typer.Option(
        [], help="Metadata to keep for filters: a name in each row's `metadata`, or in the row. Repeatable."
    ),
    bf16: bool = typer.Option(False, help="Multiply in bfloat16: faster where the hardware has it."),
    backend: BackendName | None = typer.Option(
        None,
        "--backend",
        help="onnx, openvino: an ONNX export on a CPU, without torch.",
        show_default="torch; onnx for an ONNX export",
    ),
    workers: int | None = typer.Option(
        None, min=1, help="Processes; one per GPU, or one on a CPU, if not given. On Ray: all of the cluster."
    ),
    threads: int | None = typer.Option(
        None, min=1, help="Of each worker on a CPU.", show_default="the cores shared out; 1 on Ray"
    ),
    update: bool = typer.Option(
        False,
        "--update",
        help="Add the corpus to the folder that is there: only new and changed documents are encoded, as those before.",
    ),
    delete_missing: bool = typer.Option(
        False, "--delete-missing", help="With --update: delete documents that the corpus does not hold."
    ),
    engine: EngineName = ENGINE,
    address: str | None = ADDRESS,
) -> None:
    """Encode a corpus once; the folder is all that `search` needs, without the model.

    The same command goes on where an interrupted one stopped.
    """
    if update or delete_missing:
        given = {
            "--max-length": max_length,
            "--max-ratio": max_ratio,
            "--top-k": top_k,
            "--passages": passages,
            "--field": field,
            "--bf16": bf16,
            "--backend": backend,
        }
        _update(model, corpus, output, update=update, delete_missing=delete_missing, given=given)
        return
    from neural_sparse.io.files import read_json
    from neural_sparse.io.terminal import console as make_console
    from neural_sparse.io.urls import location, read_from
    from neural_sparse.model.pruning import Pruning
    from neural_sparse.report.tables import terminal_table
    from neural_sparse.search.encode_corpus import encode_corpus
    from neural_sparse.search.encoded import MANIFEST

    with chosen_engine(engine, address, threads=threads) as chosen:
        done = encode_corpus(
            model,
            corpus,
            output,
            max_length=max_length,
            pruning=Pruning(max_ratio, top_k),
            passages=passages,
            fields=field,
            bf16=bf16,
            backend=None if backend is None else backend.value,
            workers=workers,
            threads=threads,
            engine=chosen,
        )
    with read_from(location(output) / MANIFEST) as manifest:
        about = read_json(manifest)
    rate = (
        f" in {done.seconds:,.0f} s ({done.encoded / done.seconds:,.0f} per second)" if done.encoded else ""
    )
    rows = [
        ["documents", f"{done.documents:,}"],
        ["encoded now", f"{done.encoded:,}{rate}"],
        [f"cut at {about['max_length']} tokens", f"{done.truncated:,}"],
        ["terms per document", f"{about['nonzero_terms']:.1f}"],
        ["index", f"{about['index_bytes'] / 1e6:,.1f} MB"],
    ]
    console = make_console()
    console.print(terminal_table(["", ""], rows))
    console.print(f"search them: neural-sparse search {output}")


def _update(
    model: str, corpus: str, output: str, update: bool, delete_missing: bool, given: Mapping[str, object]
) -> None:
    from neural_sparse.errors import InputError
    from neural_sparse.io.terminal import console as make_console
    from neural_sparse.io.urls import Url, location
    from neural_sparse.report.tables import terminal_table
    from neural_sparse.search.updating import update_corpus

    if not update:
        raise InputError("--delete-missing goes with --update")
    if named := [name for name, value in given.items() if value]:
        raise InputError(f"{named[0]}: an update encodes as the collection was encoded; leave it out")
    if isinstance(folder := location(output), Url):
        raise InputError(f"{output}: only a folder on this disk can be updated; encode the corpus again")
    done = update_corpus(model, corpus, folder, delete_missing=delete_missing)
    rows = [
        [name, f"{getattr(done, name):,}"]
        for name in ("added", "replaced", "unchanged", "deleted", "documents")
    ]
    make_console().print(terminal_table(["", ""], rows))
