"""`neural-sparse search` and `neural-sparse explain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from neural_sparse.search.encoded import EncodedCollection


def search(
    folder: Path = typer.Argument(help="A folder made by `neural-sparse encode`."),
    query: list[str] | None = typer.Argument(None, help="What to look for; asks for queries if not given."),
    k: int = typer.Option(5, min=1, help="Documents to show."),
    why: bool = typer.Option(
        False, "--explain", help="Show the tokens that matched and those the model added."
    ),
    count_repeats: bool = typer.Option(
        False, "--count-repeats", help="A repeated token of the query weighs as often as it is there."
    ),
    verify: bool = typer.Option(
        True, help="Compare every file with its checksum first, which reads all of them; else their sizes."
    ),
) -> None:
    """Search an encoded collection. Needs only the tokenizer and the weight table, no transformer."""
    from neural_sparse.io.terminal import console as make_console
    from neural_sparse.search.encoded import EncodedCollection

    console = make_console()
    if not verify:
        console.print("sizes are compared and no checksums: a damaged file may go unnoticed", style="dim")
    collection = EncodedCollection(folder, verify)
    collection.count_repeats = count_repeats
    if query:
        _show(collection, " ".join(query), k=k, why=why, console=console)
        return
    console.print(f"{len(collection.doc_ids):,} documents. Type a query; an empty line ends.")
    while text := _ask():
        _show(collection, text, k=k, why=why, console=console)


def _ask() -> str:
    try:
        return input("query> ").strip()
    except EOFError:
        return ""


def _show(collection: EncodedCollection, query: str, k: int, why: bool, console: Console) -> None:
    import time

    from rich.text import Text

    from neural_sparse.report.explained import explain_hit, explained_search
    from neural_sparse.text.tokens import tokenize, top_terms, vocabulary

    started = time.perf_counter()
    vector = collection.encode_queries([query])
    hits = collection.index.search(vector, k)
    milliseconds = 1000 * (time.perf_counter() - started)
    rows = [int(row) for row in hits.docs[0] if row >= 0]
    if vector.nnz == 0:
        console.print("none of the query's tokens is known to the model, so nothing can match")
        return
    if not rows:
        console.print("no document holds any of the query's tokens")
        return
    if why:
        names = vocabulary(collection.tokenizer)
        max_length = collection.about["max_length"]
        documents = collection.index.vectors(rows)
        explained = []
        for place, row in enumerate(rows):
            text = collection.text(row)
            own = {names[token] for token in tokenize([text], collection.tokenizer, max_length, True).ids}
            weights = dict(top_terms(documents[place], names))
            explained.append(
                explain_hit(
                    collection.doc_ids[row],
                    text,
                    query_weights=dict(top_terms(vector[0], names)),
                    doc_weights=weights,
                    text_tokens=own,
                )
            )
        console.print(explained_search(query, explained))
        return
    for place, row in enumerate(rows, start=1):
        text = " ".join(collection.text(row).split())
        console.print(
            Text.assemble(
                (f"{place}. {collection.doc_ids[row]}", "bold"), f"  {hits.scores[0][place - 1]:.2f}"
            )
        )
        console.print(f"   {text[:200]}{'…' if len(text) > 200 else ''}")
    console.print(f"{milliseconds:.1f} ms", style="dim")


def explain(
    model: str = typer.Argument(help="A model: folder, hub id, or folder inside a package."),
    text: str = typer.Argument(help="A document's text."),
    query: str | None = typer.Option(
        None, help="Also show how this query scores the document, token by token."
    ),
    top: int = typer.Option(30, min=1, help="Tokens to show."),
) -> None:
    """Show the tokens a model gives a text, and why a query would find it."""
    from neural_sparse.io.terminal import console as make_console
    from neural_sparse.model.encoder import NeuralSparseEncoder
    from neural_sparse.report.explained import explain_hit, explained_search
    from neural_sparse.report.tables import terminal_table

    encoder = NeuralSparseEncoder(model)
    vector = encoder.encode_documents([text])
    own = encoder.text_tokens(text)
    terms = encoder.top_terms(vector)
    console = make_console()
    idf = encoder.idf_table()
    rows = [
        [token, f"{weight:.3f}", f"{idf[token]:.2f}", "" if token in own else "added by the model"]
        for token, weight in terms[:top]
    ]
    console.print(terminal_table(["token", "weight", "IDF", ""], rows, f"{len(terms)} tokens"))
    if query is not None:
        weights = dict(encoder.top_terms(encoder.encode_queries([query])))
        if not weights:
            console.print("none of the query's tokens is known to the model")
            return
        console.print(
            explained_search(
                query,
                [
                    explain_hit(
                        "document", text, query_weights=weights, doc_weights=dict(terms), text_tokens=own
                    )
                ],
            )
        )
