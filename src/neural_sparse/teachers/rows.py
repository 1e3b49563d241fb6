"""Rows of teacher vectors, dense or sparse, spread over memory-mapped shards, and how they are gathered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from scipy.sparse import csr_matrix

from neural_sparse.text.ragged import locate, offsets_of, ranges

Matrix = NDArray[np.float32] | csr_matrix
Arrays = dict[str, NDArray]
_PIECE = 1 << 14  # sparse rows gathered at a time


def pack(matrix: Matrix, sparse_values: DTypeLike = np.float32) -> Arrays:
    """The arrays a shard stores for a matrix [rows, width]; those of a sparse one as `sparse_values`."""
    if isinstance(matrix, csr_matrix):
        return {
            "indptr": matrix.indptr.astype(np.int64),
            "indices": matrix.indices.astype(np.int32),
            "values": matrix.data.astype(sparse_values),
            "width": np.array([matrix.shape[1]], dtype=np.int64),
        }
    return {"vectors": matrix}


def concatenate(parts: Sequence[Arrays]) -> Arrays:
    """The arrays of several shards as those of one, in order."""
    joined = {
        name: parts[0][name] if name == "width" else np.concatenate([part[name] for part in parts])
        for name in parts[0]
    }
    if "indptr" in joined:
        ends = np.cumsum([part["indptr"][-1] for part in parts])
        shifted = [part["indptr"][1:] + end for part, end in zip(parts[1:], ends, strict=False)]
        joined["indptr"] = np.concatenate([parts[0]["indptr"], *shifted])
    return joined


def size(part: Arrays) -> int:
    """Bytes of a shard's arrays."""
    return sum(array.nbytes for array in part.values())


def without_first(part: Arrays, count: int) -> Arrays:
    """A copy of a shard's arrays without the first `count` rows."""
    if "indptr" not in part:
        return {name: array[count:].copy() for name, array in part.items()}
    begin = part["indptr"][count]
    start = {"indptr": count, "indices": begin, "values": begin, "width": 0}
    left = {name: array[start.get(name, count) :].copy() for name, array in part.items()}
    left["indptr"] -= begin
    return left


@dataclass(frozen=True)
class StoredVectors:
    """A fixed view of rows in shards: later changes to the files on disk do not move what it shows.

    Attributes:
        parts: The arrays of each shard, as `pack` makes them (usually memory-mapped).
    """

    parts: tuple[Arrays, ...]
    starts: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        sizes = [
            len(part["vectors"]) if "vectors" in part else len(part["indptr"]) - 1 for part in self.parts
        ]
        object.__setattr__(self, "starts", offsets_of(sizes))

    @classmethod
    def of(cls, matrix: Matrix) -> StoredVectors:
        return cls((pack(matrix),))

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def sparse(self) -> bool:
        return "indptr" in self.parts[0]

    def gather(self, rows: NDArray[np.int64]) -> Matrix:
        """Rows by number, in the order asked for: float32 [n, width], an array or a csr_matrix."""
        return self._gather_sparse(rows) if self.sparse else self.gather_dense(rows)

    def gather_dense(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """As `gather`, of a dense teacher."""
        if len(self.parts) == 1:
            return self.parts[0]["vectors"][rows].astype(np.float32)
        gathered = np.empty((len(rows), self.parts[0]["vectors"].shape[1]), dtype=np.float32)
        shards, places = locate(self.starts, rows)
        for number in np.unique(shards):
            here = shards == number
            gathered[here] = self.parts[number]["vectors"][places[here]]
        return gathered

    def _gather_sparse(self, rows: NDArray[np.int64]) -> csr_matrix:
        width = int(self.parts[0]["width"][0])
        shards, local = locate(self.starts, rows)
        starts, lengths = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
        used = np.unique(shards).tolist()
        for number in used:
            here = shards == number
            indptr = self.parts[number]["indptr"]
            starts[here] = indptr[local[here]]
            lengths[here] = indptr[local[here] + 1] - starts[here]
        offsets = offsets_of(lengths)
        indices, data = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], np.float32)
        # A piece at a time: places of all entries would take more than the entries themselves.
        for piece in batches(len(rows), _PIECE):
            places = ranges(starts[piece], lengths[piece])
            shard_of = np.repeat(shards[piece], lengths[piece])
            entries = slice(offsets[piece.start], offsets[piece.stop])
            for number in used:
                here = shard_of == number
                if here.any():
                    indices[entries][here] = self.parts[number]["indices"][places[here]]
                    data[entries][here] = self.parts[number]["values"][places[here]]
        return csr_matrix((data, indices, offsets), shape=(len(rows), width))


class DenseVectors:
    """Rows of dense shards in an order of their own, read when they are asked for.

    Args:
        rows: of a dense teacher.
        numbers: int64 [texts], the row of each text.
    """

    def __init__(self, rows: StoredVectors, numbers: NDArray[np.int64]) -> None:
        self._rows, self._numbers = rows, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self._rows.parts[0]["vectors"].shape[1]

    def __getitem__(self, places: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """float32 [places, width]."""
        return self._rows.gather_dense(self._numbers[places])


def dot(queries: Matrix, documents: Matrix) -> NDArray[np.float32]:
    """Dot products of every query with every document: float32 [queries, documents]."""
    if not isinstance(queries, csr_matrix) or not isinstance(documents, csr_matrix):
        # Not numpy's product: the threads of its BLAS would compete with torch's, which train meanwhile.
        return (torch.from_numpy(np.asarray(queries)) @ torch.from_numpy(np.asarray(documents)).T).numpy()
    return (queries @ documents.T).toarray().astype(np.float32, copy=False)


def batches(total: int, size: int) -> list[slice]:
    """Consecutive slices of at most `size` that cover range(total)."""
    bounds = [*range(0, total, size), total]
    return [slice(start, end) for start, end in pairwise(bounds)]
