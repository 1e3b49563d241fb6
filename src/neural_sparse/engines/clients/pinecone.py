"""Fills a sparse Pinecone index with the documents beside this file, and searches it.

    pip install pinecone tokenizers numpy
    python client.py HOST fill
    python client.py HOST search "a query"

HOST is that of an index made with vector_type "sparse" and metric "dotproduct"; the key is read from PINECONE_API_KEY.
"""

import argparse
import json
import os
from pathlib import Path

from pinecone import Pinecone
from query.query_encoder import QueryEncoder

HERE = Path(__file__).parent
BATCH = 100


def fill(index: Pinecone.Index, namespace: str) -> int:
    """Send every document; how many."""
    records: list[dict] = []
    sent = 0
    with (HERE / "documents.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            records.append(json.loads(line))
            if len(records) == BATCH:
                index.upsert(vectors=records, namespace=namespace)
                sent, records = sent + len(records), []
    if records:
        index.upsert(vectors=records, namespace=namespace)
    return sent + len(records)


def search(index: Pinecone.Index, namespace: str, text: str, k: int = 10) -> list[tuple[str, float, str]]:
    """Id, score and text of the k best documents."""
    encoder = QueryEncoder(HERE / "query")
    about = json.loads((HERE / "export.json").read_text("utf-8"))
    if about["queries_by"] != encoder.fingerprint:
        raise SystemExit(f"these documents are of queries {about['queries_by']}, not {encoder.fingerprint}")
    ids, weights = encoder.vector(text)
    if not len(ids):
        return []
    query = {"indices": ids.tolist(), "values": weights.tolist()}
    found = index.query(sparse_vector=query, top_k=k, include_metadata=True, namespace=namespace)
    return [(match["id"], match["score"], match["metadata"].get("text", "")) for match in found["matches"]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("host")
    parser.add_argument("do", choices=("fill", "search"))
    parser.add_argument("text", nargs="?", default="")
    parser.add_argument("--namespace", default="")
    given = parser.parse_args()
    index = Pinecone(api_key=os.environ["PINECONE_API_KEY"]).Index(host=given.host)
    if given.do == "fill":
        print(f"{fill(index, given.namespace):,} documents")
    else:
        for doc_id, score, text in search(index, given.namespace, given.text):
            print(f"{score:.3f}  {doc_id}  {' '.join(text.split())[:100]}")


if __name__ == "__main__":
    main()
