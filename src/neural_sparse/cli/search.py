"""`neural-sparse search` and `neural-sparse explain`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import scipy.sparse as sp
    from rich.console import Console

    from neural_sparse.search.bm25 import BM25Index
    from neural_sparse.search.encoded import EncodedCollection
    from neural_sparse.search.snapshot import Snapshot

NO_FIELDS = "--filter and --fuse: the other ranking knows no fields; leave one of them out"


def search(
    folder: Path = typer.Argument(help="A folder made by `neural-sparse encode`."),
    query: list[str] | None = typer.Argument(None, help="What to look for; asks for queries if not given."),
    k: int = typer.Option(5, "--k", "-k", min=1, help="Documents to show, or to write for each query."),
    why: bool = typer.Option(
        False, "--explain", help="Show the tokens that matched and those the model added."
    ),
    filters: list[str] = typer.Option(
        [],
        "--filter",
        help='On fields that `encode --field` kept: "year>=2000", "lang=en", "tags=a,b" (one is enough). Repeatable.',
    ),
    count_repeats: bool = typer.Option(
        False, "--count-repeats", help="A repeated token of the query weighs as often as it is there."
    ),
    queries: Path | None = typer.Option(
        None, help="queries.jsonl, {_id, text} per line, or a .txt: search all of them, and write --output."
    ),
    output: Path | None = typer.Option(None, "--output", "-o", help="With --queries: a TREC run file."),
    fuse: str | None = typer.Option(
        None,
        help="Put another ranking beside it: bm25 (over the same texts), or with --queries a run file, such as of a "
        "dense system.",
    ),
    fusion: str = typer.Option(
        "rrf",
        help="How: rrf (reciprocal ranks), minmax (sum of scores moved to 0 .. 1), sum (of scores as they are).",
    ),
    weight: float = typer.Option(0.5, min=0, max=1, help="Of the collection's own ranking when it is fused."),
    recall: float | None = typer.Option(
        None,
        help="Approximate: score as few documents as find so much of the exact hits, such as 0.95, measured on "
        "--queries or on queries made of documents. For deep rankings of large collections; where it gains nothing the "
        "search is exact, as it is with --filter.",
        show_default="exact",
    ),
    verify: bool = typer.Option(
        True, help="Compare every file with its checksum first, which reads all of them; else their sizes."
    ),
) -> None:
    """Search an encoded collection. Needs only the tokenizer and the weight table, and no transformer but a siamese
    model's for queries, which the collection holds.

    With --queries all queries of a file are searched, and the hits are written as a TREC run, judged or not:

      neural-sparse search outputs/index --queries queries.jsonl -k 1000 -o outputs/run.trec --fuse bm25
    """
    from neural_sparse.errors import InputError
    from neural_sparse.io.terminal import console as make_console
    from neural_sparse.search.budget import check_recall
    from neural_sparse.search.encoded import EncodedCollection
    from neural_sparse.search.fields import parse_filters
    from neural_sparse.search.fusion import check_fusion

    console = make_console()
    if recall is not None:
        check_recall(recall)
    if queries is not None or output is not None:
        asked = None if query else queries
        _run_file(
            folder,
            asked,
            output=output,
            k=k,
            count_repeats=count_repeats,
            verify=verify,
            fuse=fuse,
            fusion=fusion,
            weight=weight,
            filters=filters,
            recall=recall,
        )
        return
    if not verify:
        console.print("sizes are compared and no checksums: a damaged file may go unnoticed", style="dim")
    collection = EncodedCollection(folder, verify)
    collection.count_repeats = count_repeats
    if recall is not None:
        collection.approximate(recall)
    passing = parse_filters(filters, collection.snapshot.kinds)
    beside = None
    if fuse is not None:
        check_fusion(fusion, [weight, 1 - weight], 2)
        if fuse.lower() != "bm25":
            raise InputError(
                f"--fuse {fuse}: a run has no ranking for another query; give bm25, or --queries"
            )
        if filters:
            raise InputError(NO_FIELDS)
        beside = Beside(_bm25(collection.snapshot), fusion, weight)
    if query:
        _show(collection, " ".join(query), k=k, why=why, console=console, filters=passing, beside=beside)
        return
    console.print(f"{len(collection.snapshot):,} documents. Type a query; an empty line ends.")
    while text := _ask():
        _show(collection, text, k=k, why=why, console=console, filters=passing, beside=beside)


def _bm25(snapshot: Snapshot) -> BM25Index:
    """Over the documents that are there, in the order of their rows."""
    from neural_sparse.search.bm25 import BM25Index

    rows = snapshot.rows().tolist()
    texts, ids = [snapshot.text(row) for row in rows], [snapshot.doc_id(row) for row in rows]
    return BM25Index.build(texts, ids, language="auto")


@dataclass(frozen=True)
class Beside:
    """BM25 that each query is also asked of, and how the rankings are put together; weight: of the index itself."""

    bm25: BM25Index
    fusion: str
    weight: float

    def best(
        self,
        snapshot: Snapshot,
        vector: sp.csr_matrix,
        query: str,
        *,
        k: int,
        depth: int,
        blocks: float | None,
    ) -> list[tuple[int, float]]:
        """Rows of the snapshot with their scores.

        Args:
            depth: of both rankings.
            blocks: as `Snapshot.search`.
        """
        from neural_sparse.evaluation.runs import run_from_hits
        from neural_sparse.search.fusion import fused

        found = snapshot.search(vector, depth, blocks=blocks), self.bm25.search_texts([query], depth)
        rankings = [run_from_hits(hits, [query], hits.doc_ids or ())[query] for hits in found]
        both = fused(rankings, self.fusion, [self.weight, 1 - self.weight])
        best = list(both.items())[:k]
        rows = snapshot.find([doc_id for doc_id, _ in best]).tolist()
        return [(row, score) for row, (_, score) in zip(rows, best, strict=True)]


def _run_file(
    folder: Path,
    queries: Path | None,
    *,
    output: Path | None,
    k: int,
    count_repeats: bool,
    verify: bool,
    fuse: str | None,
    fusion: str,
    weight: float,
    filters: Sequence[str],
    recall: float | None,
) -> None:
    from neural_sparse.corpora.corpus_file import read_queries
    from neural_sparse.errors import InputError
    from neural_sparse.evaluation.runs import check_ids, read_run, run_from_hits, write_run
    from neural_sparse.io.files import check_output
    from neural_sparse.io.terminal import console as make_console
    from neural_sparse.search.encoded import EncodedCollection
    from neural_sparse.search.fields import parse_filters
    from neural_sparse.search.fusion import DEPTH, check_fusion, fused

    if queries is None or output is None:
        raise InputError(
            "a run is made of --queries FILE and written to --output FILE, without a query beside them"
        )
    check_output(output)
    check_fusion(fusion, [weight, 1 - weight], 2)
    asked = read_queries(queries)
    check_ids(asked)
    other = None if fuse is None or fuse.lower() == "bm25" else read_run(Path(fuse))
    collection = EncodedCollection(folder, verify)
    collection.count_repeats = count_repeats
    snapshot = collection.snapshot
    depth = k if fuse is None else max(k, DEPTH)
    texts = list(asked.values())
    if recall is not None:
        collection.approximate(recall, texts)
    if filters and fuse is not None:
        raise InputError(NO_FIELDS)
    passing = parse_filters(filters, snapshot.kinds)
    blocks = collection.blocks(depth) if not passing else None
    hits = snapshot.search(collection.encode_queries(texts), depth, filters=passing, blocks=blocks)
    run = run_from_hits(hits, list(asked), hits.doc_ids or ())
    if fuse is not None:
        if other is None:
            bm25 = _bm25(snapshot)
            other = run_from_hits(bm25.search_texts(texts, depth), list(asked), bm25.doc_ids)
        for query_id, ranking in run.items():
            both = fused([ranking, other.get(query_id, {})], fusion, [weight, 1 - weight])
            run[query_id] = dict(list(both.items())[:k])
    write_run(output, run)
    found = sum(map(len, run.values()))
    make_console().print(
        f"{len(run):,} queries, {found:,} hits: {output} ({_mode(collection, depth, blocks)})"
    )


def _mode(collection: EncodedCollection, k: int, blocks: float | None) -> str:
    """How hits were found, for people."""
    return collection.mode(k) if blocks is not None else f"exact: {collection.snapshot.mode(k)}"


def _ask() -> str:
    try:
        return input("query> ").strip()
    except EOFError:
        return ""


def _show(
    collection: EncodedCollection,
    query: str,
    *,
    k: int,
    why: bool,
    console: Console,
    filters: Mapping[str, object],
    beside: Beside | None,
) -> None:
    import time

    from rich.text import Text

    from neural_sparse.report.explained import explain_hit, explained_search
    from neural_sparse.search.fusion import DEPTH
    from neural_sparse.text.tokens import tokenize, top_terms, vocabulary

    snapshot = collection.snapshot
    depth = k if beside is None else max(k, DEPTH)
    blocks = collection.blocks(depth) if not filters else None  # measured before the time is taken
    started = time.perf_counter()
    vector = collection.encode_queries([query])
    if beside is None:
        hits = snapshot.search(vector, k, filters=filters, blocks=blocks)
        pairs = zip(hits.docs[0].tolist(), hits.scores[0].tolist(), strict=True)
        found = [(row, score) for row, score in pairs if row >= 0]
    else:
        found = beside.best(snapshot, vector, query, k=k, depth=depth, blocks=blocks)
    milliseconds = 1000 * (time.perf_counter() - started)
    if not found and vector.nnz == 0:
        looked_up = collection.query_encoder == "inference-free"
        none = "none of the query's tokens is known to the model" if looked_up else "the query has no terms"
        console.print(f"{none}, so nothing can match")
        return
    if not found:
        passed = " and passes the filters" if filters else ""
        console.print(f"no document holds any of the query's tokens{passed}")
        return
    if why:
        names = vocabulary(collection.tokenizer)
        max_length = collection.about["max_length"]
        explained = []
        for row, _ in found:
            part = snapshot.best_part(row, vector)
            text = part.text
            own = {names[token] for token in tokenize([text], collection.tokenizer, max_length, True).ids}
            weights = dict(top_terms(part.vector, names))
            explained.append(
                explain_hit(
                    snapshot.doc_id(row),
                    text,
                    query_weights=dict(top_terms(vector[0], names)),
                    doc_weights=weights,
                    text_tokens=own,
                )
            )
        console.print(explained_search(query, explained))
        return
    for place, (row, score) in enumerate(found, start=1):
        text = " ".join(snapshot.best_part(row, vector).text.split())
        console.print(Text.assemble((f"{place}. {snapshot.doc_id(row)}", "bold"), f"  {score:.2f}"))
        console.print(f"   {text[:200]}{'…' if len(text) > 200 else ''}")
    console.print(f"{milliseconds:.1f} ms, {_mode(collection, depth, blocks)}", style="dim")


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
