"""`neural-sparse verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from neural_sparse.engines.verify import Verdict


def verify(
    what: str = typer.Argument(
        metavar="EXPORT|INDEX",
        help="A folder made by `neural-sparse export` for an engine, or by `neural-sparse encode`.",
    ),
    collection: str = typer.Option(
        ..., "--collection", "-c", help="Whose queries and judgements: folder or name."
    ),
    engines: str = typer.Option(
        "lucene,lucene-exact,qdrant,milvus,pgvector",
        "--engine",
        "-e",
        help="Engines, with commas between them: lucene, lucene-exact, elasticsearch, elasticsearch-pruned (its own "
        "default mapping), opensearch, qdrant, milvus, pgvector, pgvector-hnsw (approximate). Each is started here, or "
        "reached at an address: qdrant=http://localhost:6333.",
    ),
    split: str = typer.Option("test", help="Which qrels/SPLIT.tsv of it to judge by."),
    queries: int | None = typer.Option(None, min=1, help="At most this many of its queries."),
    bm25: bool = typer.Option(True, help="Also time and judge BM25 in the same engine."),
    output: Path | None = typer.Option(None, "--output", "-o", help="JSON file for all figures."),
) -> None:
    """Index a collection's vectors in real engines, ask its queries, and compare with the exact index.

    One row an engine: the share of queries whose first ten documents are the exact ones over the weights that the
    engine keeps, nDCG@10 beside the exact index's, milliseconds of a search beside BM25 in the same engine, size, time
    to index.

    Examples:

      neural-sparse verify outputs/mine/index -c my-collection --engine qdrant,pgvector=postgresql://localhost/mine
    """
    from dataclasses import asdict

    from neural_sparse.corpora.names import load_collection
    from neural_sparse.engines.read_back import judged_source
    from neural_sparse.engines.running import chosen, missing, started
    from neural_sparse.engines.verify import verify as verify_engine
    from neural_sparse.io.files import check_output, write_json
    from neural_sparse.io.terminal import console as make_console

    console = make_console(160)
    names = chosen(engines)
    missing(names)
    if output is not None:
        check_output(output)
    source, qrels = judged_source(what, load_collection(collection, split), queries)
    console.print(
        f"{what}: {len(source.doc_ids):,} documents, {len(source.query_ids):,} queries"
        + (f"; vectors of {source.fingerprint}" if source.fingerprint else "")
    )
    found: list[Verdict] = []
    for name, url in names:
        with started(name, url) as engine:
            console.print(f"  {name} {engine.version}")
            found.append(verify_engine(name, engine, source, qrels, bm25=bm25))
        for remark in found[-1].remarks:
            console.print(f"  note: {remark}", style="yellow")
    console.print(_table(found))
    if output is not None:
        # JSON has no NaN: what an engine has not is null.
        rows = [
            {name: None if value != value else value for name, value in asdict(one).items()} for one in found
        ]
        write_json(output, rows)


def _table(found: list[Verdict]) -> object:
    import math

    from neural_sparse.report.tables import ABSENT, terminal_table

    def times(p50: float, p99: float) -> str:
        return ABSENT if math.isnan(p50) else f"{p50:.2f} / {p99:.2f}"

    headings = ["engine", "same top 10", "recall@10", "score error", "nDCG@10", "difference", "ms p50 / p99"]
    headings += ["BM25 ms", "BM25 nDCG@10", "MB", "s to index"]
    rows = [
        [
            f"{one.engine} {one.version}",
            f"{one.same:.3f}",
            f"{one.recall:.3f}",
            f"{one.error:.0e}",
            f"{one.quality:.4f}",
            f"{one.quality - one.exact:+.4f}",
            times(one.p50, one.p99),
            times(one.bm25_p50, one.bm25_p99),
            ABSENT if math.isnan(one.bm25_quality) else f"{one.bm25_quality:.4f}",
            ABSENT if one.size is None else f"{one.size / 1e6:,.1f}",
            f"{one.seconds:.1f}",
        ]
        for one in found
    ]
    title = f"Against the exact index, nDCG@10 {found[0].exact:.4f}"
    return terminal_table(headings, rows, title)
