"""Fills a Milvus collection with the documents beside this file, and searches it.

    pip install pymilvus tokenizers numpy
    python client.py http://localhost:19530 fill
    python client.py http://localhost:19530 search "a query"

A token is read from MILVUS_TOKEN.
"""

import argparse
import json
import os
from pathlib import Path

from pymilvus import DataType, MilvusClient
from query.query_encoder import QueryEncoder

HERE = Path(__file__).parent
BATCH = 500
LONGEST = 65_535  # bytes of a VARCHAR


def connect(where: str) -> MilvusClient:
    return MilvusClient(where, token=os.environ.get("MILVUS_TOKEN", ""))


def fill(client: MilvusClient, collection: str) -> int:
    """Make the collection and send every document; how many."""
    about = json.loads((HERE / "export.json").read_text("utf-8"))
    # The description says whose vectors these are: `search` compares.
    schema = client.create_schema(auto_id=False, description=about["queries_by"])
    schema.add_field("row", DataType.INT64, is_primary=True)
    schema.add_field("id", DataType.VARCHAR, max_length=LONGEST)
    schema.add_field("text", DataType.VARCHAR, max_length=LONGEST)
    schema.add_field("vector", DataType.SPARSE_FLOAT_VECTOR)
    index = client.prepare_index_params()
    index.add_index("vector", index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
    client.create_collection(collection, schema=schema, index_params=index)
    rows: list[dict] = []
    sent = 0
    with (HERE / "documents.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            row["vector"] = {int(token): weight for token, weight in row["vector"].items()}
            row["text"] = row["text"].encode()[:LONGEST].decode(errors="ignore")
            rows.append(row)
            if len(rows) == BATCH:
                client.insert(collection, rows)
                sent, rows = sent + len(rows), []
    if rows:
        client.insert(collection, rows)
    client.load_collection(collection)
    return sent + len(rows)


def search(client: MilvusClient, collection: str, text: str, k: int = 10) -> list[tuple[str, float, str]]:
    """Id, score and text of the k best documents."""
    encoder = QueryEncoder(HERE / "query")
    said = client.describe_collection(collection)["description"]
    if said and said != encoder.fingerprint:
        raise SystemExit(f"{collection} holds documents of queries {said}, not {encoder.fingerprint}")
    ids, weights = encoder.vector(text)
    if not len(ids):  # an empty vector is refused
        return []
    query = dict(zip(ids.tolist(), weights.tolist(), strict=True))
    found = client.search(
        collection,
        [query],
        anns_field="vector",
        limit=k,
        search_params={"metric_type": "IP", "params": {"drop_ratio_search": 0.0}},
        output_fields=["id", "text"],
    )
    return [(hit["entity"]["id"], hit["distance"], hit["entity"]["text"]) for hit in found[0]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("where")
    parser.add_argument("do", choices=("fill", "search"))
    parser.add_argument("text", nargs="?", default="")
    parser.add_argument("--collection", default="documents")
    given = parser.parse_args()
    client = connect(given.where)
    if given.do == "fill":
        print(f"{fill(client, given.collection):,} documents")
    else:
        for doc_id, score, text in search(client, given.collection, given.text):
            print(f"{score:.3f}  {doc_id}  {' '.join(text.split())[:100]}")


if __name__ == "__main__":
    main()
