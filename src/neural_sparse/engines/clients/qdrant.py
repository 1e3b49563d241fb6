"""Fills a Qdrant collection with the documents beside this file, and searches it.

    pip install qdrant-client tokenizers numpy
    python client.py http://localhost:6333 fill
    python client.py http://localhost:6333 search "a query"

An API key is read from QDRANT_API_KEY. In place of an address, a folder keeps the collection in this process.
"""

import argparse
import json
import os
from pathlib import Path

from qdrant_client import QdrantClient, models
from query.query_encoder import QueryEncoder

HERE = Path(__file__).parent
BATCH = 256


def connect(where: str) -> QdrantClient:
    if "://" in where:
        return QdrantClient(url=where, api_key=os.environ.get("QDRANT_API_KEY"))
    return QdrantClient(path=where)


def fill(client: QdrantClient, collection: str) -> int:
    """Make the collection and send every document; how many."""
    about = json.loads((HERE / "export.json").read_text("utf-8"))
    sparse = {"sparse": models.SparseVectorParams()}
    # Its metadata say whose vectors these are: `search` compares.
    client.create_collection(
        collection, vectors_config={}, sparse_vectors_config=sparse, metadata={"queries": about["queries_by"]}
    )
    points: list[models.PointStruct] = []
    sent = 0
    with (HERE / "documents.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            points.append(models.PointStruct(**json.loads(line)))
            if len(points) == BATCH:
                client.upsert(collection, points)
                sent, points = sent + len(points), []
    if points:
        client.upsert(collection, points)
    return sent + len(points)


def search(client: QdrantClient, collection: str, text: str, k: int = 10) -> list[tuple[str, float, str]]:
    """Id, score and text of the k best documents."""
    encoder = QueryEncoder(HERE / "query")
    said = client.get_collection(collection).config.metadata or {}
    if said.get("queries", encoder.fingerprint) != encoder.fingerprint:
        raise SystemExit(
            f"{collection} holds documents of queries {said['queries']}, not {encoder.fingerprint}"
        )
    ids, weights = encoder.vector(text)
    query = models.SparseVector(indices=ids.tolist(), values=weights.tolist())
    found = client.query_points(collection, query=query, using="sparse", limit=k, with_payload=True)
    payloads = [(point.payload or {}, point.score) for point in found.points]
    return [(payload["id"], score, payload["text"]) for payload, score in payloads]


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
