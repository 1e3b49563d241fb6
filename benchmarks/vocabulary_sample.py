"""Does a student trained on a sample of the vocabulary become as good as one trained on all of it?

    python benchmarks/vocabulary_sample.py --data ../shared/data    # some 40 minutes of two cores
    python benchmarks/vocabulary_sample.py --data ../shared/data --recipe tiny-cpu    # the shipped recipe as it is

The same short run of the 4.4M start, with every seed once in each arm: titles of four collections' documents search
their own texts, teachers are BM25 and the start itself, lambda is that of `tiny-cpu`. Each model is judged on the test
queries of six collections, two of which it was not trained on. Differences are paired by query, of means over seeds.
Runs are finished one by one and not repeated; an interrupted command goes on.
"""

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neural_sparse.config import Recipe, TeacherConfig, read_recipe
from neural_sparse.corpora.collection import Collection
from neural_sparse.corpora.corpus_file import read_documents
from neural_sparse.data.training_set import TrainingSet
from neural_sparse.evaluation.significance import compare_macro, compare_scores
from neural_sparse.evaluation.systems import evaluate_encoder
from neural_sparse.io.files import read_json, write_json
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.training.train import train

TITLED = ("scifact", "nfcorpus", "cisi", "cacm")
COLLECTIONS = (*TITLED, "stackfaq", "cosqa")
SEEDS = (1, 2, 3)
ARMS = {"full": 0, "sample": 3000}
START = "cognition/model"
WORDS = 4  # a title of fewer is no query
MEASURE = "nDCG@10"
LENGTH = 128  # tokens of documents that are judged


def training_set(data: Path) -> TrainingSet:
    queries, documents, positives = [], [], []
    for name in TITLED:
        for _, title, text in read_documents(data / "collections" / name / "corpus.jsonl"):
            if len(title.split()) >= WORDS and len(text.split()) >= 2 * WORDS:
                queries.append(title)
                positives.append(len(documents))
            documents.append(text or title)
    return TrainingSet(queries, documents, np.array(positives, np.int64))


def recipe(output: Path, arm: str, seed: int, shipped: str | None) -> Recipe:
    """Of this benchmark, or a shipped one for as many steps."""
    own = Recipe(
        init=START,
        train=("titles",),
        output=str(output / f"{arm}-{seed}"),
        teacher_cache=str(output / "teacher_cache"),
        teachers=(TeacherConfig("sparse", START, 0.5, max_length=128), TeacherConfig("bm25", weight=0.5)),
        scale_constant=20.0,
        ranking={"kl": 1.0, "info_nce": 1.0},
        lambda_flops=0.004,
        frequency_weighted_flops=True,
        vocabulary_sample=ARMS[arm],
        num_steps=150,
        batch_size=24,
        num_hard_negatives=1,
        learning_rate=1e-4,  # at 4e-4 runs of one arm lie as far apart as the two arms
        warmup_steps=30,
        max_length=96,
        encode_max_length=LENGTH,
        seed=seed,
    )
    if shipped is None:
        return own
    kept = ("train", "output", "teacher_cache", "vocabulary_sample", "num_steps", "encode_max_length", "seed")
    return read_recipe(shipped, [f"{key}={json.dumps(getattr(own, key))}" for key in kept])


def judged(data: Path, training: TrainingSet, one: Recipe) -> dict[str, Any]:
    """{"train_seconds", collection: {"per_query", "flops", "terms"}}, from the file or made now."""
    file = Path(one.output) / "judged.json"
    if file.is_file():
        return dict(read_json(file))
    started = time.perf_counter()
    model = NeuralSparseEncoder(train(one, data=training))
    found: dict[str, Any] = {"train_seconds": time.perf_counter() - started}
    for name in COLLECTIONS:
        collection = Collection.load(data / "collections" / name)
        result = evaluate_encoder(model, collection, 100, (MEASURE,), show_progress=False, latency_queries=0)
        assert result.cost is not None
        found[name] = {
            "per_query": result.per_query[MEASURE],
            "flops": result.cost.flops,
            "terms": result.cost.doc_terms,
        }
    write_json(file, found)
    print(f"{Path(one.output).name}: {time.perf_counter() - started:.0f} s", flush=True)
    return found


def mean_over_seeds(runs: list[dict[str, Any]], name: str) -> dict[str, float]:
    """Query -> mean of the seeds' values."""
    values = [run[name]["per_query"] for run in runs]
    return {query: float(np.mean([value[query] for value in values])) for query in values[0]}


def report(runs: dict[str, list[dict[str, Any]]]) -> str:
    lines = [
        "| collection | queries | full | sample | difference, points | p | FLOPS, full | sample | terms, full "
        "| sample |",
        "|---|---:|---:|---:|---|---:|---:|---:|---:|---:|",
    ]
    pairs = []
    for name in COLLECTIONS:
        full, sample = (mean_over_seeds(runs[arm], name) for arm in ARMS)
        pairs.append((full, sample))
        lines.append(_line(name, compare_scores(full, sample), *(_costs(runs[arm], [name]) for arm in ARMS)))
    lines.append(_line("mean", compare_macro(pairs), *(_costs(runs[arm], list(COLLECTIONS)) for arm in ARMS)))
    return "\n".join(lines)


def _costs(runs: list[dict[str, Any]], names: list[str]) -> tuple[float, float]:
    return tuple(
        float(np.mean([run[name][key] for run in runs for name in names])) for key in ("flops", "terms")
    )  # type: ignore[return-value]


def _line(name: str, found: Any, full: tuple[float, float], sample: tuple[float, float]) -> str:
    interval = f"{100 * found.difference:+.2f} [{100 * found.low:+.2f}, {100 * found.high:+.2f}]"
    cells = [name, f"{found.queries:,}", f"{found.mean_a:.3f}", f"{found.mean_b:.3f}", interval]
    cells += [
        f"{found.p_value:.3f}",
        f"{full[0]:.2f}",
        f"{sample[0]:.2f}",
        f"{full[1]:.0f}",
        f"{sample[1]:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("outputs/vocabulary_sample"))
    parser.add_argument("--recipe", help="a shipped recipe, in place of the one of this benchmark")
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    training = training_set(chosen.data)
    print(f"{platform.machine()}, {chosen.threads} threads, {len(training):,} titles", flush=True)
    runs: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ARMS}
    for seed in SEEDS:
        for arm in ARMS:
            one = recipe(chosen.output, arm, seed, chosen.recipe)
            runs[arm].append(judged(chosen.data, training, one))
    print(report(runs))
    seconds = {arm: [round(run["train_seconds"]) for run in found] for arm, found in runs.items()}
    print(json.dumps({"training, seconds": seconds}))


if __name__ == "__main__":
    main()
