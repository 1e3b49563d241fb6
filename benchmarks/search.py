"""How fast, exact and small the search index is, against what people use today.

    python benchmarks/search.py                          # 1M documents x 119 terms, all arms
    python benchmarks/search.py --documents 4000000 --arms ours --stream
    python benchmarks/search.py --documents 100000 --output outputs/search.json

Documents and queries are drawn, seeded, from a Zipf-Mandelbrot law over a BERT-sized vocabulary; queries have
8 terms. Arms take turns, five rounds, each round the same queries; the medians are reported. Every arm is
given its own preferred structure, built beforehand, and is timed on encoded queries alone.
Needs the extra `benchmark` for the splade-index arm; without it, that arm is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numba
import numpy as np
import scipy.sparse as sp

from neural_sparse.io.files import write_json
from neural_sparse.search import Hits, SparseIndex

VOCABULARY = 30_522
SHARD = 50_000
# Memory that is handed back to the system and touched anew would dominate the arms that allocate much.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 34)}
Search = Callable[[sp.csr_matrix, int, int], None]


@numba.njit(cache=True)
def _draw_distinct(cumulative, lengths, seed):
    """Distinct terms of each row, drawn with the probabilities whose running sum is `cumulative`."""
    np.random.seed(seed)  # noqa: NPY002  (what numba compiles)
    last_row = np.full(len(cumulative), -1, np.int64)
    terms = np.empty(lengths.sum(), np.int32)
    place = 0
    for row in range(len(lengths)):
        start = place
        while place < start + lengths[row]:
            term = min(np.searchsorted(cumulative, np.random.random()), len(cumulative) - 1)  # noqa: NPY002
            if last_row[term] != row:
                last_row[term] = row
                terms[place] = term
                place += 1
        terms[start:place].sort()
    return terms


def vectors(rows: int, mean_terms: int, seed: int, spread: int) -> sp.csr_matrix:
    """Random vectors [rows, VOCABULARY] of mean_terms +- spread distinct terms."""
    rng = np.random.default_rng(seed)
    probabilities = 1 / (np.arange(VOCABULARY) + 200)
    lengths = rng.integers(mean_terms - spread, mean_terms + spread + 1, rows)
    terms = _draw_distinct(np.cumsum(probabilities / probabilities.sum()), lengths, seed)
    weights = rng.gamma(2, 0.4, len(terms)).astype(np.float32) + np.float32(0.01)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    return sp.csr_matrix((weights, terms, indptr), shape=(rows, VOCABULARY))


def shards(documents: int) -> Iterator[sp.csr_matrix]:
    for number, first in enumerate(range(0, documents, SHARD)):
        yield vectors(min(SHARD, documents - first), 119, 1000 + number, spread=60)


def doc_ids(documents: int) -> Iterator[str]:
    return map(str, range(documents))


def ours(index: SparseIndex) -> Search:
    def search(queries: sp.csr_matrix, k: int, threads: int) -> None:
        index.search(queries, k, threads=threads)

    return search


def scipy_product(docs: sp.csr_matrix) -> Search:
    """One sparse product per query with the transposed documents, then the k best of its non-zeros."""
    by_term = docs.T.tocsr()

    def search(queries: sp.csr_matrix, k: int, threads: int) -> None:
        for row in range(queries.shape[0]):
            scores = queries[row] @ by_term
            size = min(k, scores.nnz)
            best = np.argpartition(-scores.data, size - 1)[:size]
            best = best[np.argsort(-scores.data[best])]
            scores.indices[best], scores.data[best]

    return search


def splade_index(index: SparseIndex) -> Search:
    from splade_index.numba.retrieve_utils import _retrieve_numba_functional

    scores = {
        "data": np.array(index.postings.impacts),
        "indices": np.array(index.postings.docs),
        "indptr": np.array(index.postings.offsets),
        "num_docs": len(index),
    }

    def search(queries: sp.csr_matrix, k: int, threads: int) -> None:
        ends = queries.indptr[1:-1]
        terms, weights = np.split(queries.indices, ends), np.split(queries.data, ends)
        _retrieve_numba_functional(terms, weights, scores, k=k, n_threads=threads, show_progress=False)

    return search


def sentence_transformers_search(docs: sp.csr_matrix) -> Search:
    import torch
    from sentence_transformers.util import dot_score, semantic_search

    def tensor(matrix: sp.csr_matrix) -> torch.Tensor:
        coo = matrix.tocoo()
        places = torch.from_numpy(np.stack([coo.row, coo.col]).astype(np.int64))
        return torch.sparse_coo_tensor(places, torch.from_numpy(coo.data), coo.shape, is_coalesced=True)

    corpus = tensor(docs)

    def search(queries: sp.csr_matrix, k: int, threads: int) -> None:
        torch.set_num_threads(threads)
        semantic_search(tensor(queries), corpus, top_k=k, score_function=dot_score)

    return search


def seconds_per_query(search: Search, queries: sp.csr_matrix, k: int, threads: int) -> float:
    start = time.perf_counter()
    search(queries, k, threads)
    return (time.perf_counter() - start) / queries.shape[0]


def compare(arms: dict[str, Search], queries: sp.csr_matrix, rounds: int) -> dict[str, dict[str, float]]:
    """Median milliseconds a query, by "k=..., threads=..." and arm."""
    table: dict[str, dict[str, float]] = {}
    for k in (10, 1000):
        for threads in (1, 2):
            times: dict[str, list[float]] = {name: [] for name in arms}
            for round_number in range(rounds + 1):
                for name, search in arms.items():
                    slow = name == "sentence-transformers"
                    if slow and (threads > 1 or k > 10 or round_number > 2):
                        continue
                    sample = queries[:8] if slow else queries
                    seconds = seconds_per_query(search, sample, k, threads)
                    if round_number:  # the first round compiles and warms up
                        times[name].append(1e3 * seconds)
            table[f"k={k}, threads={threads}"] = {
                name: statistics.median(each) for name, each in times.items() if each
            }
    return table


def single_call_latency(index: SparseIndex, queries: sp.csr_matrix, k: int) -> float:
    """Median milliseconds of one call with one query, checks and allocation included."""
    times = []
    for row in range(queries.shape[0]):
        query = queries[row]
        start = time.perf_counter()
        index.search(query, k, threads=1)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def check_exact(index: SparseIndex, docs: sp.csr_matrix, queries: sp.csr_matrix, k: int) -> float:
    """Greatest relative difference to float64 scores; raises where documents or their order differ."""
    found = index.search(queries, k)
    worst = 0.0
    wide = docs.astype(np.float64)
    for row in range(queries.shape[0]):
        scores = np.asarray((wide @ queries[row].astype(np.float64).T).todense())[:, 0]
        order = np.lexsort((np.arange(len(scores)), -scores.astype(np.float32)))[:k]
        right = Hits(order[None].astype(np.int32), scores[order][None].astype(np.float32))
        np.testing.assert_array_equal(found.docs[row], right.docs[0])
        worst = max(worst, float(np.abs(found.scores[row] / scores[order] - 1).max()))
    return worst


def _status(field: str) -> int:
    """Bytes of a field of /proc/self/status (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"no {field} in /proc/self/status")


