"""How long the work will take on this machine, from samples of it, before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neural_sparse.config import Recipe
from neural_sparse.data.training_set import TrainingSet
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.model.precision import wanted_bf16
from neural_sparse.planning.measure import encoding_speed, training_speed
from neural_sparse.planning.table import duration
from neural_sparse.teachers.ensemble import EnsembleTeacher
from neural_sparse.teachers.teach import needs_of
from neural_sparse.text.tokens import tokenize

SAMPLE_SECONDS = 1.5  # of each sample, the first pass left out, which compiles and allocates
SAMPLE = 512  # documents that lengths are taken from
SEARCHES = 20.0  # seconds of indexes, measures and timing of queries, on a collection of thousands


@dataclass(frozen=True)
class Estimate:
    """Seconds that the long stages will take.

    Attributes:
        once: encoding all documents a single time, which is part of `evaluating`.
    """

    teachers: float
    training: float
    evaluating: float
    once: float = 0.0

    @property
    def total(self) -> float:
        return self.teachers + self.training + self.evaluating

    def __str__(self) -> str:
        parts = ", ".join(
            f"{name} {duration(seconds)}"
            for name, seconds in (
                ("teachers", self.teachers),
                ("training", self.training),
                ("evaluating", self.evaluating),
            )
        )
        return f"about {duration(self.total)} on this machine: {parts}"


def estimate(
    recipe: Recipe,
    start: NeuralSparseEncoder,
    ensemble: EnsembleTeacher,
    queries: Sequence[str],
    training: TrainingSet,
    documents: Sequence[str],
    encodings: int = 1,
    seconds: float = SAMPLE_SECONDS,
) -> Estimate:
    """Time a little of each long stage here and now: other work on the machine counts.

    Teachers' texts are encoded as they will be, missing ones alone; a step of training is one of the recipe's shape,
    of fewer documents; documents are encoded for the evaluation at `encode_max_length`.

    Args:
        start: the model that is trained, with query weights; it stays as it is.
        queries: all that teachers encode.
        training: what is trained on.
        documents: what candidates are judged on; teachers encode all of it.
        encodings: how often it is encoded besides, by start and student.
        seconds: of each sample.
    """
    rng = np.random.default_rng(0)
    needs = needs_of(
        ensemble.teachers,
        queries,
        documents=list(dict.fromkeys([*training.documents, *documents])),
        pairs=np.empty((0, 2), np.int64),
        cache=ensemble.cache,
        seconds=seconds,
    )
    sample = _sample(training.documents, rng)
    speed, *_ = training_speed(
        recipe, start, documents=sample, queries=training.queries[:SAMPLE], seconds=seconds
    )
    per_step = recipe.batch_size * (1 + recipe.num_hard_negatives) * recipe.gradient_accumulation_steps
    trained = recipe.num_steps * per_step * _tokens(sample, start, recipe.max_length) / speed
    speed = encoding_speed(start, sample, seconds, wanted_bf16(recipe.bf16, start.device))
    once = len(documents) * _tokens(_sample(documents, rng), start, start.max_length) / speed
    return Estimate(sum(need.seconds for need in needs), trained, SEARCHES + encodings * once, once=once)


def _sample(texts: Sequence[str], rng: np.random.Generator) -> list[str]:
    return [texts[row] for row in rng.permutation(len(texts))[:SAMPLE].tolist()]


def _tokens(texts: list[str], model: NeuralSparseEncoder, limit: int) -> float:
    """Of a text, on average."""
    return float(tokenize(texts, model.tokenizer, limit, special_tokens=True).lengths.mean())
