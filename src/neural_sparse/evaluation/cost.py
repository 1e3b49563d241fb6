"""What retrieval costs: sizes and FLOPS of sparse vectors, and latency in this process (no network, no server)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from tqdm import tqdm

from neural_sparse.errors import InputError, refuse_one_string
from neural_sparse.search.hits import TellsMode

if TYPE_CHECKING:
    from neural_sparse.search import Retriever


LEAST_FOR_P99 = 1000  # samples; of fewer, the 99th percentile is the chance of a handful
QUERIES = 200
SECONDS = 60.0  # after which no further round begins
RESAMPLES = 1000


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one query at a time, text in and top k out, and queries per second in one batch.

    Attributes:
        p99: None where fewer than 1,000 times were taken.
        queries: different ones.
        samples: times taken, each query as often as the others.
        intervals: of "p50" and "p99": 95% bootstrap, over queries.
        mode: how the retriever searched (`SparseIndex.mode`); "" where it does not say.
    """

    mean: float
    p50: float
    p95: float
    p99: float | None
    throughput: float
    k: int
    queries: int
    samples: int = 0
    intervals: Mapping[str, Sequence[float]] = field(default_factory=dict)
    mode: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def figures(self) -> dict[str, float]:
        """Flat, for `Evaluation.summary`."""
        found = {"mean": self.mean, "p50": self.p50, "p95": self.p95}
        if self.p99 is not None and self.samples >= LEAST_FOR_P99:
            found["p99"] = self.p99
        for name, (low, high) in self.intervals.items():
            found |= {f"{name}_low": low, f"{name}_high": high}
        return {f"latency_{name}_ms": value for name, value in found.items()} | {
            "queries_per_second": self.throughput
        }


@dataclass
class _Arm:
    retriever: Retriever
    texts: list[str]
    k: int
    report: Callable[[Latency], object]
    times: list[NDArray[np.float64]] = field(default_factory=list)  # [queries] of each round


