"""The largest batch that fits into memory, found by trying before training begins, and what to do where none does."""

from __future__ import annotations

import copy
import gc
import itertools
import logging
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from neural_sparse.config import Recipe, recipe_to_dict
from neural_sparse.data.training_set import TrainingSet
from neural_sparse.errors import InputError
from neural_sparse.idf import IdfWeights
from neural_sparse.io.files import read_json, write_json
from neural_sparse.io.resources import (
    available_memory,
    peak_memory,
    release_memory,
    reset_peak_memory,
    resident_memory,
)
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.text.tokens import tokenize
from neural_sparse.training.batches import TermTargets
from neural_sparse.training.monitor import ProgressBar
from neural_sparse.training.run_folder import CONFIG_FILE
from neural_sparse.training.setup import build_trainer
from neural_sparse.training.trainer import checkpoints
from neural_sparse.work import ranks

CACHE_TOKENS = 8192


@dataclass(frozen=True)
class MemoryAdvice:
    """One way to need less memory.

    Attributes:
        keys: of the recipe, to change together.
        effect: on what is learned.
        flag: of the command line, without which the run's folder refuses the changed recipe; "" if none is needed.
    """

    keys: Mapping[str, Any]
    effect: str
    flag: str = ""

    def __str__(self) -> str:
        keys = " ".join(f"{key}={str(value).lower()}" for key, value in self.keys.items())
        return f"  {f'{keys} {self.flag}'.rstrip()}  ({self.effect})"