def probe(task: str, folder: Path, documents: int) -> dict[str, float]:
    """In a process of its own: peak memory above that of the imported, compiled program."""
    small = vectors(100, 20, 1, spread=5)
    SparseIndex.build(iter([small, small]), doc_ids(200), folder=folder / "small").search(
        small, 10, threads=2
    )
    list(shards(1))
    before = _status("VmRSS")
    start = time.perf_counter()
    if task == "stream":
        index = SparseIndex.build(
            shards(documents), doc_ids(documents), folder=folder / "index", memory=1 << 28
        )
    else:
        index = SparseIndex.load(folder / "index", verify=False)
        for array in (index.postings.docs, index.postings.impacts, index.doc_ids.text, index.doc_ids.offsets):
            array.max()  # read every page
        index.search(vectors(200, 8, 2, spread=0), 1000, threads=2)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak_bytes": _status("VmHWM") - before, "array_bytes": index.nbytes}


def in_own_process(task: str, folder: Path, documents: int) -> dict[str, float]:
    command = [
        sys.executable,
        __file__,
        "--probe",
        task,
        "--folder",
        str(folder),
        "--documents",
        str(documents),
    ]
    output = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **MALLOC})
    result: dict[str, float] = json.loads(output.stdout)
    return result


def machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line
        ]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, numba {numba.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--arms", default="ours,scipy,splade-index,sentence-transformers")
    parser.add_argument(
        "--stream", action="store_true", help="build on disk only; for more than fits in memory"
    )
    parser.add_argument("--folder", type=Path, help="where to write the index; default a temporary folder")
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks/search.json"))
    parser.add_argument("--probe", choices=["stream", "search"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe:
        print(json.dumps(probe(options.probe, options.folder, options.documents)))
        return
    if any(name not in os.environ for name in MALLOC):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **MALLOC})
    with tempfile.TemporaryDirectory() as temporary:
        report = run(options, options.folder or Path(temporary))
    show(report)
    write_json(options.output, report)


def run(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    report: dict[str, object] = {"machine": machine(), "documents": options.documents}
    queries = vectors(options.queries, 8, 7, spread=0)
    report["stream build"] = in_own_process("stream", folder, options.documents)
    report["memory while searching"] = in_own_process("search", folder, options.documents)
    start = time.perf_counter()
    index = SparseIndex.load(folder / "index")
    report["load and verify, seconds"] = time.perf_counter() - start
    arms = {"ours": ours(index)}
    if not options.stream:
        docs = sp.vstack(list(shards(options.documents)), format="csr")
        SparseIndex.build(docs[:1000], doc_ids(1000))  # compile
        start = time.perf_counter()
        index = SparseIndex.build(docs, doc_ids(options.documents))
        report["build in memory, seconds"] = time.perf_counter() - start
        report["exact: greatest relative error"] = check_exact(index, docs, queries[:10], 1000)
        others: dict[str, Callable[[], Search]] = {
            "scipy": lambda: scipy_product(docs),
            "splade-index": lambda: splade_index(index),
            "sentence-transformers": lambda: sentence_transformers_search(docs),
        }
        for name, make in others.items():
            if name in options.arms.split(","):
                try:
                    arms[name] = make()
                except ImportError as error:
                    print(f"without {name}: {error}")
        arms["ours"] = ours(index)
    lengths = index.posting_lengths
    report["terms per document"] = index.postings.offsets[-1] / len(index)
    report["postings per query"] = float(lengths[queries.indices].sum() / queries.shape[0])
    report["milliseconds per query"] = compare(arms, queries, options.rounds)
    report["milliseconds per single call"] = {
        f"k={k}": single_call_latency(index, queries, k) for k in (10, 1000)
    }
    report["8 bits, milliseconds per query"] = compare({"ours": ours(index.quantized())}, queries, 3)
    return report


def show(report: dict[str, object]) -> None:
    for name, value in report.items():
        if isinstance(value, dict) and any(isinstance(each, dict) for each in value.values()):
            print(f"{name}:")
            for setting, row in value.items():
                mine = row["ours"]
                cells = "  ".join(f"{arm} {ms:.3f} ({ms / mine:.2f}x)" for arm, ms in row.items())
                print(f"  {setting:18} {cells}")
        else:
            print(f"{name}: {value}")


if __name__ == "__main__":
    main()
