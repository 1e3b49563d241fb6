"""What block maxima save, on vectors of the shape that models give: search with them and without, side by side.

    python benchmarks/block_max.py DOCUMENTS.npz QUERIES.npz --documents 4000000 --output results/block-max.json
    python benchmarks/block_max.py DOCUMENTS.npz QUERIES.npz --documents 8841823 --folder outputs/8.8m

DOCUMENTS.npz and QUERIES.npz are encoded texts (scipy.sparse.save_npz of encode_documents and encode_queries). More
documents are mixed of those: three quarters of the terms of one, a quarter of another's, in any order, with weights
that vary by 15%. One thread; arms take turns, three rounds; processor time, medians over rounds of the mean over
queries. Both arms are compared: documents, order and scores have to be equal. With --folder the index is built there
as the documents are mixed, in a process of its own, if it is not there already, and mapped; peaks of memory are told,
pages of mapped files included.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numba
import numpy as np
import scipy.sparse as sp
from arms import peak_mib
from numpy.typing import NDArray

from neural_sparse.io.files import write_json
from neural_sparse.search import SparseIndex, index

SHARD = 50_000
NEVER = 1 << 40


@numba.njit(cache=True)
def _mix(indptr, indices, data, rows, seed, width, out_indptr, out_indices, out_data):
    np.random.seed(seed)  # noqa: NPY002  (what numba compiles)
    mixed = np.zeros(width, np.float32)
    place = 0
    for row in range(rows):
        pair = np.random.randint(0, len(indptr) - 1), np.random.randint(0, len(indptr) - 1)  # noqa: NPY002
        for side in range(2):
            for i in range(indptr[pair[side]], indptr[pair[side] + 1]):
                if np.random.random() < (0.75 if side == 0 else 0.25):  # noqa: NPY002
                    weight = data[i] * np.exp(np.random.normal(0, 0.15))  # noqa: NPY002
                    mixed[indices[i]] = max(mixed[indices[i]], weight)
        for side in range(2):
            for i in range(indptr[pair[side]], indptr[pair[side] + 1]):
                if mixed[indices[i]] > 0:
                    out_indices[place] = indices[i]
                    out_data[place] = mixed[indices[i]]
                    mixed[indices[i]] = 0
                    place += 1
        out_indptr[row + 1] = place
    return place


def mixed_shards(vectors: sp.csr_matrix, documents: int) -> Iterator[sp.csr_matrix]:
    longest = 2 * int(np.diff(vectors.indptr).max())
    for number, first in enumerate(range(0, documents, SHARD)):
        rows = min(SHARD, documents - first)
        indptr = np.zeros(rows + 1, np.int64)
        indices, data = np.empty(rows * longest, np.int32), np.empty(rows * longest, np.float32)
        arrays = (vectors.indptr.astype(np.int64), vectors.indices, vectors.data)
        end = _mix(*arrays, rows, number, vectors.shape[1], indptr, indices, data)
        shard = sp.csr_matrix(
            (data[:end].copy(), indices[:end].copy(), indptr), shape=(rows, vectors.shape[1])
        )
        shard.sort_indices()
        yield shard


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


def searched(built: SparseIndex, queries: sp.csr_matrix, k: int, per_hit: int) -> tuple[float, Any]:
    """Milliseconds a query, and the hits."""
    index.DOCUMENTS_PER_HIT = per_hit
    start = time.thread_time()
    hits = built.search(queries, k, threads=1)
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