def memory_advice(recipe: Recipe) -> list[MemoryAdvice]:
    """Ways that this recipe leaves and its output folder takes, first those that change nothing of what is learned."""
    size = recipe.batch_size
    cached = (recipe.cache_tokens or size * (1 + recipe.num_hard_negatives) * recipe.max_length // 2) // 2
    cached = min(CACHE_TOKENS, max(recipe.max_length, cached))
    # Beside auto_batch neither is taken; the batch it found is kept.
    found = {"auto_batch": False, "batch_size": size} if recipe.auto_batch else {}
    anyway, anew = ("--resume-anyway", "--overwrite") if checkpoints(recipe.output) else ("", "")
    halved = {"batch_size": size // 2, "gradient_accumulation_steps": 2 * recipe.gradient_accumulation_steps}
    ways = [
        MemoryAdvice(found | {"cache_tokens": cached}, "gradients of the same batch, for more time"),
        MemoryAdvice({"gradient_checkpointing": True}, "the same weights, for more time"),
        MemoryAdvice({"max_length": recipe.max_length // 2}, "documents are cut earlier", anyway),
        MemoryAdvice(found | halved, "queries are scored against fewer documents", anyway),
        MemoryAdvice({"auto_batch": True}, "the largest batch that fits", anew),
    ]
    return [way for way in ways if _is_taken(recipe, way.keys)]


def memory_hint(recipe: Recipe) -> str:
    """The advice as text, a way a line."""
    ways = memory_advice(recipe)
    if not ways:
        return "This recipe needs as little as there is: take a smaller model or another machine"
    lines = ["Add to the same command, in this order:", *map(str, ways)]
    if any(way.flag for way in ways):
        last = checkpoints(recipe.output)[-1].name
        lines.append(f"--resume-anyway goes on from {last} with the changed recipe, --overwrite starts anew")
    return "\n".join(lines)


def _is_taken(recipe: Recipe, keys: Mapping[str, Any]) -> bool:
    """Whether these are other values, which a recipe may have."""
    if all(getattr(recipe, key) == value for key, value in keys.items()) or keys.get("max_length", 16) < 16:
        return False
    if recipe.cache_tokens is not None and keys.get("cache_tokens", 0) >= recipe.cache_tokens:
        return False
    try:
        replace(recipe, **keys)
    except InputError:
        return False
    return True


logger = logging.getLogger(__name__)

MOST = 1024  # queries; beyond that the batch is a question of learning, not of memory
HEADROOM = 0.15  # share of the memory that is left to what a trial does not see: fragments, checkpoints, dev
CPU_START = 2  # queries of the first trial
STEPS = 2  # of a trial: from the second on the optimiser has its moments
SAMPLE = 4000  # documents among which long ones are looked for
LONGEST = 64  # of them are what a trial is made of


def check_auto_batch(recipe: Recipe) -> None:
    """Refuse, before anything is loaded, what cannot be found here.

    Raises:
        InputError: auto_batch on several devices.
    """
    if recipe.auto_batch and ranks.world_size() > 1:
        raise InputError(
            "auto_batch tries on one device, and this run has "
            f"{ranks.world_size()}: find the batch on one of them, then set batch_size to its multiple"
        )


def settle_batch(
    recipe: Recipe, model: NeuralSparseEncoder, idf: IdfWeights, data: TrainingSet, resumed: bool
) -> Recipe:
    """The recipe with the batch_size that fits; a resumed run keeps the one it began with.

    The batch found is written into the run's training_config.json. Weights and random state stay as they are.

    Raises:
        InputError: not even one query fits.
    """
    config = Path(recipe.output) / CONFIG_FILE
    if resumed:
        return replace(recipe, batch_size=read_json(config)["batch_size"])
    found = replace(recipe, batch_size=largest_batch(recipe, model, idf, data))
    write_json(config, recipe_to_dict(found))
    return found


def largest_batch(
    recipe: Recipe, model: NeuralSparseEncoder, idf: IdfWeights, data: TrainingSet, budget: int | None = None
) -> int:
    """Queries per batch that train within the memory of the model's device, by steps on the longest documents.

    Args:
        budget: bytes that may be used, with what the process or the device holds already; all but `HEADROOM` of
            what there is if None.

    Raises:
        InputError: not even one query fits.
    """
    trial = TrialSteps(recipe, model, idf, data)
    most = min(MOST, len(data))
    with _random_state_unmoved():
        if model.device.type == "cuda":
            found = largest_fitting(lambda batch: _fits_cuda(trial, batch, budget), most)
        else:
            if budget is None:
                budget = int((1 - HEADROOM) * (available_memory() + resident_memory()))
            found = predict(_peaks(trial, budget, most), budget, most)
    if not found:
        raise InputError(
            "auto_batch: not even one query with its documents fits into memory. Make max_length or "
            "num_hard_negatives smaller, set gradient_checkpointing=true, or leave out auto_batch and set cache_tokens"
        )
    logger.info(
        "auto_batch: batch_size=%d (%s)",
        found,
        "the most that is tried" if found == most else model.device.type,
    )
    return found


def largest_fitting(fits: Callable[[int], bool], most: int) -> int:
    """The largest number up to `most` that fits, to within an eighth; 0 if 1 does not.

    Doubles until one does not fit, then halves what is between: the large trials, which take longest, are few.
    """
    fitting, size = 0, 1
    while fits(size):
        fitting = size
        if size == most:
            return most
        size = min(2 * size, most)
    while size - fitting > max(1, fitting // 8):
        middle = (fitting + size) // 2
        if fits(middle):
            fitting = middle
        else:
            size = middle
    return fitting


def predict(peaks: list[tuple[int, int]], budget: int, most: int) -> int:
    """The largest batch whose peak stays within `budget` bytes, from (batch, peak) of smaller ones, ascending.

    Memory grows in proportion to the batch; the steepest growth between two trials is taken for all.
    """
    last, peak = peaks[-1]
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(peaks)]
    steepest = max(slopes, default=peak / last)
    if steepest <= 0:  # too little to be seen beside what the process has anyhow
        return most if peak <= budget else 0
    return max(0, min(most, int(last + (budget - peak) / steepest)))


class TrialSteps:
    """Real training steps on a copy of the model, whose documents are the longest of the data.

    Args:
        recipe, model, idf, data: of the run.
    """

    def __init__(
        self, recipe: Recipe, model: NeuralSparseEncoder, idf: IdfWeights, data: TrainingSet
    ) -> None:
        self.recipe = recipe
        self.model = model
        self.idf = idf
        rows = np.unique(np.linspace(0, len(data.documents) - 1, SAMPLE).astype(np.int64))
        texts = [data.documents[row] for row in rows]
        lengths = tokenize(texts, model.tokenizer, model.max_length, special_tokens=True).lengths
        self.documents = [texts[row] for row in np.argsort(-lengths, kind="stable")[:LONGEST]]
        queries = [data.queries[row] for row in range(min(SAMPLE, len(data)))]
        self.queries = sorted(queries, key=len, reverse=True)[:LONGEST]

    def run(self, batch: int) -> None:
        """Train `STEPS` steps with so many queries; what they need is released again.

        Raises:
            torch.OutOfMemoryError: it does not fit.
        """
        with tempfile.TemporaryDirectory() as folder:
            recipe = replace(
                self.recipe,
                output=folder,
                batch_size=batch,
                num_steps=STEPS,
                gradient_accumulation_steps=1,
                warmup_steps=0,
                report_to=(),
                dev=None,
                eval_steps=None,
                early_stopping=None,
                target_flops=None,
                target_p99={},
                max_seconds=None,
                save_steps=None,
            )
            model = copy.deepcopy(self.model)
            if recipe.compile:
                for mlm in model.masked_lms:
                    mlm.compile(dynamic=True)
            teachers = _AnyScores() if recipe.teachers else None
            terms = _no_terms(model.vocab_size) if recipe.term_targets else None
            trainer = build_trainer(
                recipe,
                model,
                idf=self.idf,
                data=self._data(batch),
                teachers=teachers,  # type: ignore[arg-type]
                evaluator=None,
                terms=terms,
            )
            trainer.remove_callback(ProgressBar)
            trainer.args.save_strategy = "no"  # type: ignore[assignment]
            trainer.train()

    def _data(self, batch: int) -> TrainingSet:
        """As many examples, no two of which share a document (texts may repeat)."""
        width = 1 + self.recipe.num_hard_negatives
        rows = np.arange(batch * width, dtype=np.int64).reshape(batch, width)
        return TrainingSet(
            [self.queries[row % len(self.queries)] for row in range(batch)],
            [self.documents[row % len(self.documents)] for row in range(batch * width)],
            positives=rows[:, 0],
            negatives=list(rows[:, 1:]),
            relevant=[frozenset([int(row)]) for row in rows[:, 0]],
        )


def _no_terms(vocab_size: int) -> TermTargets:
    """Targets without a term: the memory is that of the documents' vectors."""
    return lambda rows: sp.csr_matrix(
        ([], [], np.zeros(len(rows) + 1, np.int64)), shape=(len(rows), vocab_size)
    )


class _AnyScores:
    """A teacher whose scores mean nothing: a trial asks for memory, not for learning."""

    def scores(self, query_rows: ArrayLike, doc_rows: ArrayLike, own: ArrayLike) -> tuple[Tensor, Tensor]:
        shape = np.asarray(own).shape
        return torch.rand(shape), torch.ones(shape, dtype=torch.bool)


def _fits_cuda(trial: TrialSteps, batch: int, budget: int | None) -> bool:
    device = trial.model.device
    _release()
    torch.cuda.reset_peak_memory_stats(device)
    if budget is None:
        # What is free, with what this process holds of it; what others hold is theirs.
        free, _ = torch.cuda.mem_get_info(device)
        budget = int((1 - HEADROOM) * (torch.cuda.memory_allocated(device) + free))
    fits = True
    try:
        trial.run(batch)
    except torch.OutOfMemoryError:
        fits = False
    # Outside the handler, for the exception holds the frames that hold the tensors.
    peak = torch.cuda.max_memory_allocated(device)
    _release()
    return fits and peak <= budget


def _peaks(trial: TrialSteps, budget: int, most: int) -> list[tuple[int, int]]:
    """(batch, peak bytes) of batches that double until twice the last is expected to be too large."""
    size = min(CPU_START, most)
    peaks = [(size, _peak_of(trial, size))]
    while size < most:
        size = min(2 * size, most)
        if len(peaks) > 1 and predict(peaks, budget, most) < size:
            break
        peaks.append((size, _peak_of(trial, size)))
    return peaks


def _peak_of(trial: TrialSteps, batch: int) -> int:
    _release()
    reset_peak_memory()
    trial.run(batch)
    return peak_memory()


def _release() -> None:
    gc.collect()
    release_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def _random_state_unmoved() -> Iterator[None]:
    devices = list(range(torch.cuda.device_count()))
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - of the libraries below
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
