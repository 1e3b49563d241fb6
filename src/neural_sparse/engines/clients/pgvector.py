"""Fills a PostgreSQL table with the documents beside this file, and searches it.

    pip install "psycopg[binary]" tokenizers numpy
    python client.py postgresql://localhost/mine fill
    python client.py postgresql://localhost/mine search "a query"

The database needs the extension vector, 0.7 or later. A password is best left to ~/.pgpass. Searches scan the table,
which is exact. For an approximate index: CREATE INDEX ON documents USING hnsw (vector sparsevec_ip_ops), which takes
1,000 weights a document.
"""

import argparse
import json
from pathlib import Path

import psycopg
from psycopg import sql
from query.query_encoder import QueryEncoder

HERE = Path(__file__).parent
BLOCK = 1 << 20


def fill(connection: psycopg.Connection, table: str) -> int:
    """Make the table and copy every document; how many."""
    about = json.loads((HERE / "export.json").read_text("utf-8"))
    name = sql.Identifier(table)
    with connection.transaction():
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute(
            sql.SQL(
                "CREATE TABLE {} (row bigint PRIMARY KEY, id text UNIQUE NOT NULL, text text NOT NULL, "
                "vector sparsevec({}) NOT NULL)"
            ).format(name, sql.Literal(about["vocabulary"]))
        )
        # The comment says whose vectors these are: `search` compares.
        connection.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(name, about["queries_by"]))
        with (
            connection.cursor() as cursor,
            cursor.copy(sql.SQL("COPY {} FROM STDIN").format(name)) as copy,
            (HERE / "documents.tsv").open("rb") as file,
        ):
            while block := file.read(BLOCK):
                copy.write(block)
        (count,) = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(name)).fetchall()[0]
        return int(count)


def search(
    connection: psycopg.Connection, table: str, text: str, k: int = 10
) -> list[tuple[str, float, str]]:
    """Id, score and text of the k best documents."""
    encoder = QueryEncoder(HERE / "query")
    name = sql.Identifier(table)
    asked = "SELECT obj_description(%s::regclass)"
    ((said,),) = connection.execute(asked, (name.as_string(connection),)).fetchall()
    if said is not None and said != encoder.fingerprint:
        raise SystemExit(f"{table} holds documents of queries {said}, not {encoder.fingerprint}")
    ids, weights = encoder.vector(text)
    inside = ",".join(
        f"{token + 1}:{weight}" for token, weight in zip(ids.tolist(), weights.tolist(), strict=True)
    )
    query = f"{{{inside}}}/{len(encoder.weights)}"
    asked = (
        "SELECT id, -(vector <#> {0}::sparsevec), text FROM {1} ORDER BY vector <#> {0}::sparsevec LIMIT {2}"
    )
    found = connection.execute(sql.SQL(asked).format(sql.Literal(query), name, sql.Literal(k))).fetchall()
    return [row for row in found if row[1] > 0]  # a document without a token of the query is no hit


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("where")
    parser.add_argument("do", choices=("fill", "search"))
    parser.add_argument("text", nargs="?", default="")
    parser.add_argument("--table", default="documents")
    given = parser.parse_args()
    with psycopg.connect(given.where) as connection:
        if given.do == "fill":
            print(f"{fill(connection, given.table):,} documents")
        else:
            for doc_id, score, text in search(connection, given.table, given.text):
                print(f"{score:.3f}  {doc_id}  {' '.join(text.split())[:100]}")


if __name__ == "__main__":
    main()