class Stopwatch:
    """Times several retrievers in turn, so that what else the machine does meets all of them alike.

    Every round asks all queries once, in a new order, each of all retrievers before the next one; which of them is
    first changes from query to query.

    Args:
        queries: at most so many of those given.
        samples: rounds are made until every retriever has so many times, or `seconds` have passed.
    """

    def __init__(
        self, queries: int = QUERIES, samples: int = LEAST_FOR_P99, seconds: float = SECONDS
    ) -> None:
        self.queries, self.samples, self.seconds = queries, samples, seconds
        self._arms: list[_Arm] = []

    def add(
        self, retriever: Retriever, texts: Sequence[str], k: int, report: Callable[[Latency], object]
    ) -> None:
        """Time this one too; `report` gets its figures. Nothing happens without queries."""
        if texts and self.queries:
            self._arms.append(_Arm(retriever, list(texts[: self.queries]), k, report))

    def measure(self) -> None:
        """Time what was added, report the figures, and let go of the retrievers."""
        arms, self._arms = self._arms, []
        for arm in arms:  # leaves compilation and cold caches out
            for _ in range(2):
                arm.retriever.search_texts(arm.texts[:1], arm.k)
        rng = np.random.default_rng(0)
        started = time.perf_counter()
        rounds = max((-(-self.samples // len(arm.texts)) for arm in arms), default=0)
        most = max((len(arm.texts) for arm in arms), default=0)
        with tqdm(total=rounds, desc="timing", unit="round", disable=None, delay=5) as progress:
            for _ in range(rounds):
                _round(arms, rng.permutation(most))
                progress.update()
                if time.perf_counter() - started > self.seconds:
                    break
        for arm in arms:
            arm.report(_latency(arm))


def measure_latency(
    retriever: Retriever, texts: Sequence[str], k: int = 10, most: int = QUERIES
) -> Latency | None:
    """Time one retriever alone on up to `most` queries, as `Stopwatch` does; None without queries."""
    refuse_one_string(texts)
    found: list[Latency] = []
    stopwatch = Stopwatch(most)
    stopwatch.add(retriever, texts, k, found.append)
    stopwatch.measure()
    return found[0] if found else None


def _round(arms: Sequence[_Arm], order: NDArray[np.int64]) -> None:
    for arm in arms:
        arm.times.append(np.empty(len(arm.texts)))
    for turn, query in enumerate(order.tolist()):
        for place in range(len(arms)):
            arm = arms[(turn + place) % len(arms)]
            if query < len(arm.texts):
                start = time.perf_counter()
                arm.retriever.search_texts([arm.texts[query]], arm.k)
                arm.times[-1][query] = 1000 * (time.perf_counter() - start)


def _latency(arm: _Arm) -> Latency:
    arm.retriever.search_texts(arm.texts[:2], arm.k)
    start = time.perf_counter()
    arm.retriever.search_texts(arm.texts, arm.k)
    batch = time.perf_counter() - start
    times = np.stack(arm.times)
    p50, p95, p99 = (float(value) for value in np.percentile(times, (50, 95, 99)))
    enough = times.size >= LEAST_FOR_P99
    rng = np.random.default_rng(0)
    drawn = np.array(
        [
            np.percentile(times[:, rng.integers(0, times.shape[1], times.shape[1])], (50, 99))
            for _ in range(RESAMPLES)
        ]
    )
    low, high = np.percentile(drawn, (2.5, 97.5), axis=0).tolist()
    return Latency(
        mean=float(times.mean()),
        p50=p50,
        p95=p95,
        p99=p99 if enough else None,
        throughput=len(arm.texts) / max(batch, 1e-9),
        k=arm.k,
        queries=len(arm.texts),
        samples=times.size,
        intervals={"p50": [low[0], high[0]]} | ({"p99": [low[1], high[1]]} if enough else {}),
        mode=arm.retriever.mode(arm.k) if isinstance(arm.retriever, TellsMode) else "",
    )


FREQUENT_TERMS = 10


@dataclass(frozen=True)
class Cost:
    """Cost of searching `documents` sparse vectors with `queries` sparse vectors.

    Attributes:
        documents, queries: how many vectors the figures are taken over.
        flops: expected multiplications of one query-document pair, see `flops_metric`.
        doc_l1: mean L1 norm of a document vector.
        doc_terms, query_terms: mean non-zero terms of a vector.
        empty_documents: documents without any term; no query finds them.
        saturation: mean share of documents in the postings of the `FREQUENT_TERMS` most frequent terms;
            near 1, each query holding one of them reads almost the whole collection.
        longest_postings: those terms (their text, or their number where no vocabulary was given) and the
            share of documents holding each, longest first.
        index_bytes: bytes of the search index, None where not measured.
    """

    documents: int
    queries: int
    flops: float
    doc_l1: float
    doc_terms: float
    query_terms: float
    empty_documents: int
    saturation: float
    longest_postings: list[tuple[str, float]] = field(default_factory=list)
    index_bytes: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Cost:
        postings = [(str(term), float(share)) for term, share in values.get("longest_postings", [])]
        return cls(**{**values, "longest_postings": postings})


def flops_metric(query_vectors: csr_matrix, doc_vectors: csr_matrix) -> float:
    """Expected multiplications of one query-document pair: sum_t P(q_t > 0) P(d_t > 0).

    SPLADE v2's efficiency measure (Formal et al. 2021), for vectors of shape [queries, vocabulary] and
    [documents, vocabulary]. Not the FLOPS loss, which is a sum of squared mean weights.

    Raises:
        InputError: vocabularies of different sizes, or no vectors.

    >>> queries = csr_matrix([[1.0, 0, 0], [1.0, 1.0, 0]])  # P(q_t > 0): 1, 0.5, 0
    >>> documents = csr_matrix([[0.3, 2.0, 0], [0, 1.0, 1.0]])  # P(d_t > 0): 0.5, 1, 0.5
    >>> flops_metric(queries, documents)
    1.0
    """
    _check(query_vectors, doc_vectors)
    return float(term_share(query_vectors) @ term_share(doc_vectors))


def term_share(vectors: csr_matrix) -> npt.NDArray[np.float64]:
    """Share of the rows in which each term is present, float64 [vocabulary]."""
    present = vectors.indices[vectors.data != 0]
    return np.bincount(present, minlength=vectors.shape[1]) / max(vectors.shape[0], 1)


def measure_cost(
    query_vectors: csr_matrix,
    doc_vectors: csr_matrix,
    vocabulary: Sequence[str] | None = None,
    index_bytes: int | None = None,
    *,
    documents: int | None = None,
) -> Cost:
    """Cost of searching `doc_vectors` [documents, vocabulary] with `query_vectors` [queries, vocabulary].

    Args:
        documents: how many they are, where `doc_vectors` holds their passages: FLOPS, L1 and terms are then those of
            all passages of a document.

    Raises:
        InputError: vocabularies of different sizes, or no vectors.
    """
    _check(query_vectors, doc_vectors)
    share = term_share(doc_vectors)
    top = np.argsort(-share, kind="stable")[:FREQUENT_TERMS]
    top = top[share[top] > 0]
    names = [vocabulary[term] if vocabulary is not None else str(term) for term in top.tolist()]
    doc_terms = np.diff(doc_vectors.indptr)
    documents = doc_vectors.shape[0] if documents is None else documents
    each = doc_vectors.shape[0] / documents
    return Cost(
        documents=documents,
        queries=query_vectors.shape[0],
        flops=each * float(term_share(query_vectors) @ share),
        doc_l1=float(np.abs(doc_vectors.data).sum(dtype=np.float64)) / documents,
        doc_terms=float(np.count_nonzero(doc_vectors.data)) / documents,
        query_terms=float(np.count_nonzero(query_vectors.data)) / query_vectors.shape[0],
        empty_documents=int(np.count_nonzero(doc_terms == 0)),
        saturation=float(share[top].mean()) if len(top) else 0.0,
        longest_postings=[(name, float(share[term])) for name, term in zip(names, top, strict=True)],
        index_bytes=index_bytes,
    )


def _check(query_vectors: csr_matrix, doc_vectors: csr_matrix) -> None:
    if query_vectors.shape[1] != doc_vectors.shape[1]:
        raise InputError(
            f"queries have a vocabulary of {query_vectors.shape[1]:,} terms and documents one of "
            f"{doc_vectors.shape[1]:,}: both sides need the same tokenizer"
        )
    if not query_vectors.shape[0] or not doc_vectors.shape[0]:
        raise InputError("the cost needs at least one query vector and one document vector")
