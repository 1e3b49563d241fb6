"""Search engines side by side on vectors of the shape that models give: latency, recall, build time, memory, disk.

    neural-sparse encode MODEL --corpus COLLECTION --output INDEX
    python benchmarks/search_engines.py INDEX --collection COLLECTION --documents 200000
    python benchmarks/search_engines.py INDEX --collection COLLECTION --arms lucene,lucene-exact,lucene@64 --bm25

Documents are mixed of the collection's encoded ones: three quarters of the terms of one, a quarter of another's, with
weights that vary by 15%; with --bm25 their words are mixed alike, and BM25 in the same engine gets the same queries.
NAME@64 keeps the 64 heaviest weights of each document. Queries are the collection's own.

Each arm is a process of its own. They are built one after another with all cores; then they take turns, pinned to one
core, query by query, k=10. Engines are started, and this index's compiled code is loaded, before building is timed.
Times of searches are those of the least disturbed round. Recall counts the exact ten over the weights as they were
encoded, equal scores as equal. Seconds of processor and memory (anonymous, above what it was before building) are those
of the process and of what it started; files that are mapped count as disk. Arms whose package is missing are left out
and named.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import importlib.util
import json
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psutil
import scipy.sparse as sp
from numpy.typing import NDArray
from search import machine

from neural_sparse import InputError
from neural_sparse.corpora.names import load_collection
from neural_sparse.engines.engine import Engine, Found, one_by_one, query_rows, rows_of
from neural_sparse.engines.limits import Limits
from neural_sparse.engines.programs import folder_size, installed_version
from neural_sparse.engines.read_back import judged_source
from neural_sparse.engines.running import ENGINES, started
from neural_sparse.engines.vectors import VectorSource
from neural_sparse.io.files import write_json
from neural_sparse.search import SeismicRetriever, SparseIndex

K = 10
SHARD = 50_000
TIE = 1e-5
ARMS = "ours,ours-8-bits,splade-index,qdrant,milvus,lucene,lucene-exact,seismic,bmp"


class Ours(Engine):
    """This package's index, exact; or with weights of 8 bits."""

    limits = Limits("ours")

    def __init__(self, bits: int = 32) -> None:
        self._bits = bits
        small = sp.csr_matrix(np.eye(2, dtype=np.float32))
        for array in (small.data, small.indices, small.indptr):
            array.flags.writeable = False  # as the mapped ones are: to numba, another type
        SparseIndex.build(small, ["0", "1"], bits=bits)

    def fill(self, source: VectorSource) -> None:
        self._index = SparseIndex.build(source.documents, source.doc_ids, bits=self._bits)

    def search(self, queries: sp.csr_matrix, k: int) -> Found:
        asked = [queries[row] for row in range(queries.shape[0])]

        def ask(row: int) -> list[tuple[int, float]]:
            hits = self._index.search(asked[row], k, threads=1)
            return list(zip(hits.docs[0].tolist(), hits.scores[0].tolist(), strict=True))

        return one_by_one(ask, len(asked), k)

    def size(self) -> int:
        return self._index.nbytes

    def close(self) -> None:
        pass


class SpladeIndex(Engine):
    """The package splade-index: all postings of a query, then the k best."""

    limits = Limits("splade-index")

    def __init__(self) -> None:
        from splade_index.numba.retrieve_utils import _retrieve_numba_functional

        self._retrieve = _retrieve_numba_functional
        self.version = installed_version("splade-index")

    def fill(self, source: VectorSource) -> None:
        by_term = source.documents.tocsc()
        self._scores = {
            "data": by_term.data,
            "indices": by_term.indices,
            "indptr": by_term.indptr,
            "num_docs": by_term.shape[0],
        }

    def search(self, queries: sp.csr_matrix, k: int) -> Found:
        asked = [(queries[row].indices, queries[row].data) for row in range(queries.shape[0])]

        def ask(row: int) -> list[tuple[int, float]]:
            terms, weights = asked[row]
            docs, scores = self._retrieve(
                [terms], [weights], self._scores, k=k, n_threads=1, show_progress=False
            )
            return list(zip(docs[0].tolist(), scores[0].tolist(), strict=True))

        return one_by_one(ask, len(asked), k)

    def size(self) -> int:
        return sum(self._scores[name].nbytes for name in ("data", "indices", "indptr"))

    def close(self) -> None:
        pass


