"""Lucene 10.6 itself, in a Java of its own: features of a FeatureField, 9 significant bits of a weight.

In its exact mode each weight is two features, its 9 bits and 9 bits of what they leave: twice the clauses, and nothing
is lost that a ranking would show.
"""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from neural_sparse.engines.engine import Engine, Found, query_rows, rows_of
from neural_sparse.engines.limits import Limits
from neural_sparse.engines.maven import default_cache, fetched, java_of
from neural_sparse.engines.programs import folder_size
from neural_sparse.engines.vectors import VectorSource
from neural_sparse.errors import InputError
from neural_sparse.io.files import replacing_folder
from neural_sparse.opensearch.features import MAX_CLAUSES, MIN_WEIGHT, stored, truncated
from neural_sparse.opensearch.guards import MAX_QUERY_WEIGHT
from neural_sparse.opensearch.node.archives import Artifact

CORE = Artifact("org.apache.lucene", "lucene-core", "10.6.0")
_REST = "#"  # behind the name of what 9 bits leave


def remainder(weights: np.ndarray) -> np.ndarray:
    """float32: 9 bits of what `truncated` leaves of each weight; 0 where Lucene could not hold it.

    >>> weights = np.float32([0.1, 3.0])
    >>> (truncated(weights) + remainder(weights)).tolist()
    [0.09999990463256836, 3.0]
    """
    rest = truncated(weights - truncated(weights))
    return np.where(rest < MIN_WEIGHT, np.float32(0), rest)


def compiled(java: Path, core: Path) -> Path:
    """Folder of the program that asks Lucene, compiled once.

    Raises:
        InputError: a Java without a compiler.
    """
    program = files("neural_sparse.engines").joinpath("java", "Lucene.java")
    folder = default_cache() / f"lucene-{hashlib.sha256(program.read_bytes()).hexdigest()[:12]}"
    if (folder / "Lucene.class").is_file():
        return folder
    with as_file(program) as source, replacing_folder(folder) as temporary:
        command = [str(java / "bin" / "javac"), "-cp", str(core), "-d", str(temporary), str(source)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
            )
        except OSError as error:
            raise InputError(f"{java} has no compiler ({error}): install a whole JDK") from error
        if done.returncode:
            raise InputError(f"{command[0]} ended with {done.returncode}: {done.stderr[-1000:]}")
    return folder


class Lucene(Engine):
    """Lucene in a Java of its own (21 or later), an index in a folder of its own.

    Args:
        exact: each weight as two features.

    Raises:
        InputError: no such Java; the library cannot be had.
    """

    limits = Limits("Lucene", query_weight=MAX_QUERY_WEIGHT, clauses=MAX_CLAUSES)

    def __init__(self, exact: bool = False) -> None:
        self.exact = exact
        if exact:
            self.limits = Limits(  # type: ignore[misc]
                "Lucene, exact", query_weight=MAX_QUERY_WEIGHT, clauses=MAX_CLAUSES // 2
            )
        self._java = java_of(21, f"Lucene {CORE.version}")
        (self._core,) = fetched([CORE])
        self._classes = compiled(self._java, self._core)
        self.version = CORE.version
        self._folder = tempfile.TemporaryDirectory(prefix="lucene-")

    def fill(self, source: VectorSource) -> float:
        self._write("documents", source.texts, self._features(source.documents))
        return int(self._run("fill")) / 1e9

    def search(self, queries: sp.csr_matrix, k: int) -> Found:
        # A query's weight stands beside both features of a document's.
        names = [
            [(name, weight) for token, weight in zip(*row, strict=True) for name in self._names(token)]
            for row in query_rows(queries)
        ]
        self._write("queries", [""] * len(names), iter(names))
        self._run("search", str(k))
        found = self._found(len(names), k)
        found.seconds[[not row for row in names]] = np.nan
        return found

    def bm25(self, texts: Sequence[str], k: int) -> Found:
        self._write("queries", texts, iter([()] * len(texts)))
        self._run("bm25", str(k))
        return self._found(len(texts), k)

    def kept(self, documents: sp.csr_matrix) -> sp.csr_matrix:
        kept = stored(documents)
        if self.exact:
            csr = sp.csr_matrix(documents, dtype=np.float32)
            rest = sp.csr_matrix((remainder(csr.data), csr.indices, csr.indptr), shape=csr.shape)
            kept = sp.csr_matrix(kept + rest)
        return kept

    def size(self) -> int:
        return folder_size(Path(self._folder.name) / "index")

    def close(self) -> None:
        self._folder.cleanup()

    def _names(self, token: int) -> tuple[str, ...]:
        return (str(token), f"{token}{_REST}") if self.exact else (str(token),)

    def _features(self, documents: sp.csr_matrix) -> Iterator[list[tuple[str, float]]]:
        for ids, weights in rows_of(sp.csr_matrix(documents, dtype=np.float32)):
            row = [
                (str(token), weight)
                for token, weight in zip(ids, weights, strict=True)
                if weight >= MIN_WEIGHT
            ]
            if self.exact:
                rest = remainder(np.asarray(weights, np.float32)).tolist()
                row += [
                    (f"{token}{_REST}", weight) for token, weight in zip(ids, rest, strict=True) if weight
                ]
            yield row

    def _write(
        self, name: str, texts: Sequence[str], features: Iterator[Sequence[tuple[str, float]]]
    ) -> None:
        with (Path(self._folder.name) / name).open("wb") as out:
            out.write(struct.pack(">i", len(texts)))
            for text, row in zip(texts, features, strict=True):
                out.write(_counted(text) + struct.pack(">i", len(row)))
                out.write(b"".join(_name(token) + struct.pack(">f", weight) for token, weight in row))

    def _run(self, *what: str) -> str:
        command = [str(self._java / "bin" / "java"), "--add-modules", "jdk.incubator.vector"]
        command += ["-cp", os.pathsep.join(map(str, (self._core, self._classes))), "Lucene"]
        command += [what[0], self._folder.name, *what[1:]]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise InputError(f"Lucene {self.version} ended with {done.returncode}: {done.stderr[-1000:]}")
        return done.stdout.strip()

    def _found(self, queries: int, k: int) -> Found:
        found = Found(
            np.full((queries, k), -1, np.int32), np.zeros((queries, k), np.float32), np.empty(queries)
        )
        content = (Path(self._folder.name) / "found").read_bytes()
        at = 0
        for row in range(queries):
            nanoseconds, count = struct.unpack_from(">qi", content, at)
            found.seconds[row] = nanoseconds / 1e9
            at += 12
            for place in range(count):
                found.docs[row, place], found.scores[row, place] = struct.unpack_from(">if", content, at)
                at += 8
        return found


@cache  # of each posting's: at most twice the vocabulary
def _name(token: str) -> bytes:
    return _counted(token)


def _counted(text: str) -> bytes:
    encoded = text.encode("utf-8", "replace")
    return struct.pack(">i", len(encoded)) + encoded
