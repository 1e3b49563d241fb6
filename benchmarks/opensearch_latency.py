"""How long a sparse search takes beside BM25 on a real OpenSearch node with more than 100,000 real documents.

    python benchmarks/opensearch_latency.py MODEL --data ../shared/data --work outputs/latency

Documents: all English collections and pairs of --data and the Python documentation of the quickstart; queries: the
collections' test queries, in turn. They are encoded once (--work keeps the vectors), pruned at a tenth of a document's
greatest weight as the ingest pipeline does, and sent to one index of a single node (see docs/opensearch.md) with their
texts. Then `neural-sparse load-test` asks both ways, one client, open loop: what this is for is the ratio of their p99.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from itertools import chain, islice, zip_longest
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from neural_sparse import Collection, NeuralSparseEncoder
from neural_sparse.corpora.python_docs import python_docs
from neural_sparse.io.files import replacing
from neural_sparse.opensearch import VectorIndex, connect, server_names
from neural_sparse.opensearch.node import Node
from neural_sparse.opensearch.shipped import PRUNE, heavy

COLLECTIONS = ("scifact", "nfcorpus", "cisi", "cacm", "vaswani", "cosqa", "stackfaq", "msmarco-mini-en")
PAIRS = ("acl-title-abstract", "medquad", "squad-sentence")
INDEX = "latency"
CHUNK = 8192


def read(data: Path, n_queries: int) -> tuple[list[str], list[str]]:
    """Texts without repetition; queries of the collections in turn."""
    texts: dict[str, None] = {}
    asked = []
    for name in COLLECTIONS:
        collection = Collection.load(data / "collections" / name)
        texts.update(dict.fromkeys(collection.texts))
        asked.append(list(collection.queries.values()))
    for name in PAIRS:
        with (data / f"pairs/{name}.jsonl").open(encoding="utf-8") as lines:
            texts.update(dict.fromkeys(json.loads(line)["pos"] for line in lines))
    texts.update(dict.fromkeys(python_docs().collection.texts))
    in_turn = (query for query in chain.from_iterable(zip_longest(*asked)) if query)
    return list(texts), list(islice(in_turn, n_queries))


def encode(model: NeuralSparseEncoder, texts: list[str], work: Path) -> sp.csr_matrix:
    """In chunks that are kept, so that an interrupted run goes on."""
    parts = []
    for first in range(0, len(texts), CHUNK):
        file = work / f"vectors-{first}.npz"
        if not file.is_file():
            vectors = model.encode_documents(texts[first : first + CHUNK], show_progress=True)
            with replacing(file) as temporary, temporary.open("wb") as out:
                sp.save_npz(out, vectors)
        parts.append(sp.csr_matrix(sp.load_npz(file)))
    return sp.csr_matrix(sp.vstack(parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--version", default="3.6.0")
    parser.add_argument("--encode-only", action="store_true")
    parser.add_argument("--rate", default="20", help="as load-test has it")
    parser.add_argument("--duration", default="60", help="as load-test has it")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    texts, queries = read(asked.data, asked.queries)
    model = NeuralSparseEncoder(asked.model, asked.max_length, device="cpu")
    vectors = encode(model, texts, asked.work)
    terms = [np.diff(matrix.indptr).mean() for matrix in (vectors, heavy(vectors, PRUNE))]
    print(f"{len(texts):,} documents of {terms[0]:.0f} terms, pruned {terms[1]:.0f}", flush=True)
    if asked.encode_only:
        return
    file = asked.work / "queries.jsonl"
    file.write_text(
        "".join(json.dumps({"_id": str(row), "text": text}) + "\n" for row, text in enumerate(queries))
    )
    with Node(asked.version) as node:
        client = connect(node.url)
        index = VectorIndex.create(client, INDEX, server_names(model.tokenizer))
        report = index.add(heavy(vectors, PRUNE), [str(row) for row in range(len(texts))], texts)
        assert not report.failed, report.failed[:3]
        client.indices.refresh(index=INDEX, request_timeout=600)
        client.indices.forcemerge(index=INDEX, max_num_segments=1, request_timeout=600)
        command = [sys.executable, "-m", "neural_sparse", "load-test", "--url", node.url, "--index", INDEX]
        command += ["--queries", str(file), "--model", asked.model, "--against", "match", "--clients", "1"]
        command += ["--output", str(asked.work / "load"), "--rate", asked.rate]
        command += ["--duration", asked.duration]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
