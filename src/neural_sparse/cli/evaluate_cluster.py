"""`neural-sparse evaluate opensearch:INDEX`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

    from neural_sparse.corpora.collection import Collection
    from neural_sparse.evaluation import Evaluation
    from neural_sparse.model.encoder import NeuralSparseEncoder

PREFIX = "opensearch:"


def evaluate_index(
    client: OpenSearch,
    index: str,
    collection: Collection,
    *,
    model: NeuralSparseEncoder | None,
    bm25: bool,
    k: int,
    measures: Sequence[str],
    output: Path | None,
    ignore_identical_ids: bool | None,
    how: dict[str, Any],
) -> None:
    """Judge every way to search the index and print one table, with the drift from the model's own ranking.

    Args:
        how: of `opensearch.evaluation.ways`, but for `model`.
    """
    from functools import partial

    from neural_sparse.evaluation.compare import System, compare_systems
    from neural_sparse.evaluation.cost import Stopwatch
    from neural_sparse.evaluation.evaluate import evaluate_retriever
    from neural_sparse.io.files import write_json
    from neural_sparse.io.terminal import console as make_console
    from neural_sparse.opensearch.evaluation import ClusterRetriever, drift, ways
    from neural_sparse.opensearch.searches import About
    from neural_sparse.opensearch.shards import count_documents
    from neural_sparse.report.comparison import print_report
    from neural_sparse.report.html_page import write_report
    from neural_sparse.report.tables import terminal_table

    console = make_console(160)
    about = About.of(client, index)
    found = ways(client, about, model=model, **{**how, "text_field": how["text_field"] if bm25 else None})
    held = count_documents(client, index)
    console.print(
        f"{collection.name}: {len(collection.texts):,} documents, {len(collection.queries):,} queries; "
        f"index {index}: {held:,} documents"
    )
    if held != len(collection.texts):
        console.print("  note: the index and the collection differ in size", style="yellow")
    judge = partial(
        evaluate_retriever,
        collection=collection,
        k=k,
        measures=measures,
        ignore_identical_ids=ignore_identical_ids,
    )
    stopwatch = Stopwatch()
    results: list[Evaluation] = []
    for name in sorted(found, key=lambda name: name != "BM25"):  # first, for it is the baseline
        way = found[name]
        console.print(f"  {name}: {way.kind()}")
        retriever = ClusterRetriever(client, about, collection.doc_ids, way.make)
        result = judge(retriever, name=f"{name} ({index})", stopwatch=stopwatch)
        result.details |= {"source": f"{PREFIX}{index}", "search": way.kind(), "index_documents": held}
        results.append(result)
    local = None
    if model is not None:
        console.print(
            "  local: the same documents encoded here, with the 9 bits of a weight that an index keeps"
        )
        if about.meta.get("passages"):
            console.print(
                "  note: the index scores passages, local the beginning of each text", style="yellow"
            )
        local = _local(model, collection, judge, stopwatch)
        results.append(local)
    stopwatch.measure()
    rows, written = [], {}
    against = local or next(
        (one for one in results if one.name.startswith(("exact (", "approximate ("))), None
    )
    for result in results:
        if against is None or result is against or result.name.startswith("BM25"):
            continue
        far = drift(against.run, result.run)
        written[result.name] = {"from": against.name, **far.__dict__}
        rows.append([result.name, f"{far.same_top:.1%}", f"{far.overlap:.3f}", f"{far.score:.1e}"])
    if output is not None:
        for result in results:
            result.save(output / result.name.split(" (")[0].replace("/", "-"))
    for result in results:
        result.run = {}
    report = compare_systems([System.of(one) for one in results])
    print_report(report, console)
    if rows and against is not None:
        headings = ["system", "same top 10", "overlap of 10", "largest difference of a score"]
        console.print(terminal_table(headings, rows, f"Drift from {against.name}"))
    if output is not None:
        write_report(report, output, title=f"{index} on {collection.name}")
        write_json(output / "drift.json", written)
        console.print(f"written to {output} (report.html is the whole report)")


def _local(model: NeuralSparseEncoder, collection: Collection, judge: Any, stopwatch: Any) -> Evaluation:
    from neural_sparse.opensearch.features import stored
    from neural_sparse.search import SparseIndex, SparseRetriever

    vectors = stored(model.encode_documents(collection.texts, show_progress=True))
    index = SparseIndex.build(vectors, collection.doc_ids)
    result: Evaluation = judge(
        SparseRetriever(index, model.encode_queries), name="local (9-bit weights)", stopwatch=stopwatch
    )
    return result
