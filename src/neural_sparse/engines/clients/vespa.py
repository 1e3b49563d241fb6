"""Searches a Vespa application that was deployed and fed from the files beside this one.

    vespa deploy application
    vespa feed documents.jsonl
    pip install tokenizers numpy
    python client.py http://localhost:8080 search "a query"

WAND finds candidates by whole-number weights, and their float weights score them: `--candidates` says how many.
"""

import argparse
import json
import urllib.request
from pathlib import Path

from query.query_encoder import QueryEncoder

HERE = Path(__file__).parent
WHOLE = 1000  # as in the weighted set of the feed


def search(where: str, text: str, k: int = 10, candidates: int = 1000) -> list[tuple[str, float, str]]:
    """Id, score and text of the k best documents."""
    encoder = QueryEncoder(HERE / "query")
    about = json.loads((HERE / "export.json").read_text("utf-8"))
    if about["queries_by"] != encoder.fingerprint:
        raise SystemExit(f"these documents are of queries {about['queries_by']}, not {encoder.fingerprint}")
    ids, weights = (part.tolist() for part in encoder.vector(text))
    if not ids:
        return []
    whole = ",".join(
        f'"{token}":{max(1, round(WHOLE * weight))}' for token, weight in zip(ids, weights, strict=True)
    )
    body = {
        "yql": f"select id, text from doc where ({{targetHits:{candidates}}}wand(tokens, {{{whole}}}))",
        "hits": k,
        "ranking": "sparse",
        "input.query(q)": {str(token): weight for token, weight in zip(ids, weights, strict=True)},
    }
    request = urllib.request.Request(
        f"{where.rstrip('/')}/search/", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        hits = json.load(answer)["root"].get("children", [])
    return [(hit["fields"]["id"], hit["relevance"], hit["fields"]["text"]) for hit in hits]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("where")
    parser.add_argument("do", choices=("search",))
    parser.add_argument("text")
    parser.add_argument("--candidates", type=int, default=1000)
    given = parser.parse_args()
    for doc_id, score, text in search(given.where, given.text, candidates=given.candidates):
        print(f"{score:.3f}  {doc_id}  {' '.join(text.split())[:100]}")


if __name__ == "__main__":
    main()
