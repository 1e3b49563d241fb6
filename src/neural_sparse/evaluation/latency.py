"""How fast a retriever answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from neural_sparse.search import Retriever


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one query at a time, text in and top k out, and queries per second in one batch."""

    mean: float
    p50: float
    p95: float
    p99: float
    throughput: float
    k: int
    queries: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure_latency(
    retriever: Retriever, texts: Sequence[str], k: int = 10, most: int = 200
) -> Latency | None:
    """Time up to `most` queries, one by one and then as one batch; None without queries.

    Two searches beforehand, not counted, leave compilation and cold caches out.
    """
    texts = list(texts[:most])
    if not texts:
        return None
    for _ in range(2):
        retriever.search_texts(texts[:1], k)
    times = []
    for text in texts:
        start = time.perf_counter()
        retriever.search_texts([text], k)
        times.append(1000 * (time.perf_counter() - start))
    retriever.search_texts(texts[:2], k)
    start = time.perf_counter()
    retriever.search_texts(texts, k)
    batch = time.perf_counter() - start
    p50, p95, p99 = (float(value) for value in np.percentile(times, (50, 95, 99)))
    return Latency(float(np.mean(times)), p50, p95, p99, len(texts) / max(batch, 1e-9), k, len(texts))