class Seismic(Engine):
    """Seismic with the settings of SeismicRetriever, one query after another; and its answers at other settings."""

    limits = Limits("Seismic")
    settings: ClassVar = {"": (10, 0.7), "cut 5, heap 0.9": (5, 0.9), "cut 10, heap 0.5": (10, 0.5)}

    def __init__(self) -> None:
        import seismic  # noqa: F401  (missing: left out before anything is built)

        self.version = installed_version("pyseismic-lsr")

    def fill(self, source: VectorSource) -> None:
        index = SparseIndex.build(source.documents, source.doc_ids)
        started = time.perf_counter()
        self._retriever = SeismicRetriever(index, lambda texts: source.queries)
        self._seconds = time.perf_counter() - started
        del self._retriever.exact

    def search(self, queries: sp.csr_matrix, k: int, setting: str = "") -> Found:
        string, index = self._retriever._string, self._retriever._index
        cut, heap = self.settings[setting]
        asked = [(queries[row].indices.astype(string), queries[row].data) for row in range(queries.shape[0])]

        def ask(row: int) -> list[tuple[int, float]]:
            found = index.search(str(row), *asked[row], k=k, query_cut=cut, heap_factor=heap)
            return [(int(doc), score) for _, score, doc in found]

        return one_by_one(ask, len(asked), k)

    def close(self) -> None:
        pass


class BlockMaxPruning(Engine):
    """The package bmp over weights in 8 bits; it loses an incomplete last block, so blocks are filled up."""

    limits = Limits("BMP")
    _BLOCK = 32

    def __init__(self) -> None:
        import bmp

        self._bmp = bmp
        self.version = installed_version("bmp")
        self._folder = tempfile.TemporaryDirectory(prefix="bmp-")

    def fill(self, source: VectorSource) -> None:
        path = str(Path(self._folder.name) / "index.bmp")
        self._scale = 255 / float(source.documents.data.max())
        indexer = self._bmp.Indexer(path, bsize=self._BLOCK, compress_range=False)
        for row, (ids, weights) in enumerate(rows_of(source.documents)):
            whole = zip(ids, np.rint(np.multiply(weights, self._scale)).astype(int).tolist(), strict=True)
            indexer.add_document(str(row), {str(token): weight for token, weight in whole if weight})
        for row in range(-source.documents.shape[0] % self._BLOCK):
            indexer.add_document(f"-{row + 1}", {"0": 1})
        indexer.finish()
        self._searcher = self._bmp.Searcher(path)

    def search(self, queries: sp.csr_matrix, k: int) -> Found:
        asked = [dict(zip(map(str, ids), weights, strict=True)) for ids, weights in query_rows(queries)]

        def ask(row: int) -> list[tuple[int, float]]:
            docs, scores = self._searcher.search(asked[row], k=k, alpha=1.0, beta=1.0)
            pairs = zip(map(int, docs), scores, strict=True)
            return [(doc, score / self._scale) for doc, score in pairs if doc >= 0]

        return one_by_one(ask, len(asked), k)

    def size(self) -> int:
        return folder_size(Path(self._folder.name))

    def close(self) -> None:
        self._folder.cleanup()


