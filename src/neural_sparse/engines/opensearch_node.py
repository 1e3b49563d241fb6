"""OpenSearch: rank_features, which every version since 2 has, over Lucene's 9 significant bits of a weight."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from neural_sparse.engines.limits import Limits
from neural_sparse.engines.rest import RestEngine
from neural_sparse.engines.vectors import VectorSource
from neural_sparse.opensearch.features import MAX_CLAUSES, rank_feature_query
from neural_sparse.opensearch.guards import MAX_ID_BYTES, MAX_QUERY_WEIGHT
from neural_sparse.opensearch.node import Node

LIMITS = Limits("OpenSearch", query_weight=MAX_QUERY_WEIGHT, clauses=MAX_CLAUSES, id_bytes=MAX_ID_BYTES)


class OpenSearchServer(RestEngine):
    """An OpenSearch by its address; a login is read from OPENSEARCH_USER and OPENSEARCH_PASSWORD."""

    make = "OpenSearch"
    limits = LIMITS

    def __init__(self, url: str) -> None:
        user, password = (os.environ.get(f"OPENSEARCH_{name}", "") for name in ("USER", "PASSWORD"))
        login = b64encode(f"{user}:{password}".encode()).decode()
        super().__init__(url, {"Authorization": f"Basic {login}"} if user else None)
        self.version = str(self.ask("GET", "/")["version"]["number"])

    def body(self, source: VectorSource) -> dict[str, Any]:
        return {
            "settings": {"number_of_replicas": 0, "number_of_shards": 1},
            "mappings": {"properties": {"text": {"type": "text"}, "vector": {"type": "rank_features"}}},
        }

    def query(self, tokens: Mapping[str, float]) -> dict[str, Any]:
        return rank_feature_query(tokens, "vector")


class OpenSearchNode(OpenSearchServer):
    """A real node on loopback, from Maven Central; see `opensearch.node.Node`."""

    def __init__(self) -> None:
        self._node = Node(models=False, heap="1g").start()
        try:
            super().__init__(self._node.url)
        except BaseException:
            self._node.stop()
            raise

    def close(self) -> None:
        self._connection.close()
        self._node.stop()
