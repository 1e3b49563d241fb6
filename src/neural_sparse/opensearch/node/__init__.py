"""A real OpenSearch node on this machine, from Maven Central: for tests, and for trying things without Docker."""

from neural_sparse.opensearch.node.archives import VERSIONS
from neural_sparse.opensearch.node.cluster import Cluster
from neural_sparse.opensearch.node.process import Node

__all__ = ["VERSIONS", "Cluster", "Node"]
