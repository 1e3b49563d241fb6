"""`neural-sparse deploy`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from neural_sparse.cli.login import Login, takes_login

if TYPE_CHECKING:
    from rich.console import Console

    from neural_sparse.opensearch.deploy import Deployed


@takes_login
def deploy(
    export: Path = typer.Argument(help="Folder written by `neural-sparse export`."),
    url: str = typer.Option(
        ...,
        envvar="OPENSEARCH_URL",
        help="Address of the cluster, such as https://search.example.org:9200, or of several nodes, parted by commas.",
    ),
    name: str | None = typer.Option(
        None, help="Name of the index (NAME-VERSION) and its pipelines.", show_default="the export's"
    ),
    alias: str | None = typer.Option(
        None, help="Name for searches; it goes to the new index at the end.", show_default="NAME"
    ),
    prune: str = typer.Option(
        "0.1", help="The ingest pipeline drops weights below this share of a document's greatest; or none."
    ),
    passages: int | None = typer.Option(
        None,
        min=1,
        help="Long documents: the ingest pipeline cuts them into passages of so many words, and the best one counts.",
        show_default="one vector, of what the model reads",
    ),
    overlap: float = typer.Option(0.2, min=0, max=0.5, help="Share of a passage that the next one repeats."),
    two_phase: bool = typer.Option(
        False,
        "--two-phase/--exact",
        help="Also make the search pipeline NAME-VERSION-two-phase, to be asked for by name: faster, not exact.",
    ),
    text_analyzer: str | None = typer.Option(
        None,
        help="Of the text field, for BM25 beside the model: english, german, cjk and others of the server's.",
        show_default="standard, which stems nothing",
    ),
    field: str = typer.Option(
        "rank_features", help="rank_features: exact. sparse_vector: approximate, with SEISMIC (3.3 or later)."
    ),
    approximate_threshold: int | None = typer.Option(
        None,
        min=0,
        help="sparse_vector: documents of a segment from which on clusters are made; below, searches are exact.",
        show_default="1000000, the server's",
    ),
    ingest: bool = typer.Option(
        True, "--ingest/--no-ingest", help="The cluster encodes documents; or they bring their vectors."
    ),
    remote: str | None = typer.Option(
        None,
        help="Documents are encoded by this endpoint, which the cluster calls (`neural-sparse endpoint`, `export "
        "--format remote`); its key is NEURAL_SPARSE_ENDPOINT_KEY.",
        show_default="a model on the cluster",
    ),
    remote_role: str | None = typer.Option(
        None, help="SageMaker: ARN of the role that the cluster takes on to call the endpoint."
    ),
    query: str = typer.Option(
        "model",
        help="Where query weights come from. model: the export's table on the cluster. analyzer: OpenSearch's own, if "
        "the same (3.1 or later). tokens: the caller.",
    ),
    corpus: Path | None = typer.Option(
        None,
        help="Fill the index with these documents and prove its rankings: corpus.jsonl, or a folder that holds it (and "
        "queries.jsonl). What is there is not sent again.",
    ),
    model: str | None = typer.Option(
        None, help="With --corpus and --no-ingest: the model that was exported, which encodes here."
    ),
    allow_settings: bool = typer.Option(
        False,
        "--allow-settings",
        help="Set what the cluster needs to run models; the right to upload is taken back at the end.",
    ),
    reindex: bool = typer.Option(
        False,
        "--reindex",
        help="Fill the new index with the documents that the alias names now, encoded anew.",
    ),
    switch: bool | None = typer.Option(
        None,
        "--switch/--no-switch",
        help="Let the alias go to the new index.",
        show_default="unless it has fewer documents than the old one",
    ),
    remove: bool = typer.Option(False, "--remove", help="Take it off: index, pipelines, models."),
    with_documents: bool = typer.Option(
        False, "--with-documents", help="With --remove: also an index that holds documents."
    ),
    time_limit: float = typer.Option(
        600.0, help="Seconds for one model to be deployed, or the index to be filled."
    ),
    busy_limit: float = typer.Option(120.0, help="Seconds that the cluster may be busy or away in between."),
    *,
    login: Login,
) -> None:
    """Put an export to work on an OpenSearch cluster, and prove that it answers as the model does.

    The same command again uses what is there and finishes what was half done. Another version stands beside the first.

    Examples:

      neural-sparse deploy export --url https://search.example.org:9200 --user admin --ca ca.pem

      neural-sparse deploy export --url https://search.example.org:9200 --user admin --corpus my-collection/

      neural-sparse deploy export-2 --url https://search.example.org:9200 --user admin --reindex

      neural-sparse deploy export --url https://search.example.org:9200 --user admin --remote https://encoder.example.org/invocations

      neural-sparse deploy export --url https://search.example.org:9200 --user admin --remove
    """
    import os

    import neural_sparse.opensearch.deploy as work
    from neural_sparse.errors import InputError
    from neural_sparse.io.terminal import console as make_console
    from neural_sparse.opensearch.deploy.exported import Exported
    from neural_sparse.opensearch.remote.connector import Remote
    from neural_sparse.opensearch.remote.inference import KEY

    if remote_role is not None and remote is None:
        raise InputError("--remote-role is for the endpoint of --remote")
    if with_documents and not remove:
        raise InputError("--with-documents is for --remove")
    options = work.DeployOptions(
        name,
        alias,
        ingest=ingest,
        remote=None if remote is None else Remote(remote, remote_role, key=os.environ.get(KEY) or None),
        query=query,  # type: ignore[arg-type]
        prune=share(prune),
        passages=passages,
        overlap=overlap,
        approximate_threshold=approximate_threshold,
        two_phase=two_phase,
        field=field,  # type: ignore[arg-type]
        allow_settings=allow_settings,
        reindex=reindex,
        text_analyzer=text_analyzer,
        switch=switch,
    )
    patience = work.Patience(busy=busy_limit, task=time_limit)
    exported = Exported.open(export)  # before the cluster is asked
    documents = None
    if model is not None and corpus is None:
        raise InputError("--model encodes the documents of --corpus; give that too")
    if corpus is not None:
        from neural_sparse.corpora.corpus_file import corpus_file, read_corpus, read_queries

        if remove or reindex:
            raise InputError("--corpus fills the index; leave --remove and --reindex out")
        encoder = None
        if model is not None:
            from neural_sparse.model.encoder import NeuralSparseEncoder

            encoder = NeuralSparseEncoder(model, exported.max_length)
        asked = corpus / "queries.jsonl"
        queries = list(read_queries(asked).values()) if asked.is_file() else []
        documents = work.Documents(*read_corpus(corpus_file(corpus)), encoder, queries)
    client = login.client(url)
    console = make_console(160)
    if remove:
        removed = work.remove(
            client, export, options, patience=patience, where=url, with_documents=with_documents
        )
        for one in removed:
            console.print(f"removed {one}")
        if not removed:
            console.print("nothing of it was there")
        return
    done = work.deploy(client, export, options, patience=patience, where=url, documents=documents)
    _show(done, url, console)
    if corpus is not None:
        name_of = done.plan.alias if done.alias_of == done.plan.index else done.plan.index
        console.print(
            f"judge it: neural-sparse evaluate opensearch:{name_of} --url {url} --collection {corpus}"
        )


def share(prune: str) -> float | None:
    from neural_sparse.errors import InputError

    if prune == "none":
        return None
    try:
        return float(prune)
    except ValueError:
        raise InputError(f"--prune {prune!r}: a share such as 0.1, or none") from None


def _show(done: Deployed, url: str, console: Console) -> None:
    import json

    from neural_sparse.opensearch.parity import parity_table

    plan = done.plan
    table = parity_table(done.checks)
    table.title = "The cluster against the export"
    console.print(table)
    for role, model in done.models.items():
        console.print(f"{role}: model {model.model_id}, {model.how}")
    there = "there already" if done.index_was_there else "new"
    console.print(f"index {plan.index}: {there}, {done.documents:,} documents (OpenSearch {done.version})")
    if done.loaded is not None:
        console.print(f"sent {done.loaded.indexed:,} documents; {done.loaded.resumed:,} were there")
    console.print(f"alias {plan.alias}: {done.alias_of or 'not set'}")
    for remark in done.remarks:
        console.print(f"note: {remark}", style="yellow")
    query = json.dumps(plan.query("sort a list", {"sort": 1.0, "list": 1.0}), ensure_ascii=False)
    name = plan.alias if done.alias_of == plan.index else plan.index
    console.print(f"search it: POST {url.split(',')[0].rstrip('/')}/{name}/_search {query}")
    if plan.two_phase_pipeline is not None:
        console.print(f"or, faster and not exact: ...?search_pipeline={plan.two_phase_pipeline}")
