"""How long a training step waits: for its batch, and how often for the device.

    python benchmarks/input.py                                  # the table in docs/performance.md
    python benchmarks/input.py --device cuda --shapes minilm --queries 64 --dtype bfloat16

Both arms train the same model on the same batches with `neural_sparse`'s trainer: "asked for" makes each batch when
the step asks for it, "made ahead" while the step before trains, as the trainer does. Texts are made of the
tokenizer's words; the teachers are BM25, a dense one of 768 dimensions and a sparse one of 200 terms a text, all with
vectors that mean nothing. What waits for the device is counted by synchronisations.py. See arms.py for how
the arms take turns.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from arms import answer, lengths, options, peak_mib, ratio, table, take_turns
from models import folder_of
from synchronisations import Synchronisations

ARMS = ("asked for", "made ahead")
COLUMNS = ["model", "texts", *(f"{name}, {what}" for name in ARMS for what in ("s per step", "waits"))]
COLUMNS += ["ratio", "CPU time", "waits for the device per step"]
FIGURES = (("seconds", "{:.3f}"), ("waiting", "{:.1%}"))
NEGATIVES = 3
TERMS = 200  # of a text, by the sparse teacher
WARM = 2  # steps that are not timed


def world(settings: dict[str, Any], model: Any) -> tuple[Any, Any, Any]:
    """Training data, their IDF table, and teachers of them."""
    import numpy as np
    import scipy.sparse as sp

    from neural_sparse.data.training_set import TrainingSet
    from neural_sparse.idf import compute_idf_weights
    from neural_sparse.teachers.bi_encoder import PreparedVectors
    from neural_sparse.teachers.bm25 import BM25Teacher
    from neural_sparse.teachers.cache import TeacherCache
    from neural_sparse.teachers.ensemble import PreparedEnsemble
    from neural_sparse.teachers.rows import StoredVectors
    from neural_sparse.text.tokens import vocabulary

    rng = np.random.default_rng(0)
    words = [word for word in vocabulary(model.tokenizer) if word.isalpha()][:20_000]
    size = max(2000, 8 * settings["queries"])
    documents = [" ".join(rng.choice(words, n)) for n in lengths(settings["lengths"], size)]
    queries = [" ".join(text.split()[:6]) for text in documents[: size // 2]]
    negatives = list(rng.integers(size // 2, size, (len(queries), NEGATIVES)))
    data = TrainingSet(queries, documents, np.arange(len(queries)), negatives)

    def sparse(count: int) -> sp.csr_matrix:
        columns = np.sort(rng.integers(0, model.vocab_size, (count, TERMS)), 1).ravel()
        values = rng.random(count * TERMS, np.float32)
        indptr = np.arange(0, count * TERMS + 1, TERMS)
        return sp.csr_matrix((values, columns, indptr), shape=(count, model.vocab_size))

    prepared: list[Any] = [
        PreparedVectors(
            name,
            StoredVectors.of(make(len(queries))),
            np.arange(len(queries)),
            StoredVectors.of(make(size)),
            np.arange(size),
        )
        for name, make in (("dense", lambda n: rng.random((n, 768), np.float32)), ("sparse", sparse))
    ]
    prepared.append(BM25Teacher().prepare(queries, documents, None, TeacherCache(None)))
    idf = compute_idf_weights(documents, model.tokenizer, show_progress=False)
    return data, idf, PreparedEnsemble(prepared, [1.0] * 3, 10.0)


def trainer_of(settings: dict[str, Any], model: Any, given: tuple[Any, Any, Any], steps: int) -> Any:
    """A trainer of so many steps, without log lines and checkpoints between the first and the last."""
    from neural_sparse.config import Recipe, TeacherConfig
    from neural_sparse.training.monitor import ProgressBar
    from neural_sparse.training.setup import build_trainer

    data, idf, teachers = given
    recipe = Recipe(
        init=settings["folder"],
        train=("none",),
        output=settings["output"],
        teachers=(TeacherConfig("bm25"),),
        num_steps=steps,
        batch_size=settings["queries"],
        num_hard_negatives=NEGATIVES,
        max_length=256,
        warmup_steps=0,
        learning_rate=1e-6,
        logging_steps=steps,
        bf16=settings["dtype"] == "bfloat16",
    )
    trainer = build_trainer(recipe, model, idf, data, teachers, None)
    trainer.remove_callback(ProgressBar)
    trainer.args.save_strategy = "no"  # type: ignore[assignment]
    return trainer


def measure(
    settings: dict[str, Any], model: Any, given: tuple[Any, Any, Any], steps: int
) -> dict[str, float]:
    """Seconds and CPU seconds per step, and the share of them spent in waiting for the next batch."""
    import torch
    from transformers import TrainerCallback

    trainer = trainer_of(settings, model, given, WARM + steps)
    asked, marks, waited = trainer.get_batch_samples, [], 0.0

    def timed(*arguments: Any) -> Any:
        nonlocal waited
        start = time.perf_counter()
        taken = asked(*arguments)
        if trainer.state.global_step >= WARM:
            waited += time.perf_counter() - start
        return taken

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step in (WARM, WARM + steps):
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                marks.append((time.perf_counter(), time.process_time()))

    trainer.get_batch_samples = timed
    trainer.add_callback(Clock())
    trainer.train()
    (start, cpu_start), (end, cpu_end) = marks
    return {
        "seconds": (end - start) / steps,
        "cpu_seconds": (cpu_end - cpu_start) / steps,
        "waiting": waited / (end - start),
    }


def count(
    settings: dict[str, Any], model: Any, given: tuple[Any, Any, Any], steps: int = 4
) -> Synchronisations:
    """What waits for the device in so many steps between log lines."""
    from transformers import TrainerCallback

    trainer = trainer_of(settings, model, given, WARM + steps + 1)
    found = Synchronisations(model.device)

    class Steps(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == WARM:
                found.__enter__()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == WARM + steps:
                found.__exit__(None, None, None)

    trainer.add_callback(Steps())
    trainer.train()
    return found


class Direct(Iterator[Any]):
    """Each batch is made when it is asked for; in the place of `Prefetch`."""

    def __init__(self, items: Iterator[Any], depth: int, limit: int | None = None) -> None:
        self.items = items

    def __next__(self) -> Any:
        return next(self.items)

    def close(self) -> None: ...


def arm(settings: dict[str, Any]) -> None:
    """One arm: loads its model, then answers each line on stdin with some timed steps."""
    import torch

    from neural_sparse.model.encoder import NeuralSparseEncoder
    from neural_sparse.training import trainer

    if settings["device"] == "cpu":
        torch.set_num_threads(settings["threads"])
    if settings["arm"] == "asked for":
        trainer.Prefetch = Direct  # type: ignore[assignment,misc]
    model = NeuralSparseEncoder(settings["folder"], 256, device=settings["device"])
    given = world(settings, model)
    with tempfile.TemporaryDirectory() as output:
        settings = settings | {"output": output}
        waits = count(settings, model, given)

        def step() -> Callable[[], dict[str, Any]]:
            figures = measure(settings, model, given, settings["steps"])
            return lambda: {**figures, "waits": waits.count / 4}

        answer(step, peak_mib())


def compare(settings: dict[str, Any], repeats: int) -> dict[str, Any]:
    results = take_turns(__file__, settings, ARMS, repeats)
    return {
        **settings,
        **results,
        "ratio": ratio(results, *ARMS),
        "cpu_ratio": ratio(results, *ARMS, "cpu_seconds"),
    }


def row(result: dict[str, Any]) -> list[str]:
    return [
        result["shape"],
        f"{result['queries']} x {1 + NEGATIVES} {result['lengths']}",
        *(form.format(result[name][key]) for name in ARMS for key, form in FIGURES),
        f"{result['ratio']:.2f}x",
        f"{result['cpu_ratio']:.2f}x",
        f"{result[ARMS[1]]['waits']:.1f}",
    ]


def cases(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for shape in chosen.shapes:
        for kind in chosen.lengths:
            yield {
                "shape": shape,
                "folder": folder_of(shape, 30522),
                "lengths": kind,
                "queries": chosen.queries,
                "steps": chosen.steps,
                "dtype": chosen.dtype,
                "device": chosen.device,
                "threads": chosen.threads,
            }


def main() -> None:
    parser = options(__doc__)
    parser.set_defaults(lengths=["realistic"])
    parser.add_argument("--shapes", nargs="+", default=["4.4M"])
    parser.add_argument("--queries", type=int, default=16, help="per batch")
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each turn")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    if chosen.arm:
        arm(chosen.arm)
        return
    table(chosen, COLUMNS, cases(chosen), lambda case: compare(case, chosen.repeats), row)


if __name__ == "__main__":
    main()