class Pisa(Engine):
    """PISA over weights in 8 bits, by the extension within pyterrier-pisa: PyTerrier and its Java are not imported.

    A query's weight is how often its term is named, in steps of a tenth.
    """

    limits = Limits("PISA")
    settings: ClassVar = {"": "block_max_wand", "MaxScore": "maxscore"}
    _STEPS = 10

    def __init__(self) -> None:
        found, threads = importlib.util.find_spec("pyterrier_pisa"), Path(sys.prefix) / "lib" / "libtbb.so.2"
        if found is None or not found.submodule_search_locations or not threads.is_file():
            raise ImportError("pip install --no-deps pyterrier-pisa 'tbb<=2020.3.254'")
        ctypes.CDLL(str(threads), mode=ctypes.RTLD_GLOBAL)
        (path,) = Path(found.submodule_search_locations[0]).glob("_pisathon*.so")
        spec = importlib.util.spec_from_file_location("_pisathon", path)
        assert spec is not None
        assert spec.loader is not None
        self._pisa = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._pisa)
        self.version = installed_version("pyterrier-pisa")
        self._folder = tempfile.TemporaryDirectory(prefix="pisa-")

    def fill(self, source: VectorSource) -> None:
        folder, by_term = Path(self._folder.name), source.documents.tocsc()
        self._scale = 255 / float(by_term.data.max())
        steps = np.maximum(1, np.rint(by_term.data * self._scale)).astype(np.uint32)
        lengths = np.bincount(by_term.indices, steps, by_term.shape[0]).astype(np.uint32)
        terms = sorted(map(str, np.flatnonzero(np.diff(by_term.indptr))))
        with (folder / "inv.docs").open("wb") as docs, (folder / "inv.freqs").open("wb") as weights:
            np.array([1, len(lengths)], np.uint32).tofile(docs)
            for term in map(int, terms):
                place = slice(by_term.indptr[term], by_term.indptr[term + 1])
                for out, values in ((docs, by_term.indices[place]), (weights, steps[place])):
                    np.concatenate([[len(values)], values]).astype(np.uint32).tofile(out)
        np.concatenate([[len(lengths)], lengths]).astype(np.uint32).tofile(folder / "inv.sizes")
        for name, lines in (("term", terms), ("doc", source.doc_ids)):
            (folder / f"{name}s").write_text("".join(line + "\n" for line in lines))
            self._pisa.build_binlex(str(folder / f"{name}s"), str(folder / f"fwd.{name}lex"))
        self._context = self._pisa.RetrievalContext()
        self._pisa.prepare_index(self._context, str(folder), "block_simdbp", "quantized", "")

    def search(self, queries: sp.csr_matrix, k: int, setting: str = "") -> Found:
        asked = [
            [
                (
                    row,
                    {
                        str(token): float(round(weight * self._STEPS))
                        for token, weight in zip(*one, strict=True)
                    },
                )
            ]
            for row, one in enumerate(query_rows(queries))
        ]
        rows, places, scores = np.empty(k, np.int32), np.empty(k, np.int32), np.empty(k, np.float32)

        def ask(row: int) -> list[tuple[int, float]]:
            docs = np.empty(k, object)
            found = self._pisa.retrieve(
                self._context,
                self.settings[setting],
                asked[row],
                k=k,
                query_weighted=1,
                pretokenised=True,
                result_qidxs=rows,
                result_docnos=docs,
                result_ranks=places,
                result_scores=scores,
            )
            pairs = zip(docs[:found], scores[:found].tolist(), strict=True)
            return [(int(doc), score / self._scale / self._STEPS) for doc, score in pairs]

        return one_by_one(ask, len(asked), k)

    def size(self) -> int:
        return sum(path.stat().st_size for path in Path(self._folder.name).glob("quantized*"))

    def close(self) -> None:
        del self._context
        self._folder.cleanup()


OWN: dict[str, Callable[[], Engine]] = {
    "ours": Ours,
    "ours-8-bits": lambda: Ours(8),
    "splade-index": SpladeIndex,
    "seismic": Seismic,
    "bmp": BlockMaxPruning,
    "pisa": Pisa,
}


def mixed(vectors: sp.csr_matrix, pairs: NDArray[np.int64], rng: np.random.Generator) -> sp.csr_matrix:
    """Three quarters of the terms of a pair's first document, a quarter of its second's, csr [pairs, vocabulary]."""
    parts = []
    for side, share in enumerate((0.75, 0.25)):
        part = sp.csr_matrix(vectors[pairs[:, side]], dtype=np.float32)
        vary = np.exp(rng.normal(0, 0.15, part.nnz)) * (rng.random(part.nnz) < share)
        part.data *= vary.astype(np.float32)
        parts.append(part)
    both = sp.csr_matrix(parts[0].maximum(parts[1]), dtype=np.float32)
    both.eliminate_zeros()
    both.sort_indices()
    return both


def mixed_texts(texts: Sequence[str], pairs: NDArray[np.int64], rng: np.random.Generator) -> Iterator[str]:
    words = [np.array(text.split() or [""], object) for text in texts]
    for one, other in pairs:
        kept = [
            words[doc][rng.random(len(words[doc])) < share] for doc, share in ((one, 0.75), (other, 0.25))
        ]
        yield " ".join(np.concatenate(kept))


def write_input(folder: Path, source: VectorSource, documents: int, words: bool) -> None:
    """Arrays that every arm maps, the queries, the exact k-th scores."""
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, source.documents.shape[0], (documents, 2))
    shards = [mixed(source.documents, pairs[at : at + SHARD], rng) for at in range(0, documents, SHARD)]
    vectors = sp.vstack(shards, format="csr")
    del shards
    for name in ("data", "indices", "indptr"):
        np.save(folder / f"{name}.npy", getattr(vectors, name))
    sp.save_npz(folder / "queries.npz", source.queries)
    write_json(folder / "query_texts.json", source.query_texts)
    if words:
        with (folder / "texts").open("w", encoding="utf-8") as out:
            out.writelines(text + "\n" for text in mixed_texts(source.texts, pairs, rng))
    hits = SparseIndex.build(vectors, map(str, range(documents))).search(source.queries, K)
    np.save(folder / "best.npy", hits.scores)


