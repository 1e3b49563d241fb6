"""Whole-number impacts for engines that were made for term frequencies: Anserini (Lucene), and CIFF (PISA, Terrier).

A file of the Common Index File Format (arXiv 2003.08276), written without the protobuf library, is a sequence of
messages, each preceded by its length: a header, the posting lists, the documents.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from neural_sparse.engines.vectors import VectorSource
from neural_sparse.errors import InputError
from neural_sparse.io.files import replacing


def write_ciff(
    path: str | Path,
    impacts: sp.csr_matrix,
    doc_ids: Sequence[str],
    names: Sequence[str],
    description: str = "",
) -> None:
    """Write impacts, whole numbers [documents, vocabulary], with terms in the order of their bytes.

    Columns without a name or without a posting are left out.
    """
    postings = sp.csc_matrix(impacts)
    postings.sort_indices()
    lengths = np.asarray(impacts.sum(axis=1)).ravel().astype(np.int64)
    used = [term for term in np.flatnonzero(np.diff(postings.indptr)).tolist() if names[term]]
    used.sort(key=lambda term: names[term].encode())
    header = b"".join(
        [
            _number(1, 1),
            _number(2, len(used)),
            _number(3, len(doc_ids)),
            _number(4, len(used)),
            _number(5, len(doc_ids)),
            _number(6, int(lengths.sum())),
            _tag(7, 1) + struct.pack("<d", float(lengths.mean()) if len(lengths) else 0.0),
            _bytes(8, description.encode()),
        ]
    )
    with replacing(path) as temporary, temporary.open("wb") as out:
        out.write(_varint(len(header)) + header)
        for term in used:
            start, end = postings.indptr[term], postings.indptr[term + 1]
            message = _posting_list(
                names[term], postings.indices[start:end].tolist(), postings.data[start:end].tolist()
            )
            out.write(_varint(len(message)) + message)
        for row, (doc_id, length) in enumerate(zip(doc_ids, lengths.tolist(), strict=True)):
            message = _number(1, row) + _bytes(2, doc_id.encode()) + _number(3, length)
            out.write(_varint(len(message)) + message)


def _posting_list(term: str, docs: list[int], impacts: list[int]) -> bytes:
    parts = [_bytes(1, term.encode()), _number(2, len(docs)), _number(3, sum(impacts))]
    before = 0
    for doc, impact in zip(docs, impacts, strict=True):
        parts.append(_bytes(4, _number(1, doc - before) + _number(2, impact)))
        before = doc
    return b"".join(parts)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _tag(field: int, kind: int) -> bytes:
    return _varint(field << 3 | kind)


def _number(field: int, value: int) -> bytes:
    return _tag(field, 0) + _varint(value) if value else b""  # proto3 leaves zeros out


def _bytes(field: int, value: bytes) -> bytes:
    return _tag(field, 2) + _varint(len(value)) + value if value or field == 4 else b""


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
    write_ciff(
        folder / "index.ciff", documents, doc_ids=source.doc_ids, names=source.tokens, description=description
    )
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
