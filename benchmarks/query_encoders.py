"""What encodes queries, and LoRA: students of one start, the same data and as many steps, judged on two collections.

    python benchmarks/query_encoders.py --data ../shared/data            # in outputs/query-encoders
    python benchmarks/query_encoders.py --data ../shared/data --report   # docs/training.md's table of what is there

DATA holds pairs/ (JSONL files) and collections/ (BEIR folders); no query of the collections is trained on. lambda_flops
is the same in all arms, so that students differ in cost as in relevance; the adapters' learning rate is ten times the
others', as is usual. A run that is there is not repeated, and one that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ablation import STUDENT, table
from arms import machine
from new_head import COLLECTIONS, MEASURE, MINILM, prepare

from neural_sparse.config import Recipe, TeacherConfig

TIMED = 200  # queries
MAX_LENGTH = 96  # tokens of a document, when judged
ARMS: dict[str, dict[str, Any]] = {
    "inference-free": {},
    "shared": {"query_encoder": "shared"},
    "own": {"query_encoder": "own"},
    "lora": {"lora_rank": 16, "learning_rate": 2e-3},
}
STARTS = {"start, looked up": "inference-free", "start, shared": "shared"}


def recipe(output: Path, name: str, steps: int) -> Recipe:
    teachers = (TeacherConfig("dense", MINILM, 0.6, max_length=64), TeacherConfig("bm25", weight=0.4))
    settings: dict[str, Any] = {
        "init": STUDENT,
        "train": (str(output / "data"),),
        "output": str(output / "runs" / name),
        "teacher_cache": str(output / "cache"),
        "teachers": teachers,
        "scale_constant": 20.0,
        "temperature": 3.0,
        "ranking": {"kl": 1.0},
        "lambda_flops": 0.005,
        "flops_ramp_steps": max(1, steps // 4),
        "frequency_weighted_flops": True,
        "num_steps": steps,
        "batch_size": 16,
        "num_hard_negatives": 1,
        "negatives": ("bm25",),
        "learning_rate": 2e-4,
        "warmup_steps": max(1, steps // 10),
        "save_steps": max(1, steps // 4),
        "max_length": 64,
        "encode_max_length": MAX_LENGTH,
        "bf16": False,
    }
    return Recipe(**(settings | ARMS[name]))


def students(output: Path) -> dict[str, tuple[str, str | None]]:
    """Folder (or name) of each that is judged, and what encodes its queries where it is not saved with it."""
    trained = {name: (str(output / "runs" / name / "final_model"), None) for name in ARMS}
    return {name: (STUDENT, kind) for name, kind in STARTS.items()} | trained


def load(output: Path, name: str) -> Any:
    from neural_sparse.model.encoder import NeuralSparseEncoder

    folder, kind = students(output)[name]
    encoder = NeuralSparseEncoder(folder, MAX_LENGTH, query_encoder=kind, device="cpu")  # type: ignore[arg-type]
    if kind == "inference-free":
        encoder.set_query_weights(output / "runs" / "inference-free" / "idf.json")
    return encoder


def train_all(output: Path, steps: int) -> None:
    from neural_sparse.training.run_folder import finished_model
    from neural_sparse.training.train import train
    from neural_sparse.tuning.shared import Shared

    shared = Shared(output / "shared")
    for name in ARMS:
        asked = recipe(output, name, steps)
        if finished_model(asked) is None:
            data, teachers = shared.data(asked), shared.teachers(asked)
            started = time.process_time()
            train(asked, data=data, teachers=teachers)
            print(f"{name}: {time.process_time() - started:.0f} s of processor time", flush=True)


def judge(output: Path, data: Path, one: str) -> None:
    """All of one collection, whose documents are encoded once by each model; and what its queries take."""
    from neural_sparse.corpora.names import load_collection
    from neural_sparse.evaluation.systems import evaluate_bm25, evaluate_encoder
    from neural_sparse.io.files import write_json
    from neural_sparse.search import SparseIndex, SparseRetriever

    folder = output / "judged" / one
    if (folder / "milliseconds.json").is_file():
        return
    collection = load_collection(str(data / "collections" / one), "test")
    settings: dict[str, Any] = {"k": 100, "measures": (MEASURE,), "latency_queries": 0}
    evaluate_bm25(collection, **settings).save(folder / "BM25")
    vectors: dict[str, Any] = {}
    retrievers: dict[str, SparseRetriever] = {}
    for name, (model, _) in students(output).items():
        encoder = load(output, name)
        if model not in vectors:
            vectors[model] = encoder.encode_documents(collection.texts)
        result = evaluate_encoder(encoder, collection, name=name, doc_vectors=vectors[model], **settings)
        result.save(folder / name)
        print(f"{name} on {one}: {result.means[MEASURE]:.3f}", flush=True)
        index = SparseIndex.build(vectors[model], collection.doc_ids)
        retrievers[name] = SparseRetriever(index, encoder.encode_queries, threads=1)
    write_json(folder / "milliseconds.json", milliseconds(retrievers, list(collection.queries.values())))


def milliseconds(retrievers: Mapping[str, Any], queries: Sequence[str]) -> dict[str, float]:
    """Of processor time from a query's text to its ten documents: medians, all of them asked in turn."""
    taken: dict[str, list[float]] = {name: [] for name in retrievers}
    for query in [queries[0], *queries[:TIMED]]:
        for name, retriever in retrievers.items():
            started = time.process_time()
            retriever.search_texts([query], 10)
            taken[name].append(1000 * (time.process_time() - started))
    return {name: statistics.median(times[1:]) for name, times in taken.items()}  # the first one compiles


