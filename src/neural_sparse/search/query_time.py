"""How long a query takes by the postings it reads: a cost model of the exact index, calibrated on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import nnls

from neural_sparse.errors import InputError
from neural_sparse.io.files import read_json, write_json
from neural_sparse.search.index import SparseIndex
from neural_sparse.search.retrievers import SparseRetriever

MOST_INDEXED = 100_000  # documents of a calibration; times of larger collections follow from the model
LEAST_INDEXED = 20_000
SECONDS = 30.0  # of timing, all of it
QUERIES = 200
DEPTH = 10  # hits that are asked for
SAMPLES = 1000  # times of which a slowest hundredth is measured
SMALL = 4  # the smaller index has a fraction of the documents, so that what each document costs can be told
THIN = 0.5  # of the postings are in a third one, so that what each posting costs can be told
PERCENTILE = 99.0

Encode = Callable[[Sequence[str]], sp.csr_matrix]


@dataclass(frozen=True)
class QueryTime:
    """seconds = tail * (fixed + per_document * documents + per_posting * postings), one query at a time, on one core.

    Of a search that reads every posting. A collection in which many can be skipped (`block_max`) takes less.

    Attributes:
        fixed: seconds of a query whatever it is: tokenizing, the call, the best k.
        per_document: seconds for each document of the index, whose scores are looked over.
        per_posting: seconds for each posting read.
        tail: 99th percentile of times over that of the model: what else there is.
        indexed: documents that were timed.
    """

    fixed: float
    per_document: float
    per_posting: float
    tail: float = 1.0
    indexed: int = 0

    def p99(self, documents: int, postings: float) -> float:
        """Milliseconds of a query that reads so many postings, as the slowest hundredth takes them.

        >>> round(QueryTime(1e-4, 1e-10, 1e-9, tail=1.5).p99(1_000_000, 500_000), 3)
        1.05
        """
        return 1e3 * self.tail * (self.fixed + self.per_document * documents + self.per_posting * postings)

    def postings_within(self, milliseconds: float, documents: int) -> float:
        """Postings that a query may read.

        Raises:
            InputError: not even a query that reads none is so fast.
        """
        least = self.p99(documents, 0)
        if milliseconds <= least:
            raise InputError(
                f"a search of {documents:,} documents takes {least:.2g} ms here in its slowest hundredth even if it "
                f"reads no posting; a p99 of {milliseconds:g} ms cannot be reached: more milliseconds, or fewer "
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
    """Time the exact index here, on documents that are drawn from a sample again and again.

    Three indexes (one of fewer documents, one of fewer postings) are asked in turn; fixed time and time per document
    and posting are their least-squares fit over each query's median. Times are processor time, so that other work on
    the machine does not count.

    Args:
        vectors: a sample of documents, csr [documents, vocabulary].
        encode_queries: texts -> csr [texts, vocabulary].
        texts: queries, of which a sample is asked.
        documents: the collection that is wanted; at most 100,000 are indexed.
        seconds: of asking; building the indexes comes on top.

    Raises:
        InputError: no query, or documents without terms.
    """
    if not len(texts) or not vectors.nnz:
        raise InputError("the time of a query is calibrated with queries and documents that have terms")
    rng = np.random.default_rng(0)
    size = min(max(documents, LEAST_INDEXED), MOST_INDEXED)
    asked = [texts[row] for row in rng.permutation(len(texts))[:QUERIES].tolist()]
    whole = _drawn(vectors, size, 1.0, rng)
    arms = [_Arm(whole, encode_queries, asked), _Arm(whole[: size // SMALL], encode_queries, asked)]
    del whole
    arms.append(_Arm(_drawn(vectors, size, THIN, rng), encode_queries, asked))
    started = time.perf_counter()
    rounds = 0
    while rounds < 3 or time.perf_counter() - started < seconds:
        for query in rng.permutation(len(asked)).tolist():
            for arm in arms:
                arm.ask(query)
        rounds += 1
    return _fitted(arms)


def measured_p99(
    vectors: sp.csr_matrix, encode_queries: Encode, texts: Sequence[str], documents: int
) -> tuple[float, int]:
    """Processor time of the slowest hundredth of the queries in the exact index, one at a time on one core.

    Args:
        vectors: of documents, csr [documents, vocabulary]; others than `documents` of them are drawn again and again.
        documents: to search, at most 100,000.

    Returns:
        milliseconds, and the documents that were searched.

    Raises:
        InputError: no query.
    """
    if not len(texts):
        raise InputError("times of queries are measured with queries, and there are none")
    rng = np.random.default_rng(0)
    size = min(documents, MOST_INDEXED)
    arm = _Arm(
        vectors if size == vectors.shape[0] else _drawn(vectors, size, 1.0, rng), encode_queries, list(texts)
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


def _drawn(vectors: sp.csr_matrix, size: int, share: float, rng: np.random.Generator) -> sp.csr_matrix:
    """Documents drawn from a sample with replacement, each with a random share of its terms."""
    found = sp.csr_matrix(vectors[rng.integers(0, vectors.shape[0], size)], dtype=np.float32)
    if share < 1:
        found.data[rng.random(len(found.data)) >= share] = 0
        found.eliminate_zeros()
    return found


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
