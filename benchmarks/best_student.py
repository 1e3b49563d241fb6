"""The best 4.4M student we know how to train in an hour on 2 cores, judged on six collections.

    python benchmarks/best_student.py --data ../shared/data           # in outputs/ablation, whose short runs it takes
    python benchmarks/best_student.py --data ../shared/data --report  # docs/ablation.md's tables of what is there

Four short runs (two of 300 steps, two of 600) and their mean; one run from that mean, whose documents learn the mean's
own terms, what BM25 counts and what their neighbors say; and the mean of both. Judged four ways: with the IDF of the
training data and with each collection's own, with a query's repeated tokens once and as often as they are there.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ablation import COLLECTIONS, DENSE, MEASURE, PAIRS, QUERY_WEIGHTS, STUDENT, Trainer, prepare, report

from neural_sparse.config import TeacherConfig

FIRST = {
    "base-1": {"seed": 1},
    "base-2": {"seed": 2},
    "long-1": {"seed": 1, "num_steps": 600},
    "long-2": {"seed": 2, "num_steps": 600},
}
WEIGHTS = "2,1,1.5,1.5,1,0.7,1,1.5,1.5"  # shares of the batches: PAIRS, then COLLECTIONS
SAMPLE = "10000,5000,10000,0,0,0,0,0,0"  # examples kept; 0: all
IDFS = ("given", "own")
COUNTS = ("once", "counted")
OPENING_WORDS, LEAST_WORDS = 8, 13


def opening(text: str, title: str) -> list[str]:
    """A query of a document: its title, or the first words of one that has none."""
    words = text.split()
    if title:
        return [title]
    return [" ".join(words[:OPENING_WORDS])] if len(words) >= LEAST_WORDS else []


def prepare_second(data: Path, output: Path) -> None:
    """The pairs, and documents of all six collections with their titles or first words; no test query among them."""
    if (output / "data").is_dir():
        return
    folders = [str(data / "collections" / name) for name in COLLECTIONS]
    sources = [str(data / "pairs" / f"{name}.jsonl") for name in PAIRS]
    sources += [f"{folder}/corpus.jsonl" for folder in folders]
    command = ["data", "prepare", *sources, "--queries-from", "best_student:opening"]
    command += ["--weights", WEIGHTS, "--sample", SAMPLE]
    command += ["--decontaminate", ",".join(folders), "--no-decontaminate-documents"]
    command += ["--output", str(output / "data")]
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run([sys.executable, "-m", "neural_sparse", *command], check=True, env=here)


def second(mean: Path) -> dict[str, Any]:
    """Settings of the run from the mean."""
    teachers = (
        TeacherConfig("dense", DENSE, 0.4, max_length=128),
        TeacherConfig("sparse", str(mean), 0.2, max_length=128),
        TeacherConfig("bm25", weight=0.4),
    )
    return QUERY_WEIGHTS | {
        "init": str(mean),
        "teachers": teachers,
        "term_targets": {"bm25": 2.0, "sparse": 1.0, "neighbors": 0.4},
        "term_weight": 1.5,
        "learning_rate": 3e-4,
        "warmup_steps": 60,
        "num_steps": 1500,
        "batch_size": 24,
        "max_length": 128,
        "target_flops": 0.26,
        "seed": 2,
    }


def averaged(models: Sequence[Path], place: Path) -> Path:
    from neural_sparse.files import replacing_folder
    from neural_sparse.model.averaging import average_models

    if not place.is_dir():
        with replacing_folder(place) as made:
            average_models(models).save_pretrained(str(made))
    return place


def judge(folder: Path, name: str, model: Path, data: Path, table: Path, max_length: int) -> None:
    """Evaluate a model on every collection in all four ways, encoding its documents once."""
    from neural_sparse.evaluation.sources import load_collection
    from neural_sparse.evaluation.systems import evaluate_encoder
    from neural_sparse.idf import compute_idf_weights, idf_weights
    from neural_sparse.model.encoder import NeuralSparseEncoder

    encoder = NeuralSparseEncoder(str(model), max_length)
    given = idf_weights(table, encoder.tokenizer) if str(model) == STUDENT else encoder.idf_table()
    for one in COLLECTIONS:
        places = {(idf, count): folder / f"{idf}-{count}" / name / one for idf in IDFS for count in COUNTS}
        if all((place / "metrics.json").is_file() for place in places.values()):
            continue
        collection = load_collection(str(data / "collections" / one), "test")
        vectors = encoder.encode_documents(collection.texts)
        own = compute_idf_weights(collection.texts, encoder.tokenizer, show_progress=False)
        for (idf, count), place in places.items():
            encoder.set_query_weights(own if idf == "own" else given)
            encoder.count_repeats = count == "counted"
            evaluate_encoder(
                encoder,
                collection,
                k=100,
                measures=(MEASURE,),
                name=name,
                doc_vectors=vectors,
                latency_queries=0,
            ).save(place)


def judge_bm25(folder: Path, data: Path) -> None:
    """BM25 with this project's stop words (179), and with the 33 that Lucene and bm25s leave out by default."""
    from neural_sparse.evaluation.sources import load_collection
    from neural_sparse.evaluation.systems import evaluate_bm25
    from neural_sparse.search import BM25Index

    for one in COLLECTIONS:
        for name, stopwords in (("BM25", "english_plus"), ("BM25-33-stopwords", "english")):
            places = [folder / f"{idf}-{count}" / name / one for idf in IDFS for count in COUNTS]
            if all((place / "metrics.json").is_file() for place in places):
                continue
            collection = load_collection(str(data / "collections" / one), "test")
            index = BM25Index.build(collection.texts, collection.doc_ids, stopwords=stopwords)
            settings: dict[str, Any] = {"k": 100, "measures": (MEASURE,), "name": name, "latency_queries": 0}
            result = evaluate_bm25(collection, index=index, **settings)
            for place in places:  # BM25 is the same each time: it has its own IDF and counts
                result.save(place)


def work(data: Path, output: Path, max_length: int) -> Path:
    judged = output / "best" / f"judged-{max_length}"
    prepare(data, output)
    first = Trainer(output)
    started = time.perf_counter()
    runs = [first(name, **changes) for name, changes in FIRST.items()]
    mean = averaged(runs, output / "best" / "first-mean")
    print(f"first runs: {(time.perf_counter() - started) / 60:.1f} min", flush=True)
    prepare_second(data, output / "best")
    started = time.perf_counter()
    run = Trainer(output / "best")("second", **second(mean))
    best = averaged([mean, run], output / "best" / "mean")
    print(f"second run: {(time.perf_counter() - started) / 60:.1f} min", flush=True)
    judge_bm25(judged, data)
    for name, model in {"start": Path(STUDENT), "first-mean": mean, "second": run, "mean": best}.items():
        judge(judged, name, model, data, first.table, max_length)
    return judged


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("outputs/ablation"))
    parser.add_argument("--tokens", type=int, default=256, help="of a document, when judged")
    parser.add_argument("--report", action="store_true", help="run nothing")
    chosen = parser.parse_args()
    judged = chosen.output / "best" / f"judged-{chosen.tokens}"
    if not chosen.report:
        work(chosen.data, chosen.output, chosen.tokens)
    for way in sorted(judged.iterdir()):
        print(f"## {way.name}\n\n{report(way, ('start', 'BM25', 'BM25-33-stopwords'))}")


if __name__ == "__main__":
    main()
