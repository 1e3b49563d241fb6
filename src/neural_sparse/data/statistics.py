"""What a prepared folder holds, in numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from neural_sparse.data.prepared import PreparedSet

_SAMPLE = 50_000  # texts whose words are counted; the quantiles of more are the same


def statistics(data: PreparedSet) -> dict[str, Any]:
    """Counts of the whole and of each source; lengths in words parted by space, of a sample of large sets.

    Returns:
        "examples", "queries", "documents", "query_words" and "document_words" (mean, median, p95),
        "negatives" per example, "with_scores" (examples), "positives_per_query", "sources" (as the manifest has
        them, with each one's share of the batches).
    """
    count = len(data)
    weights = [source["weight"] or source["examples"] for source in data.manifest["sources"]]
    total = sum(
        weight for weight, source in zip(weights, data.manifest["sources"], strict=True) if source["examples"]
    )
    score_counts = np.diff(data.scores.offsets)
    return {
        "examples": count,
        "queries": len(data.queries),
        "documents": len(data.documents),
        "documents_no_example_names": len(data.documents) - _named(data),
        "query_words": _lengths(_sample(data.queries)),
        "document_words": _lengths(_sample(data.documents)),
        "negatives": float(np.diff(data.negatives.offsets).mean()) if count else 0.0,
        "with_scores": int((score_counts > 0).sum()),
        "positives_per_query": count / len(data.queries) if len(data.queries) else 0.0,
        "sources": [
            {**source, "share": weight / total if source["examples"] else 0.0}
            for source, weight in zip(data.manifest["sources"], weights, strict=True)
        ],
    }


def _named(data: PreparedSet) -> int:
    named = np.zeros(len(data.documents), bool)
    named[data.positives] = True
    named[data.negatives.flat] = True
    return int(named.sum())


def _sample(texts: Any) -> Iterable[str]:
    if len(texts) <= _SAMPLE:
        return iter(texts)
    rows = np.sort(np.random.default_rng(0).choice(len(texts), _SAMPLE, replace=False))
    return (texts[row] for row in rows.tolist())


def _lengths(texts: Iterable[str]) -> dict[str, float]:
    counts = np.array([len(text.split()) for text in texts])
    if not len(counts):
        return {"mean": 0.0, "median": 0.0, "p95": 0.0}
    return {
        "mean": float(counts.mean()),
        "median": float(np.median(counts)),
        "p95": float(np.quantile(counts, 0.95)),
    }
