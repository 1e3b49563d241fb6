"""The Common Index File Format (arXiv 2003.08276), written without the protobuf library.

A file is a sequence of messages, each preceded by its length: a header, the posting lists, the documents.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from neural_sparse.files import replacing


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
