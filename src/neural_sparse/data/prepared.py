"""A prepared folder: queries.arrow, documents.arrow, examples.arrow and manifest.json; what it holds, in numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from neural_sparse.data.assembly import DOCUMENTS, EXAMPLES, QUERIES
from neural_sparse.errors import InputError
from neural_sparse.io.files import check_sums, read_json, reading_folder
from neural_sparse.io.urls import Location
from neural_sparse.text.ragged import RowLists
from neural_sparse.text.texts import ArrowTexts

MANIFEST = "manifest.json"
ADVICE = "prepare the data again"


@dataclass(frozen=True)
class PreparedSet:
    """Prepared training data, memory-mapped.

    Attributes:
        queries, documents: unique texts.
        query_rows, positives: int64 [examples].
        negatives: rows of documents per example, as the source orders them.
        scores: float32 per example, of the positive and then of the negatives; empty without scores.
        sources: int32 [examples], number of the source.
        manifest: counts, licences, settings and checksums.
    """

    folder: Path
    queries: ArrowTexts
    documents: ArrowTexts
    query_rows: npt.NDArray[np.int64]
    positives: npt.NDArray[np.int64]
    negatives: RowLists
    scores: RowLists
    sources: npt.NDArray[np.int32]
    manifest: dict[str, Any]

    @classmethod
    def load(cls, folder: str | Path) -> PreparedSet:
        """Map a folder; sizes are checked, contents by `verify`.

        Raises:
            InputError: no prepared folder, or one that is incomplete.
        """
        return reading_folder(folder, lambda: cls._load(Path(folder)))

    @classmethod
    def _load(cls, folder: Path) -> PreparedSet:
        if not is_prepared(folder):
            raise InputError(f"{folder}: no prepared data; make them with `neural-sparse data prepare`")
        manifest = read_json(folder / MANIFEST)
        check_sums(folder, manifest["files"], False, ADVICE)
        examples = pa.ipc.open_file(pa.memory_map(str(folder / EXAMPLES))).get_batch(0)
        return cls(
            folder,
            ArrowTexts(folder / QUERIES),
            documents=ArrowTexts(folder / DOCUMENTS),
            query_rows=examples["query"].to_numpy(),
            positives=examples["positive"].to_numpy(),
            negatives=_lists(examples["negatives"]),
            scores=_lists(examples["scores"]),
            sources=examples["source"].to_numpy(),
            manifest=manifest,
        )

    def __len__(self) -> int:
        return len(self.positives)

    def verify(self) -> None:
        """
        Raises:
            InputError: a file is not what was written.
        """
        check_sums(self.folder, self.manifest["files"], True, ADVICE)


def is_prepared(folder: Location) -> bool:
    """Whether a folder holds prepared data."""
    return (folder / MANIFEST).is_file() and (folder / EXAMPLES).is_file()


def _lists(column: pa.Array) -> RowLists:
    return RowLists(column.flatten().to_numpy(zero_copy_only=False), column.offsets.to_numpy())


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
