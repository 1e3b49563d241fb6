"""What a change of a large collection takes: documents added, replaced and deleted by id, then merged.

    python benchmarks/changes.py MODEL                           # 1M documents x 119 terms, 1,000 changed at a time
    python benchmarks/changes.py MODEL --documents 100000

Vectors are those of benchmarks/search.py, drawn and not encoded, so that what is timed is the collection; a model's
time comes on top. MODEL gives tokenizer and query side.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from search import VOCABULARY, doc_ids, machine, shards, vectors

from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.search.changes import changing
from neural_sparse.search.doc_ids import DocumentIds
from neural_sparse.search.encoded import EncodedCollection
from neural_sparse.search.snapshot import PackedTexts

TEXTS = 100_000  # packed at a time


def encoder(seed: int) -> Callable[[Sequence[str]], sp.csr_matrix]:
    return lambda texts: vectors(len(texts), 119, seed=seed, spread=0.3)


def packed(count: int) -> PackedTexts:
    """Texts of 100 bytes."""
    return PackedTexts(np.full(100 * count, ord("x"), np.uint8), np.full(count, 100, np.int64))


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--batches", type=int, default=5)
    options = parser.parse_args()
    model = NeuralSparseEncoder(options.model, device="cpu")
    if model.vocab_size != VOCABULARY:
        parser.error(f"the model has {model.vocab_size:,} tokens, and the vectors {VOCABULARY:,}")
    print(machine(), f"{options.documents:,} documents", sep=", ")
    parts = [min(TEXTS, options.documents - start) for start in range(0, options.documents, TEXTS)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "index"
        EncodedCollection.write(
            folder,
            model,
            shards(options.documents),
            DocumentIds.of(doc_ids(options.documents)),
            map(packed, parts),
            {},
        )
        print(f"folder {size(folder) / 1e6:,.0f} MB")
        with changing(folder, verify=False) as collection:
            collection.change(["first"], ["x"], encoder(0))  # what only the first change takes
            for number in range(options.batches):
                new = [f"new-{number}-{one}" for one in range(options.batch // 2)]
                gone = [f"new-{number - 1}-{one}" for one in range(10)] if number else []
                known = _known(collection.collection, options.batch // 2, number)
                old = [name for name in known if name not in gone]
                rows = vectors(options.batch, 119, seed=number + 1, spread=0.3)
                before = size(folder)
                started = time.perf_counter()
                done = collection.change(
                    [*new, *old],
                    ["a text"] * (len(new) + len(old)),
                    lambda texts, rows=rows: rows[: len(texts)],
                    gone,
                )
                changed = time.perf_counter() - started
                grown = size(folder) - before
                started = time.perf_counter()
                merges = 0
                while collection.merge():
                    merges += 1
                merged = time.perf_counter() - started
                print(
                    f"added {done.added}, replaced {done.replaced}, deleted {done.deleted}: {changed:.2f} s, "
                    f"{grown / 1e6:.1f} MB; then {merges} merges: {merged:.2f} s"
                )
            print(f"{len(collection.snapshot):,} documents in {len(collection.snapshot.segments)} segments")


def _known(collection: EncodedCollection, count: int, seed: int) -> list[str]:
    snapshot = collection.snapshot
    rows = np.random.default_rng(seed).choice(snapshot.rows(), count, replace=False)
    return snapshot.ids(rows)


if __name__ == "__main__":
    main()