def read_input(folder: Path, heaviest: int | None) -> VectorSource:
    arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("data", "indices", "indptr")]
    queries = sp.csr_matrix(sp.load_npz(folder / "queries.npz"), dtype=np.float32)
    rows = len(arrays[2]) - 1
    documents = sp.csr_matrix(tuple(arrays), shape=(rows, queries.shape[1]), copy=False)
    documents.has_sorted_indices = documents.has_canonical_format = True
    if heaviest is not None:
        documents = kept_heaviest(documents, heaviest)
    texts = [""] * rows
    if (folder / "texts").is_file():
        texts = (folder / "texts").read_text(encoding="utf-8").split("\n")[:rows]
    return VectorSource(
        [str(token) for token in range(queries.shape[1])],
        [str(row) for row in range(rows)],
        texts=texts,
        documents=documents,
        query_ids=[str(row) for row in range(queries.shape[0])],
        query_texts=json.loads((folder / "query_texts.json").read_text()),
        queries=queries,
    )


def kept_heaviest(vectors: sp.csr_matrix, most: int) -> sp.csr_matrix:
    """The heaviest weights of each row."""
    rows = np.repeat(np.arange(vectors.shape[0]), np.diff(vectors.indptr))
    order = np.lexsort((-vectors.data, rows))
    place = np.arange(len(order)) - np.repeat(vectors.indptr[:-1], np.diff(vectors.indptr))
    kept = np.sort(order[place < most])
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows[kept], minlength=vectors.shape[0]))])
    return sp.csr_matrix((vectors.data[kept], vectors.indices[kept], indptr), shape=vectors.shape)


def processes() -> list[psutil.Process]:
    this = psutil.Process()
    return [this, *this.children(recursive=True)]


def processor_seconds() -> float:
    """Of this process, those that it started and those of them that have ended."""
    total = 0.0
    for process in processes():
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def anonymous() -> int:
    """Bytes of anonymous memory of this process and of those that it started."""
    total = 0
    for process in processes():
        with contextlib.suppress(OSError, psutil.Error):
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            sizes = [line.split()[1] for line in lines if line.startswith(("RssAnon", "RssShmem"))]
            total += 1024 * sum(map(int, sizes))
    return total


@contextlib.contextmanager
def watched() -> Iterator[list[int]]:
    """The most anonymous memory so far, in a list of one."""
    peak, stop = [anonymous()], threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            peak[0] = max(peak[0], anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        stop.set()
        watcher.join()


def pin() -> None:
    core = {min(os.sched_getaffinity(0))}
    for process in processes():
        for thread in process.threads():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(thread.id, core)


def recall(found: Found, source: VectorSource, best: NDArray[np.float32]) -> float:
    """Share of the exact k best, or of others with their scores, among those found."""
    had, wanted = 0, 0
    for row, docs in enumerate(found.docs):
        right = best[row][best[row] > 0]
        wanted += len(right)
        if len(right) and (docs >= 0).any():
            query = source.queries[row].astype(np.float64)
            scores = (source.documents[docs[docs >= 0]].astype(np.float64) @ query.T).toarray().ravel()
            had += int((scores >= right[-1] * (1 - TIE)).sum())
    return had / wanted


def arm(name: str, folder: Path, parent: Connection) -> None:
    """Builds when it is told to, then searches or asks BM25 as often as it is told to."""
    os.dup2(2, 1)  # libraries report progress on stdout
    say = parent.send
    parent.recv()
    name, _, most = name.partition("@")
    try:
        engine = OWN[name]() if name in OWN else started(name)
    except (ImportError, InputError) as error:
        say({"left out": str(error)})
        return
    whole = read_input(folder, None)
    source = read_input(folder, int(most)) if most else whole
    best = np.load(folder / "best.npy")
    with engine:
        queries = engine.limits.scaled(source.queries)
        engine.limits.check(source)
        gc.collect()
        before = anonymous()
        with watched() as peak:
            started_at, used = time.perf_counter(), processor_seconds()
            own = engine.fill(source)
            seconds = time.perf_counter() - started_at if own is None else own
            used = processor_seconds() - used
        seconds = getattr(engine, "_seconds", seconds)
        gc.collect()
        say({
            "version": engine.version,
            "build, s": seconds,
            "build, processor s": used,
            "build, bytes": peak[0] - before,
            "disk, bytes": engine.size(),
            "settings": list(getattr(engine, "settings", [""])),
        })  # fmt: skip
        for message in iter(parent.recv, "end"):
            what, *setting = message.split(maxsplit=1)
            asked = (queries, K, *setting) if what == "search" else (source.query_texts, K)
            pin()
            with watched() as peak:
                found = getattr(engine, what)(*asked)
            if found is None:
                say({})
                continue
            ms = 1e3 * found.seconds[np.isfinite(found.seconds)]
            say({
                "p50": float(np.percentile(ms, 50)),
                "p99": float(np.percentile(ms, 99)),
                "mean": float(ms.mean()),
                "bytes": peak[0] - before,
                "recall": recall(found, whole, best) if what == "search" else None,
            })  # fmt: skip


class Running:
    """An arm's process, forked before this one has any thread, so that it need not import everything again."""

    def __init__(self, name: str, folder: Path) -> None:
        fork = multiprocessing.get_context("fork")
        self._pipe, theirs = fork.Pipe()
        self._process = fork.Process(target=arm, args=(name, folder, theirs))
        self._process.start()
        theirs.close()

    def ask(self, what: str) -> dict[str, Any]:
        self._pipe.send(what)
        told: dict[str, Any] = self._pipe.recv()
        return told

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._pipe.send("end")
        self._process.join()


def compare(arms: dict[str, Running], rounds: int, bm25: bool) -> dict[str, dict[str, Any]]:
    report: dict[str, dict[str, Any]] = {}
    turns: dict[str, tuple[Running, str]] = {}
    for name, running in list(arms.items()):
        built = running.ask("build")
        print(name, built, flush=True)
        if "left out" in built:
            arms.pop(name).close()
            continue
        for setting in built.pop("settings"):
            report[f"{name} {setting}".strip()] = {**built}
            turns[f"{name} {setting}".strip()] = running, setting
    for what in ("search", "bm25") if bm25 else ("search",):
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in turns}
        for _ in range(rounds):
            for name, (running, setting) in turns.items():
                found[name].append(running.ask(f"{what} {setting}"))
        for name, each in found.items():
            if each[0]:
                figures = {key: min(one[key] for one in each) for key in ("p50", "p99", "mean")}
                report[name][what] = {**figures, "bytes": each[-1]["bytes"], "recall": each[-1]["recall"]}
    for running in arms.values():
        running.close()
    return report


