"""Qdrant: sparse vectors in float32, exact search of their inverted index.

Ids of points are whole numbers or UUIDs: a point's is the document's row, and its payload has the id.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import uuid
from pathlib import Path
from typing import Any

import scipy.sparse as sp

from neural_sparse.engines.document_files import counts, pairs, write_client, write_documents, write_queries
from neural_sparse.engines.engine import Engine, Found, one_by_one, query_rows, rows_of
from neural_sparse.engines.limits import Limits
from neural_sparse.engines.programs import folder_size, installed_version, require, unreachable
from neural_sparse.engines.vectors import VectorSource

LIMITS = Limits("Qdrant")
_BATCH = 1_000


def write_qdrant(folder: Path, source: VectorSource) -> dict[str, Any]:
    """documents.jsonl (points, as PUT /collections/NAME/points takes them), queries.jsonl, client.py."""

    def line(row: int, doc_id: str, text: str, ids: list[int], weights: list[str]) -> str:
        vector = f'{{"sparse":{pairs(ids, weights)}}}'
        return f'{{"id":{row},"vector":{vector},"payload":{{"id":{doc_id},"text":{text}}}}}'

    told = LIMITS.check(source)
    written = write_documents(folder, source, line)
    write_queries(folder, source)
    write_client(folder, "qdrant")
    return counts(source, written, told)


class QdrantEdge(Engine):
    """Qdrant's own engine in this process (qdrant-edge-py), in a folder of its own.

    Raises:
        InputError: it is not installed.
    """

    limits = LIMITS

    def __init__(self) -> None:
        self._edge = require("qdrant_edge", "qdrant-edge-py", "qdrant")
        self.version = installed_version("qdrant-edge-py")
        self._folder = tempfile.TemporaryDirectory(prefix="qdrant-")
        config = self._edge.EdgeConfig(sparse_vectors={"sparse": self._edge.EdgeSparseVectorParams()})
        self._shard = self._edge.EdgeShard.create(self._folder.name, config)

    def fill(self, source: VectorSource) -> None:
        edge = self._edge
        batch = []
        for row, (ids, weights) in enumerate(rows_of(source.documents)):
            vector = edge.SparseVector(indices=ids, values=weights)
            batch.append(edge.Point(row, {"sparse": vector}, {"id": str(source.doc_ids[row])}))
            if len(batch) == _BATCH:
                self._shard.update(edge.UpdateOperation.upsert_points(batch))
                batch = []
        if batch:
            self._shard.update(edge.UpdateOperation.upsert_points(batch))
        while self._shard.optimize():
            pass
        self._shard.flush()

    def search(self, queries: sp.csr_matrix, k: int) -> Found:
        edge = self._edge
        asked = query_rows(queries)

        def ask(row: int) -> list[tuple[int, float]] | None:
            ids, weights = asked[row]
            if not ids:
                return None
            query = edge.Query.Nearest(edge.SparseVector(indices=ids, values=weights), using="sparse")
            return [
                (point.id, point.score)
                for point in self._shard.query(edge.QueryRequest(query=query, limit=k))
            ]

        return one_by_one(ask, len(asked), k)

    def size(self) -> int:
        return folder_size(Path(self._folder.name))

    def close(self) -> None:
        self._shard.close()
        self._folder.cleanup()


class QdrantServer(Engine):
    """A Qdrant server by its address, in a collection of its own, which is deleted in the end.

    Args:
        url: its address; the key is read from QDRANT_API_KEY.

    Raises:
        InputError: qdrant-client is not installed; the server cannot be reached.
    """

    limits = LIMITS

    def __init__(self, url: str) -> None:
        client = require("qdrant_client", "qdrant-client", "qdrant")
        self._models = client.models
        self._name = f"neural-sparse-verify-{uuid.uuid4().hex[:12]}"
        try:
            self._client = client.QdrantClient(url=url, api_key=os.environ.get("QDRANT_API_KEY"), timeout=120)
            self.version = self._client.info().version
            self._client.create_collection(
                self._name,
                vectors_config={},
                sparse_vectors_config={"sparse": self._models.SparseVectorParams()},
            )
        except Exception as error:  # of several libraries
            raise unreachable("Qdrant", url, error) from error

    def fill(self, source: VectorSource) -> None:
        models = self._models
        points = (
            models.PointStruct(id=row, vector={"sparse": models.SparseVector(indices=ids, values=weights)})
            for row, (ids, weights) in enumerate(rows_of(source.documents))
        )
        while batch := list(itertools.islice(points, _BATCH)):
            self._client.upsert(self._name, batch, wait=True)

    def search(self, queries: sp.csr_matrix, k: int) -> Found:
        asked = query_rows(queries)

        def ask(row: int) -> list[tuple[int, float]] | None:
            ids, weights = asked[row]
            if not ids:
                return None
            query = self._models.SparseVector(indices=ids, values=weights)
            found = self._client.query_points(
                self._name, query=query, using="sparse", limit=k, with_payload=False
            )
            return [(int(point.id), point.score) for point in found.points]

        return one_by_one(ask, len(asked), k)

    def close(self) -> None:
        self._client.delete_collection(self._name)
        self._client.close()
