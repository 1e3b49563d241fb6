"""OpenSearch: a `rank_features` field over Lucene, 9 significant bits of a weight, asked as a deployed model is.

From 2.14 with the neural-search plugin by a `neural_sparse` query with the query's tokens; else by `rank_feature`
clauses, which are the same sum.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from neural_sparse.engines.limits import Limits
from neural_sparse.engines.rest import RestEngine
from neural_sparse.engines.vectors import VectorSource
from neural_sparse.errors import InputError
from neural_sparse.opensearch.features import MAX_CLAUSES, neural_sparse_query, rank_feature_query
from neural_sparse.opensearch.guards import MAX_ID_BYTES, MAX_QUERY_WEIGHT
from neural_sparse.opensearch.versions import QUERY_TOKENS, numbers

LIMITS = Limits("OpenSearch", query_weight=MAX_QUERY_WEIGHT, clauses=MAX_CLAUSES, id_bytes=MAX_ID_BYTES)
FIELD = "vector"


class OpenSearchServer(RestEngine):
    """An OpenSearch by its address.

    Args:
        url: its address; a login is read from OPENSEARCH_USER and OPENSEARCH_PASSWORD, a certificate authority from
            SSL_CERT_FILE.

    Raises:
        InputError: as `RestEngine`; a server that is no OpenSearch.
    """

    make = "OpenSearch"
    limits = LIMITS

    def __init__(self, url: str) -> None:
        user, password = os.environ.get("OPENSEARCH_USER"), os.environ.get("OPENSEARCH_PASSWORD")
        login = b64encode(f"{user}:{password}".encode()).decode() if user and password else None
        super().__init__(url, {"Authorization": f"Basic {login}"} if login else None)
        about = self.ask("GET", "/")["version"]
        if about.get("distribution") != "opensearch":
            raise InputError(f"{url} is no OpenSearch: it calls itself {about.get('number')}")
        self.version = str(about["number"])
        plugins = self.ask("GET", "/_cat/plugins?format=json&h=component")
        has_plugin = any(one["component"] == "opensearch-neural-search" for one in plugins)
        self._raw = has_plugin and numbers(self.version) >= QUERY_TOKENS.since

    def body(self, source: VectorSource) -> dict[str, Any]:
        return {
            "settings": {"number_of_replicas": 0, "number_of_shards": 1},
            "mappings": {
                "dynamic": "strict",
                "properties": {"text": {"type": "text"}, FIELD: {"type": "rank_features"}},
            },
        }

    def query(self, tokens: Mapping[str, float]) -> dict[str, Any]:
        return neural_sparse_query(tokens, FIELD) if self._raw else rank_feature_query(tokens, FIELD)
