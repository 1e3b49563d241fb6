"""Export for OpenSearch and other engines, and a client that indexes and searches precomputed vectors."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neural_sparse.opensearch.bulk import BulkReport, BulkSettings, FailedDocument
    from neural_sparse.opensearch.connection import connect
    from neural_sparse.opensearch.export import Export, ExportOptions, export_model
    from neural_sparse.opensearch.features import neural_sparse_query, rank_feature_query, stored
    from neural_sparse.opensearch.guards import server_names
    from neural_sparse.opensearch.vector_index import VectorIndex

_HOME = {
    "BulkReport": "bulk",
    "BulkSettings": "bulk",
    "Export": "export",
    "ExportOptions": "export",
    "FailedDocument": "bulk",
    "VectorIndex": "vector_index",
    "connect": "connection",
    "export_model": "export",
    "neural_sparse_query": "features",
    "rank_feature_query": "features",
    "server_names": "guards",
    "stored": "features",
}

__all__ = [
    "BulkReport",
    "BulkSettings",
    "Export",
    "ExportOptions",
    "FailedDocument",
    "VectorIndex",
    "connect",
    "export_model",
    "neural_sparse_query",
    "rank_feature_query",
    "server_names",
    "stored",
]


def __getattr__(name: str) -> Any:
    # The client needs no torch, and the export no client.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
