"""Elasticsearch 9.1 or later: a `sparse_vector` field over Lucene, 9 significant bits of a weight.

The field's own default leaves light tokens out of queries (`index_options.prune`), which changes most rankings; the
mapping written here does not. Query weights of any size and names with dots are taken; documents' weights are positive.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neural_sparse.engines.document_files import by_name, counts, write_client, write_documents, write_queries
from neural_sparse.engines.limits import Limits
from neural_sparse.engines.rest import RestEngine
from neural_sparse.engines.vectors import VectorSource
from neural_sparse.io.files import write_json
from neural_sparse.opensearch.features import MAX_CLAUSES, stored
from neural_sparse.opensearch.guards import MAX_ID_BYTES

LIMITS = Limits("Elasticsearch", clauses=MAX_CLAUSES, id_bytes=MAX_ID_BYTES)
DOCUMENTS = "documents.ndjson"


def index_body(source: VectorSource, prune: bool = False) -> dict[str, Any]:
    """Settings and mapping; whose vectors they are, under _meta."""
    queries = source.fingerprint.queries if source.fingerprint is not None else None
    return {
        "settings": {"number_of_replicas": 0, "number_of_shards": 1},
        "mappings": {
            "dynamic": "strict",
            "_meta": {"queries": queries},
            "properties": {
                "text": {"type": "text"},
                "vector": {"type": "sparse_vector", "index_options": {"prune": prune}},
            },
        },
    }


def write_elasticsearch(folder: Path, source: VectorSource) -> dict[str, Any]:
    """index.json, documents.ndjson (for _bulk), queries.jsonl, client.py."""
    told = LIMITS.check(source)
    write_json(folder / "index.json", index_body(source))
    # A weight that Lucene cannot hold would fail its whole document.
    kept = VectorSource(**{**vars(source), "documents": stored(source.documents)})
    written = write_documents(folder, kept, _line(source.tokens), file=DOCUMENTS)
    write_queries(folder, source)
    write_client(folder, "elasticsearch")
    return {**counts(source, written, told), "numbered": source.numbered}


def _line(names: Sequence[str]) -> Any:
    def line(row: int, doc_id: str, text: str, ids: list[int], weights: list[str]) -> str:
        vector = f',"vector":{by_name(ids, weights, names)}' if ids else ""
        return f'{{"index":{{"_id":{doc_id}}}}}\n{{"text":{text}{vector}}}'

    return line


class ElasticsearchServer(RestEngine):
    """An Elasticsearch by its address.

    Args:
        url: its address; an API key is read from ELASTICSEARCH_API_KEY.
        prune: with the field's own default, which leaves light tokens of queries out.
    """

    make = "Elasticsearch"
    limits = LIMITS

    def __init__(self, url: str, prune: bool = False) -> None:
        key = os.environ.get("ELASTICSEARCH_API_KEY")
        super().__init__(url, {"Authorization": f"ApiKey {key}"} if key else None)
        self._prune = prune
        node = next(iter(self.ask("GET", "/_nodes/_local?filter_path=nodes.*.version")["nodes"].values()))
        self.version = str(node["version"])

    def body(self, source: VectorSource) -> dict[str, Any]:
        return index_body(source, self._prune)

    def query(self, tokens: Mapping[str, float]) -> dict[str, Any]:
        query: dict[str, Any] = {"field": "vector", "query_vector": dict(tokens)}
        if not self._prune:
            query["prune"] = False
        return {"sparse_vector": query}
