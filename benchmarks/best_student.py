"""The best 4.4M student we know how to train in an hour on 2 cores, judged on six collections.

    python benchmarks/best_student.py --data ../shared/data           # in outputs/ablation, whose short runs it takes
    python benchmarks/best_student.py --data ../shared/data --report  # docs/ablation.md's tables of what is there

Four short runs (two of 300 steps, two of 600) and their mean; two runs from that mean, whose documents learn the mean's
own terms, what BM25 counts and what their neighbors say; and the mean of all three. Judged four ways: with the IDF of
the training data and with each collection's own, with a query's repeated tokens once and as often as they are there.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from ablation import COLLECTIONS, DENSE, MEASURE, PAIRS, STUDENT, Trainer, prepare, recipe, report

from neural_sparse.config import TeacherConfig

FIRST = {
    "base-1": {"seed": 1},
    "base-2": {"seed": 2},
    "long-1": {"seed": 1, "num_steps": 600},
    "long-2": {"seed": 2, "num_steps": 600},
}
SECOND: dict[str, dict[str, Any]] = {
    "second-1": {"seed": 2, "term_targets": {"bm25": 2.0, "sparse": 1.0, "neighbors": 0.4}},
    "second-2": {"seed": 3, "term_targets": {"bm25": 3.0, "sparse": 1.0, "neighbors": 0.6}},
}
WEIGHTS = "2,1,1.5,1.5,1,1,1.5,1.5,1.5"  # shares of the batches: PAIRS, then COLLECTIONS
SAMPLE = "10000,5000,10000,0,0,0,0,0,0"  # examples kept; 0: all
IDFS = ("given", "own")
COUNTS = ("once", "counted")
OPENING_WORDS, LEAST_WORDS, LEAST_SENTENCE = 8, 6, 6


def queries(text: str, title: str) -> list[str]:
    """Queries of a document: its title and its middle sentence, or the first words of one that has no title or text."""
    words = text.split()
    if not title or not words:
        words = words or title.split()
        return [" ".join(words[: min(OPENING_WORDS, len(words) // 2)])] if len(words) >= LEAST_WORDS else []
    sentences = re.split(r"(?<=[.?!])\s+", text.strip())
    middle = sentences[len(sentences) // 2]
    return [title, middle] if len(sentences) > 2 and len(middle.split()) >= LEAST_SENTENCE else [title]


def prepare_second(data: Path, output: Path) -> None:
    """The pairs, and documents of all six collections with their titles or first words; no test query among them."""
    if (output / "data").is_dir():
        return
    folders = [str(data / "collections" / name) for name in COLLECTIONS]
    sources = [str(data / "pairs" / f"{name}.jsonl") for name in PAIRS]
    sources += [f"{folder}/corpus.jsonl" for folder in folders]
    command = ["data", "prepare", *sources, "--queries-from", "best_student:queries"]
    command += ["--weights", WEIGHTS, "--sample", SAMPLE]
    command += ["--decontaminate", ",".join(folders), "--no-decontaminate-documents"]
    command += ["--output", str(output / "data")]
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run([sys.executable, "-m", "neural_sparse", *command], check=True, env=here)


def second(mean: Path, **changes: Any) -> dict[str, Any]:
    """Settings of the runs from the mean."""
    teachers = (
        TeacherConfig("dense", DENSE, 0.4, max_length=128),
        TeacherConfig("sparse", str(mean), 0.2, max_length=128),
        TeacherConfig("bm25", weight=0.4),
    )
    settings: dict[str, Any] = {
        "init": str(mean),
        "teachers": teachers,
        "train_query_weights": True,
        "query_learning_rate": 0.02,
        "term_weight": 1.5,
        "learning_rate": 5e-4,
        "warmup_steps": 60,
        "num_steps": 3000,
        "batch_size": 24,
        "max_length": 128,
        "target_flops": 0.25,
    }
    return settings | changes


def trained(output: Path, runs: Mapping[str, dict[str, Any]]) -> list[Path]:
    """Runs that share their examples, negatives and teachers, which are made first; each on a core of its own."""
    here = Trainer(output)
    common = recipe(output, **next(iter(runs.values())))
    here.shared.data(common)
    here.shared.teachers(common)
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        jobs = [pool.submit(_train, output, name, changes) for name, changes in runs.items()]
        return [job.result() for job in jobs]


def _train(output: Path, name: str, changes: dict[str, Any]) -> Path:
    return Trainer(output)(name, **changes)


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
    best, judged = output / "best", output / "best" / f"judged-{max_length}"
    started = time.perf_counter()
    prepare(data, output)
    mean = averaged(trained(output, FIRST), best / "first-mean")
    print(f"data and first runs: {(time.perf_counter() - started) / 60:.1f} min", flush=True)
    prepare_second(data, best)
    runs = trained(best, {name: second(mean, **changes) for name, changes in SECOND.items()})
    models = {"first-mean": mean, "mean": averaged([mean, *runs], best / "mean")}
    print(f"second runs as well: {(time.perf_counter() - started) / 60:.1f} min", flush=True)
    judge_bm25(judged, data)
    table = best / "idf.json"
    for name, model in {"start": Path(STUDENT), **models, **dict(zip(SECOND, runs, strict=True))}.items():
        judge(judged, name, model, data, table, max_length)
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
