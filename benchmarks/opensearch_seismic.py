"""SEISMIC against exact sparse search and BM25, on a real OpenSearch node with real documents.

    python benchmarks/opensearch_seismic.py pairs.jsonl --idf idf.json
    python benchmarks/opensearch_seismic.py pairs.jsonl --idf idf.json --vectors vectors.npz --output seismic.json

Reads lines {"query", "pos"}: "pos" are the documents, "query" asks. Starts a single node of OpenSearch 3.6.0 (see
docs/opensearch.md), fills three indexes (rank_features, sparse_vector with clusters, text) and merges each into one
segment; one client then asks each way the same queries, ways taking turns query by query. Recall is the share of the
exact ten that an approximate ten holds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from neural_sparse import NeuralSparseEncoder
from neural_sparse.io.files import write_json
from neural_sparse.opensearch import VectorIndex, connect, neural_sparse_query, server_names, stored
from neural_sparse.opensearch.features import query_tokens
from neural_sparse.opensearch.load import match_body, search_body
from neural_sparse.opensearch.node import Node
from neural_sparse.opensearch.seismic import Seismic, SeismicSearch, token_ids
from neural_sparse.opensearch.shipped import heavy

K = 10
SETTINGS = ((3, 1.0), (5, 1.0), (10, 0.7), (10, 1.0), (10, 1.5), (20, 2.0), (50, 5.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--model", default="cognition/model")
    parser.add_argument("--idf", help="query weights")
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument(
        "--vectors", type=Path, help="file that keeps the documents' vectors between runs (.npz)"
    )
    parser.add_argument("--version", default="3.6.0")
    parser.add_argument("--n-postings", type=int, help="of SEISMIC; the server's own if not given")
    parser.add_argument("--output", type=Path, help="figures as JSON")
    asked = parser.parse_args()
    with asked.pairs.open(encoding="utf-8") as lines:
        pairs = [json.loads(line) for _, line in zip(range(asked.documents), lines, strict=False)]
    texts = [pair["pos"] for pair in pairs]
    step = max(1, len(pairs) // asked.queries)
    asks = [pair["query"] for pair in pairs[::step]][: asked.queries]
    model = NeuralSparseEncoder(asked.model, asked.max_length, idf=asked.idf, device="cpu")
    if asked.vectors is not None and asked.vectors.is_file():
        vectors = sp.csr_matrix(sp.load_npz(asked.vectors))
    else:
        vectors = model.encode_documents(texts, show_progress=True)
        if asked.vectors is not None:
            sp.save_npz(asked.vectors, vectors)
    with Node(asked.version) as node:
        figures = measure(
            connect(node.url), model, texts, vectors=vectors, asks=asks, n_postings=asked.n_postings
        )
    if asked.output is not None:
        write_json(asked.output, figures)


def measure(
    client: Any,
    model: NeuralSparseEncoder,
    texts: list[str],
    *,
    vectors: sp.csr_matrix,
    asks: list[str],
    n_postings: int | None,
) -> dict[str, Any]:
    """Fill, ask, and print."""
    names = server_names(model.tokenizer)
    queries = model.encode_queries(asks)
    doc_ids = [str(row) for row in range(len(texts))]
    seismic = Seismic(
        n_postings=n_postings,
        approximate_threshold=100,
        quantization_ceiling_ingest=float(vectors.max()),
        quantization_ceiling_search=float(queries.max()),
    )
    pruned = heavy(vectors, 0.1)
    built = {
        "exact": fill(client, "exact", names, vectors, doc_ids, None),
        "pruned": fill(client, "pruned", names, pruned, doc_ids, None),
        "clusters": fill(client, "clusters", names, vectors, doc_ids, seismic),
        "text": fill_text(client, "text", texts, doc_ids),
    }
    for name, (seconds, size) in built.items():
        print(f"{name:10} built in {seconds:7.1f} s, {size / 1e6:7.1f} MB", flush=True)
    plain = query_tokens(queries, names)
    ids = query_tokens(queries, token_ids(names))
    ways: dict[str, tuple[str, Callable[[int], dict[str, Any]]]] = {
        "BM25": ("text", lambda place: match_body(asks[place], "text", K)),
        "rank_features": (
            "exact",
            lambda place: search_body(neural_sparse_query(plain[place], "embedding"), K),
        ),
        "rank_features, pruned": (
            "pruned",
            lambda place: search_body(neural_sparse_query(plain[place], "embedding"), K),
        ),
    }
    for top_n, factor in SETTINGS:
        how = SeismicSearch(top_n, factor)
        ways[f"SEISMIC top_n {top_n}, heap_factor {factor:g}"] = (
            "clusters",
            lambda place, how=how: search_body(how.query(ids[place], "embedding", K), K),  # type: ignore[misc]
        )
    scores = (queries @ stored(vectors).T).toarray()
    best = [set(row.tolist()) for row in np.argsort(-scores, axis=1)[:, :K]]
    took = {name: np.zeros(len(asks)) for name in ways}
    recall = {name: np.zeros(len(asks)) for name in ways}
    for turn in range(3):  # the first warms up
        for place in range(len(asks)):
            for name, (index, make) in ways.items():
                body = make(place)
                start = time.perf_counter()
                answer = client.search(index=index, body=body, params={"request_cache": "false"})
                seconds = time.perf_counter() - start
                took[name][place] = seconds if turn < 2 else min(seconds, took[name][place])
                found = {int(hit["_id"]) for hit in answer["hits"]["hits"]}
                recall[name][place] = len(found & best[place]) / K
    rows = {}
    print(f"{'':36} recall@10   p50 ms   p99 ms")
    for name in ways:
        p50, p99 = np.percentile(took[name], [50, 99]) * 1000
        rows[name] = {"recall": float(recall[name].mean()), "p50_ms": float(p50), "p99_ms": float(p99)}
        print(f"{name:36} {recall[name].mean():9.3f} {p50:8.2f} {p99:8.2f}", flush=True)
    return {"documents": len(texts), "terms": vectors.nnz / len(texts), "built": built, "ways": rows}


def fill(
    client: Any,
    name: str,
    tokens: list[str],
    vectors: sp.csr_matrix,
    doc_ids: list[str],
    seismic: Seismic | None,
) -> tuple[float, int]:
    """Seconds and bytes of an index of one segment."""
    start = time.perf_counter()
    index = VectorIndex.create(client, name, tokens, names="plain", seismic=seismic)
    client.indices.put_settings(index=name, body={"index.refresh_interval": "-1"})
    report = index.add(vectors, doc_ids)
    assert not report.failed, report.failed[:3]
    return merged(client, name, start)


def fill_text(client: Any, name: str, texts: list[str], doc_ids: list[str]) -> tuple[float, int]:
    """The same for BM25."""
    start = time.perf_counter()
    client.indices.create(
        index=name,
        body={
            "settings": {"index": {"number_of_shards": 1, "number_of_replicas": 0}},
            "mappings": {"properties": {"text": {"type": "text"}}},
        },
    )
    for first in range(0, len(texts), 500):
        lines: list[dict[str, Any]] = []
        for doc_id, text in zip(doc_ids[first : first + 500], texts[first : first + 500], strict=True):
            lines += [{"index": {"_id": doc_id}}, {"text": text}]
        assert not client.bulk(index=name, body=lines)["errors"]
    return merged(client, name, start)


def merged(client: Any, name: str, start: float) -> tuple[float, int]:
    """Seconds since `start`, and bytes, once all documents are in one segment."""
    client.indices.refresh(index=name, request_timeout=600)
    client.indices.forcemerge(index=name, max_num_segments=1, request_timeout=600)
    seconds = time.perf_counter() - start
    stats = client.indices.stats(index=name, metric="store")
    return seconds, int(stats["indices"][name]["primaries"]["store"]["size_in_bytes"])


if __name__ == "__main__":
    main()
