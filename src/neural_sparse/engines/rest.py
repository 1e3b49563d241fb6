"""Engines that are asked in JSON over HTTP, as Elasticsearch is."""

from __future__ import annotations

import http.client
import json
import math
import uuid
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

import scipy.sparse as sp

from neural_sparse.engines.document_files import by_name, rows
from neural_sparse.engines.engine import Engine, Found, one_by_one, query_rows
from neural_sparse.engines.programs import unreachable
from neural_sparse.engines.vectors import VectorSource
from neural_sparse.errors import InputError
from neural_sparse.opensearch.features import stored

_BULK = 5_000_000  # bytes of a request


class OwnNode(Protocol):
    """A node that runs for one engine alone."""

    @property
    def url(self) -> str: ...

    def stop(self) -> None: ...


class RestEngine(Engine):
    """A cluster by its address, in an index of its own, which is deleted in the end.

    Tokens are called by their numbers: no name holds a dot, and any tokenizer's are told apart.

    Args:
        url: its address. headers: of every request, such as a login.

    Raises:
        InputError: the cluster cannot be reached, or is of another make.
    """

    make: str
    _node: OwnNode | None = None

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise InputError(
                f"{url.rsplit('@', 1)[-1]!r} is no address for {self.make}: give one such as http://localhost:9200, "
                "without a login"
            )
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=120)
        self._base = parts.path.rstrip("/")
        self._headers = dict(headers or {})
        self.url = url
        self._name = f"neural-sparse-verify-{uuid.uuid4().hex[:12]}"

    @abstractmethod
    def body(self, source: VectorSource) -> dict[str, Any]:
        """Settings and mapping of an index with the fields text and vector."""

    @abstractmethod
    def query(self, tokens: Mapping[str, float]) -> dict[str, Any]:
        """For the best documents; `tokens` is not empty."""

    def fill(self, source: VectorSource) -> None:
        names = [str(token) for token in range(source.documents.shape[1])]
        self.ask("PUT", f"/{self._name}", self.body(source))
        lines: list[str] = []
        size = 0
        for row, (ids, weights) in enumerate(rows(stored(source.documents))):
            vector = f',"vector":{by_name(ids, weights, names)}' if ids else ""
            text = source.texts[row].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            lines.append(f'{{"index":{{"_id":"{row}"}}}}\n{{"text":{json.dumps(text)}{vector}}}\n')
            size += len(lines[-1])
            if size > _BULK:
                self._bulk(lines)
                lines, size = [], 0
        if lines:
            self._bulk(lines)
        self.ask("POST", f"/{self._name}/_refresh")

    def search(self, queries: sp.csr_matrix, k: int) -> Found:
        asked = query_rows(queries)

        def ask(row: int) -> list[tuple[int, float]] | None:
            ids, weights = asked[row]
            if not ids:
                return None
            return self._hits(self.query(dict(zip(map(str, ids), weights, strict=True))), k)

        return one_by_one(ask, len(asked), k)

    def bm25(self, texts: Sequence[str], k: int) -> Found:
        return one_by_one(lambda row: self._hits({"match": {"text": texts[row]}}, k), len(texts), k)

    def kept(self, documents: sp.csr_matrix) -> sp.csr_matrix:
        return stored(documents)

    def size(self) -> int | None:
        answer = self.ask("GET", f"/{self._name}/_stats/store")
        size = answer["_all"]["primaries"].get("store", {}).get("size_in_bytes", math.nan)
        return int(size) if math.isfinite(size) else None

    def close(self) -> None:
        if self._node is not None:  # and all that it holds
            self._connection.close()
            self._node.stop()
            return
        try:
            self.ask("DELETE", f"/{self._name}?ignore_unavailable=true")
        finally:
            self._connection.close()

    def ask(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        """The answer to one request. Raises InputError: none, or a refusal, in the server's words."""
        sent = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        try:
            self._connection.request(method, self._base + path, sent, {**self._headers, "Content-Type": kind})
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise unreachable(self.make, self.url, error) from error
        if answer.status >= 300:
            said = content[:1000].decode(errors="replace")
            raise InputError(f"{self.make} answered {answer.status} to {method} {path}: {said}")
        return json.loads(content)

    def _bulk(self, lines: Sequence[str]) -> None:
        body = "".join(lines).encode()
        answer = self.ask("POST", f"/{self._name}/_bulk", body, "application/x-ndjson")
        if answer["errors"]:
            failed = next(item["index"] for item in answer["items"] if item["index"]["status"] >= 300)
            raise InputError(f"{self.make} refused document {failed['_id']}: {failed['error']['reason']}")

    def _hits(self, query: dict[str, Any], k: int) -> list[tuple[int, float]]:
        body = {"query": query, "size": k, "_source": False}
        found = self.ask("POST", f"/{self._name}/_search?request_cache=false", body)
        return [(int(hit["_id"]), hit["_score"]) for hit in found["hits"]["hits"]]


def on_own_node(node: OwnNode, engine: Callable[[str], RestEngine]) -> RestEngine:
    """The engine at the address of a node that is stopped with it."""
    try:
        found = engine(node.url)
    except BaseException:
        node.stop()
        raise
    found._node = node
    return found
