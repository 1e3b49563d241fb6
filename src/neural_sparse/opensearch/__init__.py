"""Export for OpenSearch and other engines, and a client that indexes and searches precomputed vectors."""

from typing import TYPE_CHECKING

from neural_sparse.lazy import lazy

if TYPE_CHECKING:
    from neural_sparse.opensearch.bulk import BulkReport, BulkSettings, FailedDocument
    from neural_sparse.opensearch.connection import connect
    from neural_sparse.opensearch.export import Export, ExportOptions, export_model
    from neural_sparse.opensearch.features import neural_sparse_query, rank_feature_query, stored
    from neural_sparse.opensearch.guards import server_names
    from neural_sparse.opensearch.vector_index import VectorIndex

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
__getattr__, __dir__ = lazy(__name__)
