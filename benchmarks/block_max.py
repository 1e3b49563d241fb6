"""What block maxima save, on vectors of the shape that models give: search with them and without, side by side.

    python benchmarks/block_max.py DOCUMENTS.npz QUERIES.npz --documents 4000000 --output results/block-max.json
    python benchmarks/block_max.py DOCUMENTS.npz QUERIES.npz --documents 8841823 --folder outputs/8.8m

DOCUMENTS.npz and QUERIES.npz are encoded texts (scipy.sparse.save_npz of encode_documents and encode_queries). More
documents are mixed of those: three quarters of the terms of one, a quarter of another's, in any order, with weights
that vary by 15%. One thread; arms take turns, three rounds; processor time, medians over rounds of the mean over
queries. Both exact arms are compared: documents, order and scores have to be equal. Approximate arms score what finds
.9, .95 and .99 of the hits of every other query; the recall that is told is that of the others. With --folder the
index is built there as the documents are mixed, in a process of its own, if it is not there already, and mapped; peaks
of memory are told, pages of mapped files included.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from arms import peak_mib
from numpy.typing import NDArray

from neural_sparse.io.files import write_json
from neural_sparse.search import SparseIndex, index, recall
from neural_sparse.search.budget import Budgets
from neural_sparse.search.hits import APPROXIMATE
from neural_sparse.search.mixed import mixed

SHARD = 50_000
NEVER = 1 << 40
WANTED = (0.9, 0.95, 0.99)


def mixed_shards(vectors: sp.csr_matrix, documents: int) -> Iterator[sp.csr_matrix]:
    for number, first in enumerate(range(0, documents, SHARD)):
        yield mixed(vectors, min(SHARD, documents - first), number)


def build_streamed(vectors: Path, documents: int, folder: Path) -> dict[str, float]:
    """In a process of its own: processor time with that of system calls, and peak of memory, mixing included."""
    mixing = 0.0

    def timed() -> Iterator[sp.csr_matrix]:
        nonlocal mixing
        shards = mixed_shards(sp.csr_matrix(sp.load_npz(vectors), dtype=np.float32), documents)
        while True:
            begin = time.process_time()
            shard = next(shards, None)
            mixing += time.process_time() - begin
            if shard is None:
                return
            yield shard

    SparseIndex.build(
        mixed_shards(sp.csr_matrix(sp.load_npz(vectors))[:100], 100), map(str, range(100)), folder=folder
    )  # compiles
    start, clock = time.process_time(), time.perf_counter()
    SparseIndex.build(timed(), map(str, range(documents)), folder=folder, memory=1 << 28)
    return {
        "build, seconds": time.process_time() - start - mixing,
        "mixing, seconds": mixing,
        "both by the clock, seconds": time.perf_counter() - clock,
        "build, peak MiB": peak_mib(),
    }


def searched(
    built: SparseIndex, queries: sp.csr_matrix, k: int, per_hit: int, blocks: float | None = None
) -> tuple[float, Any]:
    """Milliseconds a query, and the hits."""
    index.DOCUMENTS_PER_HIT = per_hit
    start = time.thread_time()
    hits = built.search(queries, k, threads=1, blocks=blocks)
    return 1e3 * (time.thread_time() - start) / queries.shape[0], hits


def compare(built: SparseIndex, queries: sp.csr_matrix, k: int) -> dict[str, float]:
    arms: dict[str, int] = {"posting by posting": NEVER, "with bounds": 0}
    times: dict[str, list[float]] = {arm: [] for arm in arms}
    made = built._snapshot.maxima.nbytes
    for turn in range(4):
        found: list[tuple[NDArray[Any], NDArray[Any]]] = []
        for arm, per_hit in arms.items():
            ms, hits = searched(built, queries, k, per_hit)
            if turn:  # the first compiles and makes rows
                times[arm].append(ms)
            found.append((hits.docs, hits.scores))
        for one, other in zip(*found, strict=True):
            np.testing.assert_array_equal(one, other)
    result = {arm: statistics.median(each) for arm, each in times.items()}
    if not made:
        built._snapshot.maxima.greatest[:] = 0  # as if no row had been made
        result["first search, rows included"] = searched(built, queries, k, 0)[0]
    return result


def approximate(built: SparseIndex, queries: sp.csr_matrix, k: int) -> dict[str, dict[str, float | None]]:
    """Recall that is wanted -> blocks per hit, recall, milliseconds, and whether a user would get it.

    A budget is kept to, too, where the index would rather search exactly.
    """
    other = queries[1::2]
    _, exact = searched(built, other, k, 0)
    paying = index.SCORED, index.LEAST_HITS
    index.SCORED, index.LEAST_HITS = 0, 1
    arms: dict[float, float | None] = {}
    for wanted in WANTED:
        arms[wanted] = Budgets(wanted, queries[::2]).of(built, k).blocks
    times: dict[float, list[float]] = {wanted: [] for wanted in arms}
    recalls = {}
    for _ in range(3):
        for wanted, blocks in arms.items():
            ms, hits = searched(built, queries, k, 0, blocks)
            times[wanted].append(ms)
            recalls[wanted] = recall(hits._replace(docs=hits.docs[1::2], scores=hits.scores[1::2]), exact)
    index.SCORED, index.LEAST_HITS = paying
    return {
        f"recall {wanted}": {
            "blocks a hit": blocks,
            "recall": recalls[wanted],
            "milliseconds": statistics.median(times[wanted]),
            "pays": float(built.mode(k, blocks) == APPROXIMATE),
        }
        for wanted, blocks in arms.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("vectors", type=Path)
    parser.add_argument("queries", type=Path)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="built there in a stream, for more than fits in memory")
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks/block-max.json"))
    options = parser.parse_args()
    queries = sp.csr_matrix(sp.load_npz(options.queries), dtype=np.float32)
    report: dict[str, Any] = {}
    if options.folder:
        if not options.folder.exists():
            with get_context("spawn").Pool(1) as pool:
                report |= pool.apply(build_streamed, (options.vectors, options.documents, options.folder))
        built = SparseIndex.load(options.folder, verify=False)
    else:
        vectors = sp.csr_matrix(sp.load_npz(options.vectors), dtype=np.float32)
        shards = list(mixed_shards(vectors, options.documents))
        start = time.perf_counter()
        built = SparseIndex.build(iter(shards), map(str, range(options.documents)))
        report["build, seconds"] = time.perf_counter() - start
        del shards
    report |= {
        "documents": options.documents,
        "terms a document": len(built.postings.docs) / len(built),
        "terms a query": queries.nnz / queries.shape[0],
        "postings a query": float(built.posting_lengths[queries.indices].sum() / queries.shape[0]),
    }
    for k in (10, 100, 1000):
        report[f"milliseconds, k={k}"] = compare(built, queries, k)
        report[f"approximate, k={k}"] = approximate(built, queries, k)
        print(report, flush=True)
    report["index, bytes"] = built.nbytes
    report["rows, bytes"] = built._snapshot.maxima.nbytes
    if options.folder:
        report["search, peak MiB"] = peak_mib()
    else:
        report["eight bits"] = compare(built.quantized(), queries, 10)
    print(report)
    write_json(options.output, report)


if __name__ == "__main__":
    main()
