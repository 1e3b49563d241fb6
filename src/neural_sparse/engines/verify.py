"""Whether an engine ranks as the exact index does: its own documents, real queries, one row of a table an engine."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from neural_sparse.engines.engine import Engine, Found
from neural_sparse.engines.vectors import VectorSource
from neural_sparse.evaluation.measures import Run, evaluate_run
from neural_sparse.search import SparseIndex

MEASURE = "nDCG@10"
K = 10
_TIE = 1e-5  # of a score: sums of float32 in another order


@dataclass(frozen=True)
class Verdict:
    """What was found out about one engine.

    Attributes:
        same: share of queries whose first ten documents are the exact index's over the weights that the engine keeps,
            but for the order of equal scores.
        recall: share of those documents that the engine found.
        error: greatest difference of a score from the exact one, as a share of it.
        quality: nDCG@10 of the engine; exact: of the exact index over the weights as they were encoded.
        p50, p99: milliseconds of a search; bm25_p50, bm25_p99: of BM25 in the same engine; NaN where it has none.
        bm25_quality: its nDCG@10.
        seconds: to index.
        size: bytes on disk; None where it does not say.
        remarks: what was done to documents and queries that it does not take as they are.
    """

    engine: str
    version: str
    same: float
    recall: float
    error: float
    quality: float
    exact: float
    p50: float
    p99: float
    bm25_p50: float
    bm25_p99: float
    bm25_quality: float
    seconds: float
    size: int | None
    remarks: list[str]


def verify(
    name: str,
    engine: Engine,
    source: VectorSource,
    qrels: Mapping[str, Mapping[str, int]],
    bm25: bool = True,
) -> Verdict:
    """Fill an engine with the source's documents, ask its queries, and compare.

    Args:
        qrels: judgements of the source's queries.

    Raises:
        InputError: documents or queries that the engine does not take, before anything is sent.
    """
    remarks = engine.limits.check(source)
    queries = engine.limits.scaled(source.queries)
    started = time.perf_counter()
    own = engine.fill(source)
    seconds = time.perf_counter() - started if own is None else own
    found = engine.search(queries, K)
    agreed = agreement(found, engine.kept(source.documents), queries)
    index = SparseIndex.build(source.documents, source.doc_ids)
    exact = index.search(source.queries, K)
    words = engine.bm25(source.query_texts, K) if bm25 else None
    return Verdict(
        name,
        engine.version,
        same=agreed.same,
        recall=agreed.recall,
        error=agreed.error,
        quality=_quality(found.docs, source, qrels),
        exact=_quality(exact.docs, source, qrels),
        **dict(zip(("p50", "p99"), _milliseconds(found.seconds), strict=True)),
        **dict(zip(("bm25_p50", "bm25_p99"), _milliseconds(words.seconds if words else None), strict=True)),
        bm25_quality=_quality(words.docs, source, qrels) if words else math.nan,
        seconds=seconds,
        size=engine.size(),
        remarks=remarks,
    )


class Agreement(NamedTuple):
    """Of what was found with exact search.

    Attributes:
        same: share of queries whose documents found are the exact best.
        recall: share of the exact best that were found; NaN where no query has any.
        error: greatest difference of a score from the exact one, as a share of it.
    """

    same: float
    recall: float
    error: float


def agreement(found: Found, documents: sp.csr_matrix, queries: sp.csr_matrix) -> Agreement:
    """How far documents found are the exact best.

    A document counts as right where its exact score, a sum in float64, is that of its place in the exact ranking, so
    that documents of equal scores may stand in any order and take one another's place.

    Args:
        documents: csr [documents, vocabulary], as the engine keeps them.
    """
    k = found.docs.shape[1]
    wide = sp.csr_matrix(documents, dtype=np.float64).T.tocsr()
    right, wanted, had, error = 0, 0, 0, 0.0
    for row in range(queries.shape[0]):
        scores = np.asarray((sp.csr_matrix(queries[row], dtype=np.float64) @ wide).todense()).ravel()
        best = np.sort(scores[scores > 0])[::-1][:k]
        docs = found.docs[row][found.docs[row] >= 0]
        mine = scores[docs]
        wanted += len(best)
        if len(best):
            had += min(len(best), int((mine >= best[-1] * (1 - _TIE)).sum()))
        right += len(mine) == len(best) and bool(np.allclose(mine, best, rtol=_TIE, atol=0))
        hit = mine > 0
        if hit.any():
            off = np.abs(found.scores[row, : len(docs)][hit] - mine[hit]) / mine[hit]
            error = max(error, float(off.max()))
    return Agreement(right / max(1, queries.shape[0]), had / wanted if wanted else math.nan, error)


def _quality(docs: NDArray[np.int32], source: VectorSource, qrels: Mapping[str, Mapping[str, int]]) -> float:
    run: Run = {}
    for query_id, row in zip(source.query_ids, docs.tolist(), strict=True):
        # Places as scores: what the engine put first stays first, also among equal scores.
        run[query_id] = {source.doc_ids[doc]: float(-place) for place, doc in enumerate(row) if doc >= 0}
    return evaluate_run(run, qrels, [MEASURE]).means[MEASURE]


def _milliseconds(seconds: NDArray[np.float64] | None) -> tuple[float, float]:
    """The middle and the 99th percentile."""
    if seconds is None or not np.isfinite(seconds).any():
        return math.nan, math.nan
    known = 1000 * seconds[np.isfinite(seconds)]
    return float(np.percentile(known, 50)), float(np.percentile(known, 99))
