"""Whole-number impacts for engines that were made for term frequencies: Anserini (Lucene), and CIFF (PISA, Terrier)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from neural_sparse.errors import InputError
from neural_sparse.opensearch.ciff import write_ciff
from neural_sparse.opensearch.source import VectorSource


@dataclass(frozen=True)
class Scales:
    """Impact = weight * scale, rounded; a weight that would round to 0 is left out.

    A query token is repeated as often as its impact says, so its scale is small.
    """

    documents: float = 100.0
    queries: float = 10.0

    def __post_init__(self) -> None:
        if not (self.documents > 0 and self.queries > 0):
            raise InputError("scales of impacts are above 0")


def impacts(vectors: sp.csr_matrix, scale: float) -> sp.csr_matrix:
    """Whole numbers, int32 [texts, vocabulary]."""
    csr = sp.csr_matrix(vectors, copy=True)
    whole = sp.csr_matrix(
        (np.rint(csr.data.astype(np.float64) * scale).astype(np.int32), csr.indices, csr.indptr),
        shape=csr.shape,
    )
    whole.eliminate_zeros()
    whole.sort_indices()
    return whole


def write_anserini(folder: Path, source: VectorSource, scales: Scales) -> dict[str, Any]:
    """documents.jsonl for JsonVectorCollection ({id, contents, vector}), topics.tsv for -pretokenized -impact.

    Index: IndexCollection -collection JsonVectorCollection -impact -pretokenized; search: SearchCollection
    -topicReader TsvString -impact -pretokenized.
    """
    documents = impacts(source.documents, scales.documents)
    with (folder / "documents.jsonl").open("w", encoding="utf-8") as out:
        for row, doc_id in enumerate(source.doc_ids):
            vector = _named(documents, row, source.tokens)
            line = {"id": doc_id, "contents": _whole(source.texts[row]), "vector": vector}
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
    _write_topics(folder, source, scales)
    return {"documents": len(source.doc_ids), "queries": len(source.query_ids)}


def write_common_index(folder: Path, source: VectorSource, scales: Scales) -> dict[str, Any]:
    """index.ciff (Common Index File Format, arXiv 2003.08276) and topics.tsv."""
    documents = impacts(source.documents, scales.documents)
    description = f"impacts: weights times {scales.documents:g}"
    write_ciff(folder / "index.ciff", documents, source.doc_ids, source.tokens, description)
    _write_topics(folder, source, scales)
    return {"documents": len(source.doc_ids), "queries": len(source.query_ids)}


def _write_topics(folder: Path, source: VectorSource, scales: Scales) -> None:
    queries = impacts(source.queries, scales.queries)
    with (folder / "topics.tsv").open("w", encoding="utf-8") as out:
        for row, query_id in enumerate(source.query_ids):
            repeated = (
                " ".join([token] * impact) for token, impact in _named(queries, row, source.tokens).items()
            )
            out.write(f"{query_id}\t{' '.join(repeated)}\n")


def _named(matrix: sp.csr_matrix, row: int, names: list[str]) -> dict[str, int]:
    start, end = matrix.indptr[row], matrix.indptr[row + 1]
    pairs = zip(matrix.indices[start:end].tolist(), matrix.data[start:end].tolist(), strict=True)
    return {names[token]: impact for token, impact in pairs if names[token]}


def _whole(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
