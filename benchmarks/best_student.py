"""The best 4.4M student we know how to train on 2 cores, judged on six collections.

    python benchmarks/best_student.py --data ../shared/data           # in outputs/ablation/best
    python benchmarks/best_student.py --data ../shared/data --report  # docs/ablation.md's tables of what is there

Two runs, each on a core of its own, whose documents count their own words and learn what BM25, the start and their
neighbors say of their terms; and the mean of the two. Judged with three tables of query weights (the model's own, each
collection's IDF, that IDF times what training changed), a query's repeated tokens once and as often as they are there.
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
from ablation import COLLECTIONS, MEASURE, PAIRS, STUDENT, Trainer, recipe, report

from neural_sparse.model.pruning import Pruning

RUNS: dict[str, dict[str, Any]] = {
    "run-1": {"seed": 2, "own_words": 2.0, "term_targets": {"bm25": 2.0, "sparse": 1.0, "neighbors": 0.4}},
    "run-2": {"seed": 3, "own_words": 3.0, "term_targets": {"bm25": 3.0, "sparse": 1.0, "neighbors": 0.6}},
}
SETTINGS: dict[str, Any] = {
    "own_words_learning_rate": 5e-3,
    "train_query_weights": True,
    "query_learning_rate": 0.02,
    "term_weight": 1.5,
    "learning_rate": 5e-4,
    "warmup_steps": 60,
    "num_steps": 2000,
    "batch_size": 24,
    "max_length": 128,
    "encode_max_length": 256,
    "target_flops": 0.25,
}
WEIGHTS = "2,1,1.5,1.5,1,1,1.5,1.5,1.5"  # shares of the batches: PAIRS, then COLLECTIONS
SAMPLE = "10000,5000,10000,0,0,0,0,0,0"  # examples kept; 0: all
MAX_RATIO = 0.1  # of a document's heaviest term, below which terms are left out of "mean-pruned"
IDFS = ("given", "own", "adapted")
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


def prepare(data: Path, output: Path) -> None:
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
    from neural_sparse.io.files import replacing_folder
    from neural_sparse.model.averaging import average_models

    if not place.is_dir():
        with replacing_folder(place) as made:
            average_models(models).save_pretrained(str(made))
    return place


def judge(
    folder: Path,
    name: str,
    model: Path,
    data: Path,
    table: Path,
    max_length: int,
    own_words: float | None = None,
    pruning: Pruning | None = None,
) -> None:
    """Evaluate a model on every collection in all ways, encoding its documents once.

    Args:
        table: IDF of the training data, which training began at and the start is given.
    """
    from neural_sparse.corpora.names import load_collection
    from neural_sparse.evaluation.systems import evaluate_encoder
    from neural_sparse.idf import adapt_weights, compute_idf_weights, idf_weights
    from neural_sparse.model.encoder import NeuralSparseEncoder

    encoder = NeuralSparseEncoder(str(model), max_length, own_words=own_words)
    begun = idf_weights(table, encoder.tokenizer)
    given = begun if str(model) == STUDENT else encoder.idf_table()
    for one in COLLECTIONS:
        places = {(idf, count): folder / f"{idf}-{count}" / name / one for idf in IDFS for count in COUNTS}
        if all((place / "metrics.json").is_file() for place in places.values()):
            continue
        collection = load_collection(str(data / "collections" / one), "test")
        vectors = encoder.encode_documents(collection.texts)
        if pruning is not None:
            vectors = pruning(vectors)
        own = compute_idf_weights(collection.texts, encoder.tokenizer, show_progress=False)
        weights = {"given": given, "own": own, "adapted": adapt_weights(own, given, begun, encoder.tokenizer)}
        for (idf, count), place in places.items():
            encoder.set_query_weights(weights[idf])
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
    from neural_sparse.corpora.names import load_collection
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


def work(data: Path, output: Path, max_length: int) -> None:
    judged = output / f"judged-{max_length}"
    started = time.perf_counter()
    prepare(data, output)
    runs = trained(output, {name: SETTINGS | changes for name, changes in RUNS.items()})
    models = dict(zip(RUNS, runs, strict=True)) | {"mean": averaged(runs, output / "mean")}
    print(f"trained: {(time.perf_counter() - started) / 60:.1f} min", flush=True)
    judge_bm25(judged, data)
    table = output / "idf.json"
    judge(judged, "start", Path(STUDENT), data, table, max_length)
    judge(judged, "start-own-words", Path(STUDENT), data, table, max_length, own_words=2.0)
    for name, model in models.items():
        judge(judged, name, model, data, table, max_length)
    pruning = Pruning(max_ratio=MAX_RATIO)
    judge(judged, "mean-pruned", models["mean"], data, table, max_length, pruning=pruning)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("outputs/ablation/best"))
    parser.add_argument("--tokens", type=int, default=256, help="of a document, when judged")
    parser.add_argument("--report", action="store_true", help="run nothing")
    chosen = parser.parse_args()
    judged = chosen.output / f"judged-{chosen.tokens}"
    if not chosen.report:
        work(chosen.data, chosen.output, chosen.tokens)
    for way in sorted(judged.iterdir()):
        print(f"## {way.name}\n\n{report(way, ('start', 'BM25', 'BM25-33-stopwords'))}")


if __name__ == "__main__":
    main()
