"""Hard negatives per second over 100,000 documents, with teachers whose vectors are cached.

    python benchmarks/mining.py                       # 100,000 documents, 10,240 queries, 2 threads
    python benchmarks/mining.py --output outputs/mining.json

Texts are drawn, seeded, from a Zipf-Mandelbrot law over 30,000 words, 60 to a document; a query is 8 words of
its positive. The dense vectors have 384 dimensions, the sparse ones 119 terms (queries 24, as of a siamese
SPLADE). What is timed is all that `neural-sparse mine` does when the teachers' vectors are in their cache:
indexing, searching, filters, writing the file.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse as sp

WORDS = 30_000
SPARSE_VOCABULARY = 30_522


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=10_240)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # before torch and numpy's BLAS are used
    os.environ["OPENBLAS_NUM_THREADS"] = str(arguments.threads)

    from arms import machine

    from neural_sparse.data.training_set import TrainingSet
    from neural_sparse.io.files import write_json
    from neural_sparse.mining import (
        DenseSource,
        Miner,
        MiningOptions,
        Source,
        SparseSource,
        bm25_source,
        mine_to_file,
    )

    rng = np.random.default_rng(0)
    documents, queries, positives = texts(arguments.documents, arguments.queries, rng)
    data = TrainingSet(queries, documents, positives)
    dense_docs = unit(rng.normal(size=(arguments.documents, 384)))
    dense_queries = unit(dense_docs[positives] + 0.06 * rng.normal(size=(arguments.queries, 384)))
    sparse_docs = sparse(arguments.documents, 119, rng)
    sparse_queries = sparse(arguments.queries, 24, rng)

    def bm25() -> Source:
        return bm25_source(queries, documents)

    def dense() -> Source:
        return DenseSource("dense", {}, lambda rows: dense_queries[rows], dense_docs)

    def splade() -> Source:
        return SparseSource("sparse", {}, lambda rows: sparse_queries[rows], sparse_docs)

    cases: dict[str, list[Callable[[], Source]]] = {
        "bm25": [bm25],
        "dense": [dense],
        "sparse": [splade],
        "bm25 + dense + sparse": [bm25, dense, splade],
    }
    results = {}
    print(machine(arguments.threads))
    print(f"{arguments.documents:,} documents, {arguments.queries:,} queries, 30 negatives of ranks 1-100,")
    print("near-duplicates dropped, a margin of 5 % by the last teacher")
    for name, makers in cases.items():
        rates, indexing = [], []
        for _ in range(arguments.repeats):
            started = time.perf_counter()
            sources = [maker() for maker in makers]
            indexing.append(time.perf_counter() - started)
            options = MiningOptions(relative_margin=0.05)
            with tempfile.TemporaryDirectory() as folder:
                mine_to_file(Miner(data, sources, options, sources[-1]), Path(folder) / "mined.jsonl")
            rates.append(arguments.queries / (time.perf_counter() - started))
        results[name] = {
            "queries_per_second": float(np.median(rates)),
            "indexing_s": float(np.median(indexing)),
        }
        print(f"{name:24} {np.median(rates):7.0f} queries/s, {np.median(indexing):5.1f} s of them indexing")
    if arguments.output is not None:
        write_json(arguments.output, {"machine": machine(arguments.threads), "results": results})


def texts(documents: int, queries: int, rng: np.random.Generator) -> tuple[list[str], list[str], np.ndarray]:
    names = np.array(
        ["".join(chr(97 + int(digit) % 26) for digit in str(n * 7919 + 10**6)) for n in range(WORDS)]
    )
    probabilities = 1 / (np.arange(WORDS) + 20.0)
    drawn = rng.choice(WORDS, (documents, 60), p=probabilities / probabilities.sum())
    positives = rng.integers(0, documents, queries)
    asked = np.take_along_axis(drawn[positives], rng.integers(0, 60, (queries, 8)), 1)
    return [" ".join(row) for row in names[drawn]], [" ".join(row) for row in names[asked]], positives


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def sparse(rows: int, terms: int, rng: np.random.Generator) -> sp.csr_matrix:
    probabilities = 1 / (np.arange(SPARSE_VOCABULARY) + 200.0)
    columns = rng.choice(SPARSE_VOCABULARY, rows * terms, p=probabilities / probabilities.sum())
    weights = rng.gamma(2, 0.4, rows * terms).astype(np.float32)
    matrix = sp.csr_matrix(
        (weights, columns.astype(np.int32), np.arange(rows + 1) * terms), shape=(rows, SPARSE_VOCABULARY)
    )
    matrix.sum_duplicates()
    return matrix


if __name__ == "__main__":
    main()
