"""How long a query takes by the postings it has: a cost model of the exact index, calibrated on this machine.

In a collection so large that documents are skipped (`block_max`) less is read than that, but a query of longer posting
lists still takes longer, and a larger collection too: the model is the same, fitted to an index that skips.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import nnls

from neural_sparse.errors import InputError
from neural_sparse.io.files import read_json, write_json
from neural_sparse.search.block_max import DOCUMENTS_PER_HIT
from neural_sparse.search.hits import BLOCK_MAXIMA, EVERY_POSTING
from neural_sparse.search.index import SparseIndex, search_mode
from neural_sparse.search.mixed import mixed
from neural_sparse.search.retrievers import SparseRetriever

# Documents of a calibration, least and most; times of larger collections follow from the model.
INDEXED = {EVERY_POSTING: (20_000, 100_000), BLOCK_MAXIMA: (200_000, 400_000)}
SECONDS = 30.0  # of timing, all of it
QUERIES = 200
DEPTH = 10  # hits that are asked for
SAMPLES = 1000  # times of which a slowest hundredth is measured
SMALL = 4  # one index in turn has a fraction of the documents, so that what each document costs can be told
THIN = 0.5  # of the postings are in a third one, so that what each posting costs can be told
PERCENTILE = 99.0
SHARD = 50_000  # documents that are mixed at a time

Encode = Callable[[Sequence[str]], sp.csr_matrix]


@dataclass(frozen=True)
class QueryTime:
    """seconds = tail * (fixed + per_document * documents + per_posting * postings), one query at a time, on one core.

    Attributes:
        fixed: seconds of a query whatever it is: tokenizing, the call, the best k.
        per_document: seconds for each document of the index, whose scores are looked over, or bounded.
        per_posting: seconds for each posting of the query's terms, read or skipped.
        tail: 99th percentile of times over that of the model: what else there is.
        indexed: documents that were timed.
        mode: how these were searched (`SparseIndex.mode`): only in collections that are searched alike do times follow
            from the model.
    """

    fixed: float
    per_document: float
    per_posting: float
    tail: float = 1.0
    indexed: int = 0
    mode: str = EVERY_POSTING

    def p99(self, documents: int, postings: float) -> float:
        """Milliseconds of a query whose terms have so many postings, as the slowest hundredth takes them.

        >>> round(QueryTime(1e-4, 1e-10, 1e-9, tail=1.5).p99(1_000_000, 500_000), 3)
        1.05
        """
        return 1e3 * self.tail * (self.fixed + self.per_document * documents + self.per_posting * postings)

    def postings_within(self, milliseconds: float, documents: int) -> float:
        """Postings that the terms of a query may have.

        Raises:
            InputError: not even a query without any is so fast.
        """
        least = self.p99(documents, 0)
        if milliseconds <= least:
            raise InputError(
                f"a search of {documents:,} documents takes {least:.2g} ms here in its slowest hundredth even if its "
                f"terms have no posting; a p99 of {milliseconds:g} ms cannot be reached: more milliseconds, or fewer "
                "documents (shards)"
            )
        return (milliseconds - least) / (1e3 * self.tail * self.per_posting)

    def save(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> QueryTime:
        """
        Raises:
            InputError: no such file, or it says something else.
        """
        values: Any = read_json(path)
        try:
            found = cls(**{key: value for key, value in values.items() if key in cls.__dataclass_fields__})
        except TypeError as error:
            raise InputError(f"{path}: not what a calibration wrote ({error})") from error
        if not (found.per_posting > 0 and found.tail > 0 and min(found.fixed, found.per_document) >= 0):
            raise InputError(f"{path}: times must not be negative, and per_posting and tail above 0")
        if found.mode not in INDEXED:
            raise InputError(f"{path}: mode is one of {', '.join(INDEXED)}, not {found.mode!r}")
        return found


def postings_read(queries: sp.csr_matrix, share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Postings that each query reads, per document of the collection: float64 [queries].

    Args:
        share: of the documents that hold each token, float64 [vocabulary].
    """
    present = sp.csr_matrix((np.ones(len(queries.data)), queries.indices, queries.indptr), queries.shape)
    return np.asarray(present @ share, np.float64)


