"""Encoding documents with torch, ONNX Runtime and OpenVINO, in float32, bfloat16 and 8 bits; and what 8 bits cost.

    python benchmarks/backends.py cognition/model --collection scifact      # the table in docs/performance.md
    python benchmarks/backends.py cognition/model --collection scifact --texts 32 --repeats 3 --ranked

Each backend is a process of its own that encodes the first --texts documents of the collection (title and text, cut
at --max-length), tokenizing included; they take turns, see arms.py. How many times as fast as torch in float32 is the
geometric mean over the turns of torch's seconds by its own, with Student's 95% interval of the logarithm; the same of
processor time, which work beside it disturbs less. Rankings are of all documents, over queries weighted by the
collection's own IDF, each against torch in float32: the difference of nDCG@10 with its bootstrap interval and the
randomisation test's p.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from arms import answer, cell, machine, peak_mib, take_turns
from models import REAL_VOCABULARY, SHAPES, folder_of

FLOAT, INT8 = "float32", "int8"
# Backend, export (None: the model itself), bfloat16.
ARMS: dict[str, tuple[str, str | None, bool]] = {
    "torch": ("torch", None, False),
    "torch, bfloat16": ("torch", None, True),
    "ONNX Runtime": ("onnx", FLOAT, False),
    "ONNX Runtime, int8": ("onnx", INT8, False),
    "OpenVINO": ("openvino", FLOAT, False),
    "OpenVINO, bfloat16": ("openvino", FLOAT, True),
    "OpenVINO, int8": ("openvino", INT8, False),
}
MEASURE = "nDCG@10"
KEYS = ("seconds", "cpu_seconds")


def encoder(settings: dict[str, Any]) -> Callable[[list[str]], Any]:
    """Texts to vectors, csr [texts, vocabulary], as an arm does it."""
    backend, export, bf16 = ARMS[settings["arm"]]
    if export is not None:
        from neural_sparse.model.exported import ExportedEncoder

        folder = Path(settings["exports"]) / export
        return ExportedEncoder(
            folder,
            "openvino" if backend == "openvino" else "onnx",
            threads=settings["threads"],
            bf16=bf16,
        ).encode_documents
    import torch

    from neural_sparse.model.encoder import NeuralSparseEncoder

    torch.set_num_threads(settings["threads"])
    model = NeuralSparseEncoder(settings["model"], settings["max_length"], device="cpu")
    return lambda texts: model.encode_documents(texts, bf16=bf16)


def texts_of(settings: dict[str, Any]) -> list[str]:
    from neural_sparse.corpora.names import load_collection

    return load_collection(settings["collection"]).texts


def arm(settings: dict[str, Any]) -> None:
    """One backend: answers each line on stdin by encoding all texts."""
    encode, texts = encoder(settings), texts_of(settings)[: settings["texts"]]

    def step() -> Callable[[], dict[str, Any]]:
        vectors = encode(texts)
        return lambda: {"checks": [float(vectors.data.astype("float64").sum())]}

    answer(step, peak_mib())


def speed(taken: dict[str, Any], name: str, key: str) -> tuple[float, float, float] | None:
    """How many times the seconds under `key` torch takes in float32, with the interval; None without figures."""
    import numpy as np
    from scipy import stats

    if not taken.get(name) or not taken.get("torch"):
        return None
    both = zip(taken["steps"]["torch"], taken["steps"][name], strict=True)
    logs = np.log([one[key] / other[key] for one, other in both])
    around = float(stats.t.ppf(0.975, max(1, len(logs) - 1)) * logs.std(ddof=1) / np.sqrt(len(logs)))
    middle = float(logs.mean())
    return tuple(float(np.exp(value)) for value in (middle, middle - around, middle + around))  # type: ignore[return-value]


def rankings(settings: dict[str, Any], names: list[str]) -> dict[str, dict[str, Any]]:
    """Of each arm: its nDCG@10, and `compare_scores` against torch's."""
    from neural_sparse.corpora.names import load_collection
    from neural_sparse.evaluation.measures import evaluate_run
    from neural_sparse.evaluation.runs import run_from_hits
    from neural_sparse.evaluation.significance import compare_scores
    from neural_sparse.idf import compute_idf_weights
    from neural_sparse.model.encoder import NeuralSparseEncoder
    from neural_sparse.search import SparseIndex

    collection = load_collection(settings["collection"])
    model = NeuralSparseEncoder(settings["model"], settings["max_length"], device="cpu")
    model.set_query_weights(compute_idf_weights(collection.texts, model.tokenizer, show_progress=False))
    queries = model.encode_queries(list(collection.queries.values()))
    scores: dict[str, dict[str, float]] = {}
    for name in names:
        documents = encoder({**settings, "arm": name})(collection.texts)
        hits = SparseIndex.build(documents, collection.doc_ids).search(queries, 10)
        run = run_from_hits(hits, list(collection.queries), collection.doc_ids)
        scores[name] = evaluate_run(run, collection.qrels, [MEASURE]).per_query[MEASURE]
    return {name: compare_scores(scores["torch"], scores[name]).to_dict() for name in names}


