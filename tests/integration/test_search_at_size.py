"""A collection of MS MARCO's size is built on disk and searched, exactly and in bounded memory."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from neural_sparse.search import SparseIndex
from neural_sparse.search.block_max import DOCUMENTS_PER_HIT

pytestmark = pytest.mark.integration

VOCABULARY, SHARD, K = 30_522, 10_000, 10
MEMORY = 1 << 28
DRAWS = 120  # of which 119 terms a document are distinct
MIB = 1 << 20


def drawn(rows: int, draws: int, seed: int) -> sp.csr_matrix:
    """Vectors whose terms are as unequally frequent as those of texts."""
    rng = np.random.default_rng(seed)
    chance = 1 / (np.arange(VOCABULARY) + 200)
    terms = np.searchsorted(np.cumsum(chance / chance.sum()), rng.random(rows * draws))
    terms = np.minimum(terms, VOCABULARY - 1).astype(np.int32)
    found = sp.csr_matrix(
        (np.ones(len(terms), np.float32), terms, np.arange(0, len(terms) + 1, draws)), (rows, VOCABULARY)
    )
    found.sum_duplicates()
    found.data = rng.gamma(2, 0.4, found.nnz).astype(np.float32) + np.float32(0.01)
    return found


def shards(documents: int) -> Iterator[sp.csr_matrix]:
    """The same vectors again and again, in another order and with other weights."""
    vectors = drawn(SHARD, DRAWS, 0)
    for number, first in enumerate(range(0, documents, SHARD)):
        rng = np.random.default_rng(number)
        shard = vectors[rng.permutation(SHARD)[: documents - first]]
        shard.data *= rng.uniform(0.5, 1.5, shard.nnz).astype(np.float32)
        yield shard


def queries() -> sp.csr_matrix:
    return drawn(8, 8, 1)


def searched_one_by_one(documents: int) -> tuple[list[list[int]], list[list[float]]]:
    """The K best rows of each query and their scores, by the plain product with every shard."""
    asked = queries().astype(np.float64).T.tocsr()
    scores, rows = np.zeros((asked.shape[1], 0), np.float32), np.zeros((asked.shape[1], 0), np.int64)
    for number, shard in enumerate(shards(documents)):
        here = (shard.astype(np.float64) @ asked).toarray().T.astype(np.float32)
        scores = np.concatenate([scores, here], axis=1)
        rows = np.concatenate(
            [rows, np.broadcast_to(number * SHARD + np.arange(here.shape[1]), here.shape)], axis=1
        )
        best = np.argsort(-scores, axis=1, kind="stable")[:, :K]
        scores, rows = np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)
    return rows.tolist(), scores.tolist()


def build(folder: Path, documents: int) -> dict[str, Any]:
    index = SparseIndex.build(shards(documents), map(str, range(documents)), folder=folder, memory=MEMORY)
    return {"bytes": index.nbytes, "postings": len(index.postings.docs)}


def search(folder: Path, documents: int) -> dict[str, Any]:
    hits = SparseIndex.load(folder).search(queries(), K, threads=1)
    return {"ids": [[int(each) for each in found] for found in hits.ids()], "scores": hits.scores.tolist()}


def in_own_process(task: str, folder: Path, documents: int) -> dict[str, Any]:
    """What `build` or `search` returns, and its peak of memory in MiB, pages of mapped files included."""
    command = [sys.executable, __file__, task, str(folder), str(documents)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize(
    "documents", [K * DOCUMENTS_PER_HIT + 1, pytest.param(8_841_823, marks=pytest.mark.slow)]
)
def test_what_is_built_on_disk_is_searched_exactly(tmp_path: Path, documents: int) -> None:
    needed = 2 * 8 * 119 * documents
    if (free := shutil.disk_usage(tmp_path).free) < needed:
        pytest.skip(f"building takes {needed / 1e9:.0f} GB of disk, {free / 1e9:.0f} are free")
    built = in_own_process("build", tmp_path / "index", documents)
    assert built["postings"] / documents == pytest.approx(119, abs=1)
    found = in_own_process("search", tmp_path / "index", documents)
    rows, scores = searched_one_by_one(documents)
    assert found["ids"] == rows
    np.testing.assert_allclose(found["scores"], scores, rtol=1e-6)
    # A shard, the offsets of every segment and the ids come on top of MEMORY when building.
    assert built["peak"] < 2048
    assert found["peak"] < 1024 + built["bytes"] / MIB
    print(f"{documents:,} documents: peaks of {built['peak']:,.0f} and {found['peak']:,.0f} MiB")


if __name__ == "__main__":
    task, folder, documents = sys.argv[1:]
    result = {"build": build, "search": search}[task](Path(folder), int(documents))
    # Not ru_maxrss, which begins with the peak of the process that started this one.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    result["peak"] = int(status["VmHWM"].split()[0]) / 1024
    print(json.dumps(result))
