"""Fills an Elasticsearch index with the documents beside this file, and searches it.

    pip install tokenizers numpy
    python client.py http://localhost:9200 fill
    python client.py http://localhost:9200 search "a query"

Elasticsearch 9.1 or later; an API key is read from ELASTICSEARCH_API_KEY. Elasticsearch's own default mapping leaves
out light tokens of queries, and with them hits: this one does not (index_options, prune).
"""

import argparse
import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

from query.query_encoder import QueryEncoder

HERE = Path(__file__).parent
BLOCK = 5_000_000  # bytes of a bulk request


def send(where: str, method: str, path: str, body: bytes | None, kind: str = "application/json") -> dict:
    """The answer to one request."""
    request = urllib.request.Request(
        f"{where.rstrip('/')}/{path}", body, {"Content-Type": kind}, method=method
    )
    if key := os.environ.get("ELASTICSEARCH_API_KEY"):
        request.add_header("Authorization", f"ApiKey {key}")
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise SystemExit(
            f"{method} /{path}: HTTP {error.code}: {error.read(1000).decode(errors='replace')}"
        ) from None


def fill(where: str, index: str) -> int:
    """Make the index and send every document; how many."""
    send(where, "PUT", quote(index), (HERE / "index.json").read_bytes())
    sent, lines, size = 0, [], 0
    with (HERE / "documents.ndjson").open("rb") as file:
        for line in file:  # two a document: what is done, and the document
            lines.append(line)
            size += len(line)
            if size > BLOCK and len(lines) % 2 == 0:
                sent, lines, size = sent + _bulk(where, index, lines), [], 0
    if lines:
        sent += _bulk(where, index, lines)
    send(where, "POST", f"{quote(index)}/_refresh", b"")
    return sent


def _bulk(where: str, index: str, lines: list[bytes]) -> int:
    answer = send(where, "POST", f"{quote(index)}/_bulk", b"".join(lines), kind="application/x-ndjson")
    if answer["errors"]:
        failed = next(item["index"] for item in answer["items"] if item["index"]["status"] >= 300)
        raise SystemExit(f"document {failed['_id']}: {failed['error']['reason']}")
    return len(answer["items"])


def search(where: str, index: str, text: str, k: int = 10) -> list[tuple[str, float, str]]:
    """Id, score and text of the k best documents."""
    encoder = QueryEncoder(HERE / "query")
    about = json.loads((HERE / "export.json").read_text("utf-8"))
    (mapping,) = send(where, "GET", f"{quote(index)}/_mapping", None).values()
    said = mapping["mappings"].get("_meta", {}).get("queries")
    if said is not None and said != encoder.fingerprint:
        raise SystemExit(f"{index} holds documents of queries {said}, not {encoder.fingerprint}")
    ids, weights = encoder.vector(text)
    if not len(ids):
        return []
    names = (
        ids.tolist() if about["numbered"] else [encoder.tokenizer.decode([token]) for token in ids.tolist()]
    )
    tokens = {str(name): weight for name, weight in zip(names, weights.tolist(), strict=True)}
    query = {"sparse_vector": {"field": "vector", "query_vector": tokens, "prune": False}}
    body = json.dumps({"query": query, "size": k, "_source": ["text"]}).encode()
    hits = send(where, "POST", f"{quote(index)}/_search", body)["hits"]["hits"]
    return [(hit["_id"], hit["_score"], hit["_source"]["text"]) for hit in hits]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("where")
    parser.add_argument("do", choices=("fill", "search"))
    parser.add_argument("text", nargs="?", default="")
    parser.add_argument("--index", default="documents")
    given = parser.parse_args()
    if given.do == "fill":
        print(f"{fill(given.where, given.index):,} documents")
    else:
        for doc_id, score, text in search(given.where, given.index, given.text):
            print(f"{score:.3f}  {doc_id}  {' '.join(text.split())[:100]}")


if __name__ == "__main__":
    main()