def calibrate(
    vectors: sp.csr_matrix,
    encode_queries: Encode,
    texts: Sequence[str],
    documents: int,
    seconds: float = SECONDS,
) -> QueryTime:
    """Time the exact index here, on documents that are made of a sample: drawn again and again, or where the collection
    is so large that documents are skipped, mixed of one another.

    Three indexes (one of fewer documents, one of fewer postings) are asked in turn; fixed time and time per document
    and posting are their least-squares fit over each query's median. Times are processor time, so that other work on
    the machine does not count.

    Args:
        vectors: a sample of documents, csr [documents, vocabulary].
        encode_queries: texts -> csr [texts, vocabulary].
        texts: queries, of which a sample is asked.
        documents: the collection that is wanted; at most 100,000 are indexed, or 400,000 if it is larger than that.
        seconds: of asking; building the indexes comes on top.

    Raises:
        InputError: no query, or documents without terms.
    """
    if not len(texts) or not vectors.nnz:
        raise InputError("the time of a query is calibrated with queries and documents that have terms")
    rng = np.random.default_rng(0)
    mode = search_mode(documents, DEPTH)
    least, most = INDEXED[mode]
    size = min(max(documents, least), most)
    asked = [texts[row] for row in rng.permutation(len(texts))[:QUERIES].tolist()]
    whole = _made(vectors, size, mode, rng)
    fewer = size // SMALL if mode == EVERY_POSTING else max(size // SMALL, DOCUMENTS_PER_HIT * DEPTH + 1)
    arms = [_Arm(whole, encode_queries, asked), _Arm(whole[:fewer], encode_queries, asked)]
    whole.data[rng.random(len(whole.data), np.float32) >= THIN] = 0
    whole.eliminate_zeros()
    arms.append(_Arm(whole, encode_queries, asked))
    del whole
    started = time.perf_counter()
    rounds = 0
    while rounds < 3 or time.perf_counter() - started < seconds:
        for query in rng.permutation(len(asked)).tolist():
            for arm in arms:
                arm.ask(query)
        rounds += 1
    return replace(_fitted(arms), mode=mode)


def measured_p99(
    vectors: sp.csr_matrix,
    encode_queries: Encode,
    texts: Sequence[str],
    documents: int,
    *,
    mode: str = EVERY_POSTING,
) -> tuple[float, int]:
    """Processor time of the slowest hundredth of the queries in the exact index, one at a time on one core.

    Args:
        vectors: of documents, csr [documents, vocabulary]; if they are not `documents`, these are made of them as
            `calibrate` does.
        documents: to search, at most as many as are indexed to calibrate.
        mode: of the cost model that is judged.

    Returns:
        milliseconds, and the documents that were searched.

    Raises:
        InputError: no query.
    """
    if not len(texts):
        raise InputError("times of queries are measured with queries, and there are none")
    rng = np.random.default_rng(0)
    size = min(documents, INDEXED[mode][1])
    arm = _Arm(
        vectors if size == vectors.shape[0] else _made(vectors, size, mode, rng), encode_queries, list(texts)
    )
    for _ in range(-(-SAMPLES // len(texts))):
        for query in rng.permutation(len(texts)).tolist():
            arm.ask(query)
    return 1e3 * float(np.percentile(np.concatenate(arm.times), PERCENTILE)), size


class _Arm:
    """An index with the postings that each query reads in it, and the times that it took."""

    def __init__(self, vectors: sp.csr_matrix, encode_queries: Encode, asked: list[str]) -> None:
        self.documents, self.asked = vectors.shape[0], asked
        index = SparseIndex.build(vectors, map(str, range(vectors.shape[0])))
        queries = encode_queries(asked)
        self.postings = postings_read(queries, index.posting_lengths.astype(np.float64))
        self.retriever = SparseRetriever(index, encode_queries, threads=1)
        self.times: list[list[float]] = [[] for _ in asked]
        self.retriever.search_texts(asked[:2], DEPTH)  # compiles

    def ask(self, query: int) -> None:
        started = time.process_time()
        self.retriever.search_texts([self.asked[query]], DEPTH)
        self.times[query].append(time.process_time() - started)

    @property
    def medians(self) -> NDArray[np.float64]:
        return np.array([np.median(times) for times in self.times])


def _made(vectors: sp.csr_matrix, size: int, mode: str, rng: np.random.Generator) -> sp.csr_matrix:
    """So many documents of a sample: drawn with replacement where all postings are read, else mixed, since none of
    those that are alike can be skipped."""
    if mode == EVERY_POSTING:
        return sp.csr_matrix(vectors[rng.integers(0, vectors.shape[0], size)], dtype=np.float32)
    parts = [
        mixed(vectors, min(SHARD, size - first), int(rng.integers(1 << 31)))
        for first in range(0, size, SHARD)
    ]
    return sp.csr_matrix(sp.vstack(parts, format="csr"))


def _fitted(arms: Sequence[_Arm]) -> QueryTime:
    rows, times = [], []
    for arm in arms:
        rows.append(
            np.column_stack([np.ones(len(arm.asked)), np.full(len(arm.asked), arm.documents), arm.postings])
        )
        times.append(arm.medians)
    design, wanted = np.concatenate(rows), np.concatenate(times)
    scale = design.max(axis=0)
    scale[scale == 0] = 1.0
    # Relative errors: a query of few postings counts as one of many.
    found = nnls(design / scale / wanted[:, None], np.ones(len(wanted)))[0] / scale
    fixed, per_document, per_posting = (float(value) for value in found)
    model = QueryTime(fixed, per_document, max(per_posting, 1e-12), indexed=arms[0].documents)
    tails = []
    for arm in (arms[0], arms[2]):
        slowest = float(np.percentile(np.concatenate(arm.times), PERCENTILE))
        tails.append(1e3 * slowest / model.p99(arm.documents, float(np.percentile(arm.postings, PERCENTILE))))
    return QueryTime(
        model.fixed, model.per_document, model.per_posting, float(np.mean(tails)), indexed=model.indexed
    )
