"""`neural-sparse export` and `neural-sparse push`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from neural_sparse.opensearch.export import Export, ExportOptions


def export(
    model: str = typer.Argument(
        help="A doc-only model: folder, hub id, or folder inside a package. For formats that hold documents also "
        "a folder made by `neural-sparse encode`; for remote the folder of an export."
    ),
    output: Path = typer.Option(..., "--output", "-o", help="Folder to write; must not exist yet."),
    kind: str = typer.Option(
        "opensearch",
        "--format",
        "-f",
        help="opensearch: packages for ML Commons. rank_features: documents for _bulk of any OpenSearch or "
        "Elasticsearch. sparse_vector: for SEISMIC (3.3). elasticsearch, qdrant, milvus, pgvector, vespa, pinecone: "
        "documents, and a client that fills and asks the engine. elasticsearch-model: both sides of the model for "
        "Elasticsearch's machine learning. "
        "anserini, ciff: whole-number impacts. query: the query side alone, for services without torch. "
        "onnx: both sides, for servers without torch (`encode` takes the folder). fastembed: for that package. "
        "remote: an export's document side for SageMaker or another HTTP server, with the bodies of its connector. "
        "sentence-transformers: the model with its card.",
    ),
    idf: Path | None = typer.Option(None, help="Query weights to use instead of the model's (idf.json)."),
    max_length: int | None = typer.Option(
        None, min=3, help="Tokens per document.", show_default="the model's"
    ),
    corpus: Path | None = typer.Option(
        None,
        help="Documents of the formats that hold some: corpus.jsonl, or a folder that holds it (and queries.jsonl).",
    ),
    collection: str | None = typer.Option(
        None,
        "--collection",
        "-c",
        help="opensearch: collection on which rankings are compared too (folder or name).",
    ),
    split: str = typer.Option("test", help="Which qrels/SPLIT.tsv of it to judge by."),
    name: str | None = typer.Option(None, help="Name on the server.", show_default="from the model"),
    version: str = typer.Option("1.0.0", "--model-version", help="Version on the server."),
    int8: bool = typer.Option(
        False, "--int8", help="opensearch: also an int8 document side, with what it costs. onnx: one in int8."
    ),
    onnx: bool = typer.Option(
        False, "--onnx", help="opensearch: also the document side as ONNX (extra: onnx)."
    ),
    prune: str = typer.Option(
        "0.1",
        help="opensearch: what the parity table takes for the ingest pipeline's pruning, as of `deploy`: a share of a "
        "document's greatest weight, or none.",
    ),
    two_phase: bool = typer.Option(
        True,
        "--two-phase/--exact",
        help="opensearch: whether the parity table looks at two-phase search too.",
    ),
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
    """Write a model for OpenSearch and prove that it scores as the model does; or its vectors for other engines.

    Examples:

      neural-sparse export outputs/mine/final_model -o export -c my-collection

      neural-sparse export outputs/mine/index -f rank_features -o bulk --corpus my-collection
    """
    from neural_sparse.engines.formats import LONGEST_IDS, VECTOR_FORMATS, write_vectors
    from neural_sparse.errors import InputError
    from neural_sparse.io.files import check_output_folder
    from neural_sparse.io.terminal import console as make_console
    from neural_sparse.opensearch.export import ExportOptions

    if kind == "opensearch":
        from neural_sparse.cli.deploy import share

        options = ExportOptions(
            name,
            version,
            libtorch=tuple(libtorch),
            int8=int8,
            onnx=onnx,
            clip_query_weights=clip_query_weights,
            uniform_query_weights=uniform_query_weights,
            prune=share(prune),
            two_phase=two_phase,
        )
        export_and_show(
            model, output, options=options, idf=idf, max_length=max_length, collection=collection, split=split
        )
    elif kind in VECTOR_FORMATS:
        from neural_sparse.engines.vectors import vector_source

        check_output_folder(output)
        source = vector_source(
            model,
            corpus,
            idf=idf,
            max_length=max_length,
            uniform_query_weights=uniform_query_weights,
            longest_id=LONGEST_IDS.get(kind),
        )
        about = write_vectors(kind, output, source)
        make_console().print(
            f"{about['documents']:,} documents and {about['queries']:,} queries written to {output} ({kind})"
        )
        for remark in about.get("remarks", ()):
            make_console().print(f"note: {remark}", style="yellow")
    elif kind == "query":
        from neural_sparse.engines.query_package import write_query_package
        from neural_sparse.model.encoder import NeuralSparseEncoder

        check_output_folder(output)
        about = write_query_package(NeuralSparseEncoder(model, max_length, idf=idf, device="cpu"), output)
        make_console().print(
            f"query side of {model} ({about['tokens']:,} tokens) written to {output}; "
            "tokenizers and numpy are all it needs"
        )
    elif kind == "onnx":
        from neural_sparse.engines.onnx_package import write_onnx_package
        from neural_sparse.model.encoder import NeuralSparseEncoder

        check_output_folder(output)
        about = write_onnx_package(
            NeuralSparseEncoder(model, max_length, idf=idf, device="cpu"), output, int8=int8
        )
        (parity,) = about["parity"]
        make_console().print(
            f"{model} written to {output}; weights of {parity['cases']} texts differ by {parity['difference']:.1e} "
            f"at most\nencode without torch: neural-sparse encode {output} --corpus CORPUS --output INDEX"
        )
    elif kind == "elasticsearch-model":
        from neural_sparse.engines.elastic_model import write_elasticsearch_model
        from neural_sparse.model.encoder import NeuralSparseEncoder

        check_output_folder(output)
        about = write_elasticsearch_model(
            NeuralSparseEncoder(model, max_length, idf=idf, device="cpu"), output
        )
        worst = max(check["difference"] for check in about["parity"])
        make_console().print(
            f"{model} written to {output}; weights differ by {worst:.1e} at most; README.md says how eland brings it "
            "into Elasticsearch"
        )
    elif kind == "fastembed":
        from neural_sparse.engines.fastembed import write_fastembed
        from neural_sparse.model.encoder import NeuralSparseEncoder

        check_output_folder(output)
        about = write_fastembed(NeuralSparseEncoder(model, max_length, idf=idf, device="cpu"), output)
        make_console().print(
            f"{model} written to {output}; weights differ by {about['parity'][0]['difference']:.1e} at most; "
            "README.md says how fastembed loads it"
        )
    elif kind == "remote":
        from neural_sparse.opensearch.remote_package import ARCHIVE, write_remote_package

        if idf is not None or max_length is not None:
            raise InputError("remote takes what was exported as it is; leave --idf and --max-length out")
        about = write_remote_package(model, output)
        make_console().print(
            f"{ARCHIVE} of {about['name']} {about['version']}, connector.json and register.json written to {output}"
        )
    elif kind == "sentence-transformers":
        _push(
            model,
            None,
            output=output,
            idf=idf,
            max_length=max_length,
            uniform_query_weights=uniform_query_weights,
        )
    else:
        known = ", ".join(
            (
                "opensearch",
                *VECTOR_FORMATS,
                "elasticsearch-model",
                "query",
                "onnx",
                "fastembed",
                "remote",
                "sentence-transformers",
            )
        )
        raise InputError(f"unknown --format {kind!r}: choose from {known}")


def push(
    model: str = typer.Argument(help="A doc-only model: folder, hub id, or folder inside a package."),
    repository: str | None = typer.Argument(
        None, metavar="OWNER/NAME", help="Where it goes on the hub.", show_default=False
    ),
    output: Path | None = typer.Option(
        None, "--output", "-o", help="Also keep the folder here; must not exist yet."
    ),
    idf: Path | None = typer.Option(None, help="Query weights to use instead of the model's (idf.json)."),
    max_length: int | None = typer.Option(
        None, min=3, help="Tokens per document.", show_default="the model's"
    ),
    evaluation: Path | None = typer.Option(
        None, help="Folder written by `neural-sparse evaluate`, for the model card."
    ),
    license_id: str | None = typer.Option(
        None, "--license", help="Licence of the weights, such as apache-2.0."
    ),
    public: bool = typer.Option(
        False, "--public", help="Make a new repository public; private if not given."
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Write and check everything, upload nothing."),
    uniform_query_weights: bool = typer.Option(
        False, "--uniform-query-weights", help="Accept a model whose query weights are all 1."
    ),
) -> None:
    """Write a sentence-transformers folder with a model card, check that it loads and scores alike, and upload it.

    The token comes from HF_TOKEN or `hf auth login`.
    """
    from neural_sparse.errors import InputError

    if repository is None and not dry_run:
        raise InputError("name the repository (OWNER/NAME), or say --dry-run")
    _push(
        model,
        repository,
        output=output,
        idf=idf,
        max_length=max_length,
        evaluation=evaluation,
        license_id=license_id,
        uniform_query_weights=uniform_query_weights,
        upload=not dry_run,
        private=not public,
    )


def _push(
    model: str,
    repository: str | None,
    output: Path | None,
    idf: Path | None,
    max_length: int | None,
    evaluation: Path | None = None,
    license_id: str | None = None,
    uniform_query_weights: bool = False,
    upload: bool = False,
    private: bool = True,
) -> None:
    from neural_sparse.hub.push import prepare_folder, upload_folder
    from neural_sparse.io.files import check_output_folder
    from neural_sparse.io.terminal import console as make_console
    from neural_sparse.model.encoder import NeuralSparseEncoder
    from neural_sparse.opensearch.parity import parity_table

    if output is not None:
        check_output_folder(output)
    console = make_console(160)
    encoder = NeuralSparseEncoder(model, max_length, idf=idf)
    prepared = prepare_folder(
        encoder,
        repository,
        output=output,
        evaluation=evaluation,
        license_id=license_id,
        uniform_query_weights=uniform_query_weights,
    )
    with prepared as (folder, checks):
        console.print(parity_table(checks))
        console.print(_files_table(folder))
        if upload and repository is not None:
            console.print(f"uploaded: {upload_folder(folder, repository, private)}")
        else:
            console.print(f"nothing was uploaded{f'; written to {output}' if output else ''}")


def _files_table(folder: Path) -> Table:
    from neural_sparse.io.files import sha256_file
    from neural_sparse.report.tables import terminal_table

    files = sorted(path for path in folder.rglob("*") if path.is_file())
    rows = [
        [str(file.relative_to(folder)), f"{file.stat().st_size:,}", sha256_file(file)[:16]] for file in files
    ]
    return terminal_table(["file", "bytes", "sha256"], rows, "Files")


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
    from neural_sparse.corpora.names import load_collection
    from neural_sparse.io.files import check_output_folder
    from neural_sparse.io.terminal import console as make_console
    from neural_sparse.model.encoder import NeuralSparseEncoder
    from neural_sparse.opensearch.export import export_model

    check_output_folder(output)  # before anything is loaded
    loaded = load_collection(collection, split) if collection else None
    done = export_model(NeuralSparseEncoder(model, max_length, idf=idf), output, loaded, options)
    show_export(done, make_console(160))
    return done


def show_export(done: Export, console: Console) -> None:
    """The parity table, the packages, and what to do next."""
    from neural_sparse.opensearch.parity import parity_table
    from neural_sparse.report.tables import terminal_table

    console.print(parity_table(done.checks))
    rows = [
        [
            str(package.path.relative_to(done.folder)),
            f"{package.size:,}",
            str(package.total_chunks),
            package.sha256,
        ]
        for package in done.packages
    ]
    console.print(terminal_table(["file", "bytes", "chunks", "sha256"], rows, "Packages"))
    console.print(
        f"{len(done.operators)} operators, all known to the libtorch versions asked for "
        f"(listed in {done.folder / 'export.json'})"
    )
    for remark in done.remarks:
        console.print(f"note: {remark}; moved into (0, 64]", style="yellow")
    console.print(f"deploy it: neural-sparse deploy {done.folder} --url https://...")