def row(name: str, result: dict[str, Any], chosen: argparse.Namespace) -> list[str]:
    medians, ranked = result["taken"][name], result["rankings"].get(name)
    cells = [name, cell(medians and chosen.texts / medians["seconds"], "{:,.0f}/s")]
    for key in KEYS:
        fast = result[key][name]
        cells.append("-" if fast is None else f"{fast[0]:.2f}x ({fast[1]:.2f} to {fast[2]:.2f})")
    if ranked is None:
        return [*cells, "-", "-"]
    change = f"{ranked['difference']:+.4f} ({ranked['low']:+.4f} to {ranked['high']:+.4f}), p {ranked['p_value']:.2g}"
    return [*cells, f"{ranked['mean_b']:.4f}", "" if name == "torch" else change]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "model",
        nargs="?",
        help=f"folder, hub id, or folder inside a package; random ones: {', '.join(SHAPES)}",
    )
    parser.add_argument("--collection", help="a BEIR folder, or a name")
    parser.add_argument("--texts", type=int, default=256, help="documents that are timed")
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--ranked", nargs="*", choices=list(ARMS), default=["ONNX Runtime, int8"])
    parser.add_argument("--output", type=Path, help="write all figures as JSON")
    parser.add_argument("--arm", type=json.loads, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.arm:
        arm(chosen.arm)
        return
    from neural_sparse.engines.onnx_package import write_onnx_package
    from neural_sparse.io.files import write_json
    from neural_sparse.model.encoder import NeuralSparseEncoder

    names = [*dict.fromkeys(["torch", *chosen.arms])]
    folder = folder_of(chosen.model, REAL_VOCABULARY) if chosen.model in SHAPES else chosen.model
    with tempfile.TemporaryDirectory() as exports:
        for kind in (FLOAT, INT8):
            model = NeuralSparseEncoder(folder, chosen.max_length, device="cpu")
            write_onnx_package(model, Path(exports) / kind, int8=kind == INT8)
        settings = {
            "model": folder,
            "collection": chosen.collection,
            "texts": chosen.texts,
            "max_length": chosen.max_length,
            "threads": chosen.threads,
            "exports": exports,
        }
        taken = take_turns(__file__, settings, tuple(names), chosen.repeats)
        result: dict[str, Any] = {"taken": taken}
        result |= {key: {name: speed(taken, name, key) for name in names} for key in KEYS}
        ranked = [*dict.fromkeys(["torch", *chosen.ranked])]
        result["rankings"] = rankings(settings, ranked) if chosen.ranked else {}
    columns = ["backend", "documents", "times torch", "times torch, processor time", MEASURE, "difference"]
    print(machine(chosen.threads))
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for name in names:
        print("| " + " | ".join(row(name, result, chosen)) + " |")
    if chosen.output:
        write_json(chosen.output, {"machine": machine(chosen.threads), "settings": settings, **result})


if __name__ == "__main__":
    main()
