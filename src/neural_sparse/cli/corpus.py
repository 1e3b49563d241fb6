"""`neural-sparse encode`."""

from __future__ import annotations

from pathlib import Path

import typer

CORPUS_HELP = (
    "A corpus.jsonl ({_id, title?, text} per line), a folder that holds one, or a .txt (a text per line)."
)


def encode(
    model: str = typer.Argument(help="A trained model: folder, hub id, or folder inside a package."),
    corpus: Path = typer.Option(help=CORPUS_HELP),
    output: Path = typer.Option(help="Folder for the index, the texts and the query side."),
    max_length: int | None = typer.Option(
        None, min=3, help="Tokens per document; the model's own limit if not given."
    ),
    max_ratio: float = typer.Option(
        0.0, help="Drop terms that weigh less than this share of a document's heaviest."
    ),
    top_k: int | None = typer.Option(None, min=1, help="Keep at most this many terms per document."),
    bf16: bool = typer.Option(False, help="Multiply in bfloat16: faster where the hardware has it."),
    workers: int | None = typer.Option(
        None, min=1, help="Processes; one per GPU, or one on a CPU, if not given."
    ),
) -> None:
    """Encode a corpus once; the folder is all that `search` needs, without the model.

    The same command goes on where an interrupted one stopped.
    """
    from rich.console import Console
    from rich.table import Table

    from neural_sparse.model.pruning import Pruning
    from neural_sparse.search.encode_corpus import encode_corpus
    from neural_sparse.search.encoded import EncodedCollection

    done = encode_corpus(
        model,
        corpus,
        output,
        max_length=max_length,
        pruning=Pruning(max_ratio, top_k),
        bf16=bf16,
        workers=workers,
    )
    about = EncodedCollection(output).about
    table = Table(show_header=False)
    rate = (
        f" in {done.seconds:,.0f} s ({done.encoded / done.seconds:,.0f} per second)" if done.encoded else ""
    )
    table.add_row("documents", f"{done.documents:,}")
    table.add_row("encoded now", f"{done.encoded:,}{rate}")
    table.add_row(f"cut at {about['max_length']} tokens", f"{done.truncated:,}")
    table.add_row("terms per document", f"{about['nonzero_terms']:.1f}")
    table.add_row("index", f"{about['index_bytes'] / 1e6:,.1f} MB")
    console = Console()
    console.print(table)
    console.print(f"search them: neural-sparse search {output}")
