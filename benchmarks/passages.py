"""What passages are worth: a collection of long documents encoded whole, cut, and in passages.

    python benchmarks/passages.py MODEL --collection nfcorpus --output results/passages   # all arms, and the table
    python benchmarks/passages.py MODEL --collection nfcorpus --output results/passages --arm "passages of 128"

An arm that was measured is not measured again. Query weights are the collection's own IDF. Differences are to documents
cut at 512 tokens, with a paired permutation test, not corrected for their number.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from neural_sparse.corpora.names import load_collection
from neural_sparse.evaluation import evaluate_bm25, evaluate_encoder
from neural_sparse.evaluation.significance import compare_scores
from neural_sparse.idf import compute_idf_weights
from neural_sparse.io.files import read_json, write_json
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.report.tables import markdown_table

MEASURES = ("nDCG@10", "R@100")
WHOLE = "cut at 512"
ARMS: dict[str, dict[str, int | None]] = {
    "BM25": {},
    "cut at 128": {"max_length": 128, "passages": None},
    "cut at 256": {"max_length": 256, "passages": None},
    WHOLE: {"max_length": 512, "passages": None},
    "passages of 256": {"max_length": 512, "passages": 256},
    "passages of 128": {"max_length": 512, "passages": 128},
}


def measured(model: str, name: str, arm: str) -> dict[str, Any]:
    collection = load_collection(name, "test")
    settings = ARMS[arm]
    started = time.process_time()
    if not settings:
        result = evaluate_bm25(collection, 100, MEASURES, latency_queries=0)
    else:
        encoder = NeuralSparseEncoder(model, settings["max_length"], device="cpu")
        encoder.set_query_weights(compute_idf_weights(collection.texts, encoder.tokenizer))
        result = evaluate_encoder(
            encoder,
            collection,
            100,
            MEASURES,
            passages=settings["passages"],
            latency_queries=0,
            show_progress=False,
        )
    assert result.cost is not None
    return {
        "means": result.means,
        "ndcg": result.per_query["nDCG@10"],
        "flops": result.cost.flops,
        "megabytes": (result.cost.index_bytes or 0) / 1e6,
        "cpu_seconds": time.process_time() - started,
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    rows = []
    for arm, one in results.items():
        difference = ""
        if arm != WHOLE and WHOLE in results:
            found = compare_scores(results[WHOLE]["ndcg"], one["ndcg"])
            difference = f"{100 * found.difference:+.1f} (p {found.p_value:.3f})"
        rows.append(
            [
                arm,
                *(f"{one['means'][measure]:.3f}" for measure in MEASURES),
                difference,
                f"{one['flops']:.2f}",
                f"{one['megabytes']:.1f}",
                f"{one['cpu_seconds']:.0f}",
            ]
        )
    heading = ["documents", *MEASURES, f"nDCG@10 to {WHOLE}", "FLOPS", "index, MB", "processor seconds"]
    return markdown_table(heading, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--collection", required=True)
    parser.add_argument("--arm", choices=list(ARMS), action="append")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    folder = options.output / Path(options.collection).name
    for arm in options.arm or ARMS:
        file = folder / f"{arm.replace(' ', '-')}.json"
        if not file.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            write_json(file, measured(options.model, options.collection, arm))
    files = {arm: folder / f"{arm.replace(' ', '-')}.json" for arm in ARMS}
    print(table({arm: read_json(file) for arm, file in files.items() if file.is_file()}))


if __name__ == "__main__":
    main()
