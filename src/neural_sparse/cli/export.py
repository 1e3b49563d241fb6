"""`neural-sparse export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from neural_sparse.opensearch.export import Export, ExportOptions


def export(
    model: str = typer.Argument(help="A doc-only model: folder, hub id, or folder inside a package."),
    output: Path = typer.Option(..., "--output", "-o", help="Folder to write; must not exist yet."),
    idf: Path | None = typer.Option(None, help="Query weights to use instead of the model's (idf.json)."),
    max_length: int | None = typer.Option(
        None, min=3, help="Tokens per document.", show_default="the model's"
    ),
    collection: str | None = typer.Option(
        None, "--collection", "-c", help="Collection on which rankings are compared too (folder or name)."
    ),
    split: str = typer.Option("test", help="Which qrels/SPLIT.tsv to judge by."),
    name: str | None = typer.Option(None, help="Name on the server.", show_default="from the model"),
    version: str = typer.Option("1.0.0", "--model-version", help="Version on the server."),
    int8: bool = typer.Option(False, help="Also write an int8 document side, with what it costs."),
    onnx: bool = typer.Option(False, help="Also write the document side as ONNX (extra: onnx)."),
    libtorch: list[str] = typer.Option(
        ["1.13.1", "2.5.1"],
        help="Versions that have to load the model: 1.13.1 is OpenSearch 2.15-2.19, 2.5.1 is 3.0-3.8.",
    ),
    clip_query_weights: bool = typer.Option(
        False, "--clip-query-weights", help="Move query weights outside (0, 64] into it."
    ),
    uniform_query_weights: bool = typer.Option(
        False, "--uniform-query-weights", help="Accept a model whose query weights are all 1."
    ),
) -> None:
    """Write a model for OpenSearch, and prove that it scores as the model does.

    Example: neural-sparse export outputs/mine/final_model -o export -c my-collection
    """
    from neural_sparse.opensearch.export import ExportOptions

    options = ExportOptions(
        name, version, tuple(libtorch), int8, onnx, clip_query_weights, uniform_query_weights
    )
    export_and_show(model, output, options, idf, max_length, collection, split)


def export_and_show(
    model: str,
    output: Path,
    options: ExportOptions,
    idf: Path | None = None,
    max_length: int | None = None,
    collection: str | None = None,
    split: str = "test",
) -> Export:
    """Export a model by name and print what was found."""
    from rich.console import Console

    from neural_sparse.evaluation.sources import load_collection
    from neural_sparse.model.encoder import NeuralSparseEncoder
    from neural_sparse.opensearch.export import export_model, require_new

    require_new(output)  # before anything is loaded
    loaded = load_collection(collection, split) if collection else None
    done = export_model(NeuralSparseEncoder(model, max_length, idf=idf), output, loaded, options)
    show_export(done, Console(width=None if Console().is_terminal else 160))
    return done


def show_export(done: Export, console: Console) -> None:
    """The parity table, the packages, and what to do next."""
    from rich.table import Table

    from neural_sparse.opensearch.parity import parity_table

    console.print(parity_table(done.checks))
    table = Table(title="Packages", title_justify="left")
    table.add_column("file")
    table.add_column("bytes", justify="right")
    table.add_column("chunks", justify="right")
    table.add_column("sha256")
    for package in done.packages:
        file = str(package.path.relative_to(done.folder))
        table.add_row(file, f"{package.size:,}", str(package.total_chunks), package.sha256)
    console.print(table)
    console.print(
        f"{len(done.operators)} operators, all known to the libtorch versions asked for "
        f"(listed in {done.folder / 'export.json'})"
    )
    for remark in done.remarks:
        console.print(f"note: {remark}; moved into (0, 64]", style="yellow", markup=False)
    console.print(f"deploy it: OPENSEARCH_URL=... OPENSEARCH_USER=... {done.folder / 'deploy.sh'}")
