"""Batches whose documents are looked at in a sample of the vocabulary, the same for all batches of a step."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from neural_sparse.losses.vocabulary_sample import VocabularySample, VocabularySampler
from neural_sparse.text.tokens import tokenize
from neural_sparse.training.batches import Collator, Example

Placed = tuple[int, Example]  # position in the run's order of examples


class PlacedExamples(Dataset[Placed]):
    """Examples with their positions, from which a collator knows the step."""

    def __init__(self, examples: Dataset[Example]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)  # type: ignore[arg-type]

    def __getitem__(self, position: int) -> Placed:
        return position, self.examples[position]


class SamplingCollator:
    """A collator whose batches have a sample of the vocabulary, which holds all tokens of their step's queries.

    The sample follows from the positions alone: a run that is resumed has the same, and so has every rank. The batches
    of a step share one, for FLOPS is the square of a mean over all of them.

    Args:
        collator: makes the batches.
        sampler: draws the samples.
        examples: of the whole run, in the order of use.
        per_step: examples per optimiser step.
    """

    def __init__(
        self, collator: Collator, sampler: VocabularySampler, examples: Dataset[Example], per_step: int
    ) -> None:
        self.collator = collator
        self.sampler = sampler
        self.examples = examples
        self.per_step = per_step
        self.sample_of = functools.lru_cache(2)(self._sample_of)

    def __call__(self, placed: Sequence[Placed]) -> dict[str, Any]:
        (step,) = {position // self.per_step for position, _ in placed}
        return self.collator([example for _, example in placed], self.sample_of(step))

    def _sample_of(self, step: int) -> VocabularySample:
        positions = range(step * self.per_step, (step + 1) * self.per_step)
        queries = [self.collator.data.queries[self.examples[position][0]] for position in positions]
        return self.sampler.sample(step, np.unique(tokenize(queries, self.collator.tokenizer).ids))