def report(output: Path) -> str:
    """nDCG@10 on each collection, and the mean with what it is against the looked-up student's; costs are means."""
    from neural_sparse.evaluation.evaluation import Evaluation
    from neural_sparse.evaluation.significance import compare_macro
    from neural_sparse.io.files import read_json

    places = [output / "judged" / one for one in COLLECTIONS]
    taken = [read_json(place / "milliseconds.json") for place in places]
    judged = {
        name: [Evaluation.load(place / name, with_run=False) for place in places]
        for name in ("BM25", *students(output))
    }
    base = judged["inference-free"]
    heading = ["student", *COLLECTIONS, "mean", "against inference-free, points", "FLOPS", "terms of a document",
               "of a query", "GFLOP of a query", "ms of a query"]  # fmt: skip
    rows = []
    for name, results in judged.items():
        figures = [one.means[MEASURE] for one in results]
        seen = compare_macro(
            [(a.per_query[MEASURE], b.per_query[MEASURE]) for a, b in zip(base, results, strict=True)]
        )
        said = f"{100 * seen.difference:+.1f} [{100 * seen.low:+.1f}, {100 * seen.high:+.1f}]"
        costs = [one.summary() for one in results]
        cost = {key: sum(one.get(key, 0.0) for one in costs) / len(costs) for key in costs[0]}
        rows.append(
            [
                name,
                *(f"{value:.3f}" for value in [*figures, sum(figures) / len(figures)]),
                "" if name == "inference-free" else said,
                f"{cost['FLOPS']:.2f}",
                f"{cost['doc_terms']:.0f}",
                f"{cost['query_terms']:.0f}",
                f"{cost.get('query_gflop', 0):.2g}",
                f"{statistics.mean(one[name] for one in taken):.1f}" if name in taken[0] else "",
            ]
        )
    return table(heading, rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("outputs/query-encoders"))
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--report", action="store_true", help="run nothing")
    chosen = parser.parse_args()
    if not chosen.report:
        torch.set_num_threads(1)
        print(machine(1))
        prepare(chosen.data, chosen.output)
        train_all(chosen.output, chosen.steps)
        for one in COLLECTIONS:
            judge(chosen.output, chosen.data, one)
    print(report(chosen.output))


if __name__ == "__main__":
    main()
