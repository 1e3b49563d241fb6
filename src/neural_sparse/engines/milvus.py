"""Milvus: sparse vectors in float32, exact search by MaxScore.

An empty vector is refused, so documents without a token are left out.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import scipy.sparse as sp

from neural_sparse.engines.document_files import counts, write_client, write_documents, write_queries
from neural_sparse.engines.engine import Engine, Found, one_by_one, query_rows, rows_of
from neural_sparse.engines.limits import Limits
from neural_sparse.engines.programs import (
    end,
    folder_size,
    free_port,
    installed_version,
    require,
    unreachable,
    wait_for,
)
from neural_sparse.engines.vectors import VectorSource
from neural_sparse.errors import InputError

LIMITS = Limits("Milvus", id_bytes=65_535, empty=False)
_BATCH = 500
_LONGEST = 65_535  # bytes of a VARCHAR


def write_milvus(folder: Path, source: VectorSource) -> dict[str, Any]:
    """documents.jsonl (rows, as insert takes them: {row, id, text, vector: {token id: weight}}), queries.jsonl,
    client.py.
    """

    def line(row: int, doc_id: str, text: str, ids: list[int], weights: list[str]) -> str:
        vector = ",".join(f'"{token}":{weight}' for token, weight in zip(ids, weights, strict=True))
        return f'{{"row":{row},"id":{doc_id},"text":{text},"vector":{{{vector}}}}}'

    told = LIMITS.check(source)
    written = write_documents(folder, source, line, empty=False)
    write_queries(folder, source)
    write_client(folder, "milvus")
    return counts(source, written, told)


class MilvusServer(Engine):
    """A Milvus by its address, in a collection of its own, which is dropped in the end.

    Args:
        url: its address; a token is read from MILVUS_TOKEN.

    Raises:
        InputError: pymilvus is not installed; the server cannot be reached.
    """

    limits = LIMITS

    def __init__(self, url: str) -> None:
        self._pymilvus = require("pymilvus", "pymilvus", "milvus")
        self.url = url
        self._name = f"neural_sparse_verify_{uuid.uuid4().hex[:12]}"
        try:
            self._client = self._pymilvus.MilvusClient(
                url, token=os.environ.get("MILVUS_TOKEN", ""), timeout=60
            )
        except self._pymilvus.MilvusException as error:
            raise unreachable("Milvus", url, error) from error

    def fill(self, source: VectorSource) -> None:
        kinds, client = self._pymilvus.DataType, self._client
        schema = client.create_schema(auto_id=False)
        schema.add_field("row", kinds.INT64, is_primary=True)
        schema.add_field("text", kinds.VARCHAR, max_length=_LONGEST, enable_analyzer=True)
        schema.add_field("vector", kinds.SPARSE_FLOAT_VECTOR)
        schema.add_field("words", kinds.SPARSE_FLOAT_VECTOR)
        schema.add_function(
            self._pymilvus.Function(
                name="bm25",
                input_field_names=["text"],
                output_field_names=["words"],
                function_type=self._pymilvus.FunctionType.BM25,
            )
        )
        index = client.prepare_index_params()
        index.add_index("vector", index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
        index.add_index("words", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
        client.create_collection(self._name, schema=schema, index_params=index)
        batch: list[dict[str, Any]] = []
        for row, (ids, weights) in enumerate(rows_of(source.documents)):
            if not ids:
                continue
            text = source.texts[row].encode("utf-8", "replace")[:_LONGEST].decode(errors="ignore")
            batch.append({"row": row, "text": text, "vector": dict(zip(ids, weights, strict=True))})
            if len(batch) == _BATCH:
                client.insert(self._name, batch)
                batch = []
        if batch:
            client.insert(self._name, batch)
        client.load_collection(self._name)

    def search(self, queries: sp.csr_matrix, k: int) -> Found:
        asked = query_rows(queries)
        exactly = {"metric_type": "IP", "params": {"drop_ratio_search": 0.0}}

        def ask(row: int) -> list[tuple[int, float]] | None:
            ids, weights = asked[row]
            if not ids:
                return None
            return self._ask(dict(zip(ids, weights, strict=True)), "vector", exactly, k)

        return one_by_one(ask, len(asked), k)

    def bm25(self, texts: Sequence[str], k: int) -> Found:
        settings = {"metric_type": "BM25", "params": {"drop_ratio_search": 0.0}}
        return one_by_one(lambda row: self._ask(texts[row], "words", settings, k), len(texts), k)

    def _ask(self, query: Any, field: str, settings: dict[str, Any], k: int) -> list[tuple[int, float]]:
        found = self._client.search(
            self._name, [query], anns_field=field, limit=k, search_params=settings, output_fields=["row"]
        )
        return [(int(hit["row"]), hit["distance"]) for hit in found[0]]

    def close(self) -> None:
        self._client.drop_collection(self._name)
        self._client.close()


class MilvusLite(MilvusServer):
    """Milvus's own engine (milvus-lite 2.5, in C++) as a process of its own on loopback.

    Raises:
        InputError: it is not installed, or ends at once.
    """

    def __init__(self) -> None:
        found = importlib.util.find_spec("milvus_lite")
        places = found.submodule_search_locations if found is not None else None
        home = Path(places[0]) / "lib" if places else Path()
        # Its own starter imports pkg_resources, which setuptools no longer has.
        if not (home / "milvus").is_file():
            raise InputError("this needs milvus-lite 2.5: pip install 'neural-sparse[milvus]'")
        self._folder = tempfile.TemporaryDirectory(prefix="milvus-")
        port = free_port()
        self._process = subprocess.Popen(
            [str(home / "milvus"), str(Path(self._folder.name) / "verify.db"), f"127.0.0.1:{port}", "ERROR"],
            cwd=self._folder.name,
            env={**os.environ, "LD_LIBRARY_PATH": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            wait_for(self._process, port, "milvus-lite")
            super().__init__(f"http://127.0.0.1:{port}")
        except BaseException:
            self._stop()
            raise
        self.version = f"lite {installed_version('milvus-lite')}"

    def size(self) -> int:
        return folder_size(Path(self._folder.name))

    def close(self) -> None:
        self._client.close()
        self._stop()

    def _stop(self) -> None:
        end(self._process)
        self._folder.cleanup()