def show(report: dict[str, dict[str, Any]]) -> None:
    first = next(one["search"]["p50"] for one in report.values() if "search" in one)
    bm25 = any("bm25" in one for one in report.values())
    headings = ["", "recall@10", "ms p50", "p99", "mean", "times the first", "built, s", "of processor"]
    headings += [
        "building, MB",
        "searching, MB",
        "disk, MB",
        *(["BM25 ms p50 / p99 / mean", "p50 / BM25's"] if bm25 else []),
    ]
    print("| " + " | ".join(headings) + " |\n" + "|---" * len(headings) + "|")
    for name, one in report.items():
        if "search" not in one:
            continue
        search, words = one["search"], one.get("bm25")
        cells = [f"{name} {one['version']}".strip(), f"{search['recall']:.3f}", f"{search['p50']:.3f}"]
        cells += [f"{search['p99']:.2f}", f"{search['mean']:.3f}", f"{search['p50'] / first:.1f}"]
        cells += [f"{one['build, s']:.1f}", f"{one['build, processor s']:.1f}"]
        cells += [f"{size / 1e6:,.0f}" for size in (one["build, bytes"], search["bytes"])]
        cells += ["–" if one["disk, bytes"] is None else f"{one['disk, bytes'] / 1e6:,.0f}"]
        if words:
            cells += [f"{words['p50']:.3f} / {words['p99']:.2f} / {words['mean']:.3f}"]
            cells += [f"{search['p50'] / words['p50']:.2f}"]
        print("| " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("index", help="a folder made by `neural-sparse encode`")
    parser.add_argument("--collection", required=True, help="whose queries: folder or name")
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--arms", default=ARMS, help=f"of {', '.join([*OWN, *ENGINES])}")
    parser.add_argument("--bm25", action="store_true", help="documents have words, and BM25 is asked too")
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks/search-engines.json"))
    options = parser.parse_args()
    source, _ = judged_source(options.index, load_collection(options.collection), options.queries)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        arms = {name: Running(name, folder) for name in options.arms.split(",")}
        write_input(folder, source, options.documents, options.bm25)
        sizes = np.load(folder / "indptr.npy")
        about = {
            "machine": machine(),
            "documents": options.documents,
            "terms a document": float(sizes[-1]) / options.documents,
            "terms a query": source.queries.nnz / source.queries.shape[0],
        }
        print(about, flush=True)
        del source
        report = compare(arms, options.rounds, options.bm25)
    show(report)
    write_json(options.output, {**about, "arms": report})


if __name__ == "__main__":
    main()
