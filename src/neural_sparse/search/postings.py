"""Posting lists as three flat arrays: made of document vectors, with documents added or removed, or in 8 bits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from neural_sparse.errors import InputError
from neural_sparse.search.compiled import compiled
from neural_sparse.text.ragged import offsets_of

MAX_DOCS = 2**31 - 1


@dataclass(frozen=True)
class Postings:
    """The documents of each term, ascending, with their impacts.

    Attributes:
        offsets: int64 [vocabulary + 1]; term t has postings offsets[t]:offsets[t + 1].
        docs: int32 [postings], document rows.
        impacts: float32 [postings], > 0; or uint8, whose value is impacts * scale.
        scale: 1 for float32 impacts.
        n_docs: Documents, those without any term included.
    """

    offsets: NDArray[np.int64]
    docs: NDArray[np.int32]
    impacts: NDArray[Any]
    n_docs: int
    scale: float = 1.0

    def __post_init__(self) -> None:
        # Read-only arrays and memory maps are the same type to numba: each kernel is compiled once.
        for array in (self.offsets, self.docs, self.impacts):
            array.flags.writeable = False

    @property
    def vocab_size(self) -> int:
        return len(self.offsets) - 1

    @property
    def nbytes(self) -> int:
        return self.offsets.nbytes + self.docs.nbytes + self.impacts.nbytes

    def check(self, terms: NDArray[np.int64] | None = None) -> None:
        """Look at the posting lists of all or of some terms: the kernels rely on them, and check nothing.

        Raises:
            InputError: documents that are not ascending, or are none of this index.
        """
        wanted = np.arange(self.vocab_size) if terms is None else np.asarray(terms, np.int64)
        bad = _unsound(self.offsets, self.docs, self.n_docs, wanted)
        if bad >= 0:
            raise InputError(f"the postings of term {bad} are damaged; copy or build the index again")

    def to_csr(self) -> sp.csr_matrix:
        """Document vectors, float32 [documents, vocabulary]."""
        impacts = self.impacts if self.impacts.dtype == np.float32 else self.impacts * np.float32(self.scale)
        shape = (self.n_docs, self.vocab_size)
        return sp.csr_matrix(sp.csc_matrix((impacts, self.docs, self.offsets), shape=shape))

    def rows(self, rows: Sequence[int]) -> sp.csr_matrix:
        """Vectors of a few documents, float32 [rows, vocabulary], without reading all postings.

        Raises:
            IndexError: a row that does not exist.
        """
        wanted = np.asarray(rows, np.int64).reshape(-1)
        if len(wanted) and not (wanted.min() >= 0 and wanted.max() < self.n_docs):
            raise IndexError(f"rows {list(rows)} of {self.n_docs} documents")
        dense = np.zeros((len(wanted), self.vocab_size), np.float32)
        _gather(
            self.offsets,
            self.docs,
            impacts=self.impacts,
            rows=wanted.astype(np.int32),
            scale=self.scale,
            dense=dense,
        )
        return sp.csr_matrix(dense)


def checked_vectors(vectors: Any, what: str) -> sp.csr_matrix:
    """`vectors` as float32 CSR with sorted, distinct indices and no zeros.

    Raises:
        InputError: not a sparse matrix, or a weight that is negative, infinite or not a number.
    """
    kind = type(vectors).__name__
    given: Any = vectors if sp.issparse(vectors) else None
    if given is None or len(given.shape) != 2:
        raise InputError(f"{what}: expected a scipy.sparse matrix [texts, vocabulary], got {kind}")
    csr = given
    if not (isinstance(given, sp.csr_matrix) and given.dtype == np.float32):  # to make one anew takes 30 us
        csr = sp.csr_matrix(given, dtype=np.float32)
    least = csr.data.min(initial=np.inf)
    if not (least >= 0 and csr.data.max(initial=0) < np.inf):
        bad = csr.data[~((csr.data >= 0) & (csr.data < np.inf))][0]
        raise InputError(f"{what}: weights must be >= 0 and finite, found {bad}")
    if not csr.has_canonical_format:
        csr = csr.copy()  # the arrays may be the caller's
        csr.sum_duplicates()
    if least == 0:
        csr = csr.copy()
        csr.eliminate_zeros()
    return csr


def invert(shards: Iterable[sp.csr_matrix]) -> Postings:
    """Posting lists of document vectors (checked_vectors); the shards' rows follow one another.

    Raises:
        InputError: no shard, shards of different widths, more than 2^31 - 1 documents.
    """
    shards = list(shards)
    if not shards:
        raise InputError("cannot build an index from no document vectors")
    width = shards[0].shape[1]
    n_docs = sum(shard.shape[0] for shard in shards)
    if n_docs > MAX_DOCS:
        raise InputError(f"an index holds at most {MAX_DOCS:,} documents, got {n_docs:,}: split the corpus")
    counts = np.zeros(width, np.int64)
    for shard in shards:
        if shard.shape[1] != width:
            raise InputError(f"document vectors of different widths: {width} and {shard.shape[1]}")
        _count(shard.indices.astype(np.int32, copy=False), counts)
    offsets = offsets_of(counts)
    docs = np.empty(offsets[-1], np.int32)
    impacts = np.empty(offsets[-1], np.float32)
    # In 32 bits twice as many heads stay in the cache: a tenth of the time.
    kind: type[np.integer[Any]] = np.int32 if offsets[-1] < 2**31 else np.int64
    heads = offsets[:-1].astype(kind)
    base = 0
    for shard in shards:
        indptr, indices = shard.indptr.astype(np.int64), shard.indices.astype(np.int32, copy=False)
        _scatter(indptr, indices, data=shard.data, base=base, heads=heads, docs=docs, impacts=impacts)
        base += shard.shape[0]
    return Postings(offsets, docs, impacts, n_docs)


@compiled
def _unsound(
    offsets: NDArray[np.int64], docs: NDArray[np.int32], n_docs: int, terms: NDArray[np.int64]
) -> int:
    """The first of the terms whose documents are not strictly ascending in [0, n_docs), or -1."""
    for term in terms:
        before = -1
        wrong = 0
        for i in range(offsets[term], offsets[term + 1]):
            wrong += docs[i] <= before
            before = docs[i]
        if wrong or before >= n_docs:
            return term
    return -1


@compiled
def _gather(
    offsets: NDArray[np.int64],
    docs: NDArray[np.int32],
    impacts: NDArray[Any],
    rows: NDArray[np.int32],
    scale: float,
    dense: NDArray[np.float32],
) -> None:
    for term in range(len(offsets) - 1):
        postings = docs[offsets[term] : offsets[term + 1]]
        for i in range(len(rows)):
            place = np.searchsorted(postings, rows[i])
            if place < len(postings) and postings[place] == rows[i]:
                dense[i, term] = np.float32(impacts[offsets[term] + place]) * np.float32(scale)


@compiled
def _count(indices: NDArray[np.int32], counts: NDArray[np.int64]) -> None:
    for term in indices:
        counts[term] += 1


@compiled
def _scatter(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    data: NDArray[np.float32],
    base: int,
    heads: NDArray[np.integer],
    docs: NDArray[np.int32],
    impacts: NDArray[np.float32],
) -> None:
    for row in range(len(indptr) - 1):
        for i in range(indptr[row], indptr[row + 1]):
            place = heads[indices[i]]
            docs[place] = base + row
            impacts[place] = data[i]
            heads[indices[i]] = place + 1


def join(parts: Sequence[Postings]) -> Postings:
    """The documents of the first, then of the second, ... (float32, of one width)."""
    offsets = np.sum([part.offsets for part in parts], axis=0)
    docs = np.empty(offsets[-1], np.int32)
    impacts = np.empty(offsets[-1], np.float32)
    heads = offsets[:-1].copy()
    base = 0
    for part in parts:
        append_terms(
            part.offsets,
            part.docs,
            impacts=part.impacts,
            base=base,
            heads=heads,
            out_docs=docs,
            out_impacts=impacts,
        )
        base += part.n_docs
    return Postings(offsets, docs, impacts, base)


def keep_documents(postings: Postings, rows: NDArray[np.bool_]) -> Postings:
    """Only the rows marked True in bool [documents], numbered anew in their order."""
    renumbered = np.cumsum(rows, dtype=np.int64).astype(np.int32) - np.int32(1)
    kept = count_kept(postings.offsets, postings.docs, rows)
    offsets = offsets_of(kept)
    docs = np.empty(offsets[-1], np.int32)
    impacts = np.empty(offsets[-1], postings.impacts.dtype)
    _copy_kept(
        postings.docs, postings.impacts, rows=rows, renumbered=renumbered, out_docs=docs, out_impacts=impacts
    )
    return Postings(offsets, docs, impacts=impacts, n_docs=int(rows.sum()), scale=postings.scale)


def quantized(postings: Postings) -> Postings:
    """Impacts as one byte, in steps of a 255th of the greatest; the smallest become 1 step, never 0."""
    scale = impact_step(float(postings.impacts.max(initial=0)))
    return Postings(
        postings.offsets,
        postings.docs,
        impacts=to_steps(postings.impacts, scale),
        n_docs=postings.n_docs,
        scale=scale,
    )


def impact_step(greatest: float) -> float:
    return greatest / 255 if greatest > 0 else 1.0


def to_steps(impacts: NDArray[np.float32], scale: float) -> NDArray[np.uint8]:
    steps = np.empty(len(impacts), np.uint8)
    _round_to_steps(impacts, 1 / scale, steps)
    return steps


@compiled
def append_terms(
    offsets: NDArray[np.int64],
    docs: NDArray[np.int32],
    impacts: NDArray[np.float32],
    base: int,
    heads: NDArray[np.int64],
    out_docs: NDArray[np.int32],
    out_impacts: NDArray[np.float32],
) -> None:
    """Append each term's postings at heads [terms], documents shifted by `base`.

    `docs` and `impacts` begin with the first term; `offsets` need not begin at 0.
    """
    for term in range(len(offsets) - 1):
        place = heads[term]
        for i in range(offsets[term] - offsets[0], offsets[term + 1] - offsets[0]):
            out_docs[place] = docs[i] + base
            out_impacts[place] = impacts[i]
            place += 1
        heads[term] = place


@compiled
def append_kept(
    offsets: NDArray[np.int64],
    docs: NDArray[np.int32],
    impacts: NDArray[np.float32],
    rows: NDArray[np.bool_],
    renumbered: NDArray[np.int32],
    heads: NDArray[np.int64],
    out_docs: NDArray[np.int32],
    out_impacts: NDArray[np.float32],
) -> None:
    """As `append_terms`, of the marked rows alone, which get the numbers of `renumbered`."""
    for term in range(len(offsets) - 1):
        place = heads[term]
        for i in range(offsets[term] - offsets[0], offsets[term + 1] - offsets[0]):
            if rows[docs[i]]:
                out_docs[place] = renumbered[docs[i]]
                out_impacts[place] = impacts[i]
                place += 1
        heads[term] = place


@compiled
def count_kept(
    offsets: NDArray[np.int64], docs: NDArray[np.int32], rows: NDArray[np.bool_]
) -> NDArray[np.int64]:
    kept = np.zeros(len(offsets) - 1, np.int64)
    for term in range(len(kept)):
        for i in range(offsets[term], offsets[term + 1]):
            kept[term] += rows[docs[i]]
    return kept


@compiled
def _copy_kept(
    docs: NDArray[np.int32],
    impacts: NDArray[Any],
    rows: NDArray[np.bool_],
    renumbered: NDArray[np.int32],
    out_docs: NDArray[np.int32],
    out_impacts: NDArray[Any],
) -> None:
    place = 0
    for i in range(len(docs)):
        if rows[docs[i]]:
            out_docs[place] = renumbered[docs[i]]
            out_impacts[place] = impacts[i]
            place += 1


@compiled
def _round_to_steps(impacts: NDArray[np.float32], factor: float, steps: NDArray[np.uint8]) -> None:
    for i in range(len(impacts)):
        steps[i] = min(255, max(1, int(impacts[i] * factor + 0.5)))
