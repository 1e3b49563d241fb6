"""Pinecone: sparse indexes in float32, as files; the service itself runs nowhere but at its makers'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from neural_sparse.engines.document_files import counts, pairs, write_client, write_documents, write_queries
from neural_sparse.engines.limits import Limits
from neural_sparse.engines.vectors import VectorSource
from neural_sparse.errors import InputError

# docs.pinecone.io, limits of vectors: ids of 512 ASCII characters, 1,000 non-zero values, 40 KB of metadata
LIMITS = Limits("Pinecone", nonzero=1_000, id_bytes=512, empty=False)
_METADATA = 40_000


def write_pinecone(folder: Path, source: VectorSource) -> dict[str, Any]:
    """documents.jsonl (records, as upsert takes them: {id, sparse_values, metadata}), queries.jsonl, client.py.

    Raises:
        InputError: ids beyond ASCII, which it refuses.
    """

    def line(row: int, doc_id: str, text: str, ids: list[int], weights: list[str]) -> str:
        whole = len(text.encode()) <= _METADATA
        metadata = f'{{"text":{text}}}' if whole else "{}"
        return f'{{"id":{doc_id},"sparse_values":{pairs(ids, weights)},"metadata":{metadata}}}'

    if foreign := [one for one in source.doc_ids if not one.isascii()]:
        raise InputError(
            f"Pinecone takes ids of ASCII characters alone, and {len(foreign):,} have others (first: {foreign[0]!r}): "
            "give them other ids"
        )
    told = LIMITS.check(source)
    if long := sum(
        len(json.dumps(text, ensure_ascii=False).encode("utf-8", "replace")) > _METADATA
        for text in source.texts
    ):
        told.append(
            f"{long:,} texts are longer than the {_METADATA:,} bytes of a record's metadata and left out"
        )
    written = write_documents(folder, source, line, empty=False)
    write_queries(folder, source)
    write_client(folder, "pinecone")
    return counts(source, written, told)
