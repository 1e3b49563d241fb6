"""Batches whose documents are looked at in a sample of the vocabulary, and which tokens that sample always has."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from neural_sparse.losses.vocabulary_sample import VocabularySample, VocabularySampler
from neural_sparse.text.tokens import tokenize
from neural_sparse.training.batches import Collator, Example
from neural_sparse.work import ranks

FILE = "vocabulary_sample.safetensors"  # in a checkpoint
EVERY = 10  # steps between two orders of the vocabulary
LAG = 1  # steps: the next batch is made while the order is
FADING = 0.5  # what of the earlier sums remains at each new order

Placed = tuple[int, Example]  # position in the run's order of examples


class PlacedExamples(Dataset[Placed]):
    """Examples with their positions, from which a collator knows the step."""

    def __init__(self, examples: Dataset[Example]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)  # type: ignore[arg-type]

    def __getitem__(self, position: int) -> Placed:
        return position, self.examples[position]


class RunVocabulary(TrainerCallback):
    """The samples of a run. Those tokens are always there to which documents give the greatest weights.

    FLOPS is a sum of squared mean weights, nearly all of it from a few hundred tokens, and which they are changes while
    a model trains. The means of the tokens that a step looks at are known; every few steps all tokens are put in a new
    order by what is known of them by then, in force from the step after the next on, so that batches can be made ahead.
    What is drawn in a step does not depend on what documents say in it, so that its sums remain without bias.

    Until the first order, and for tokens that no sample has had yet, the order is that of the sampler. State is saved
    with checkpoints: a run that is resumed has the samples it would have had.

    Args:
        sampler: draws the samples.
        until: told up to which step (that one excluded) samples are decided.
    """

    def __init__(
        self,
        sampler: VocabularySampler,
        device: torch.device | str,
        until: Callable[[int], None] = lambda step: None,
    ) -> None:
        self.sampler = sampler
        self.until = until
        size = len(sampler.order)
        self._sums = torch.zeros(2, size, device=device)  # of weights, and documents that were looked at
        self._orders = {0: sampler.order}  # the last two, by number

    def sample(self, step: int, certain: NDArray[np.int64]) -> VocabularySample:
        """That of a step, see `VocabularySampler.sample`."""
        return self.sampler.sample(step, certain, self._orders[max(0, step - LAG) // EVERY])

    def see(self, documents: Tensor, sample: VocabularySample) -> None:
        """Count a micro-batch: weights [documents, columns] of this rank."""
        weights = documents.detach().float().sum(0)
        seen = torch.full_like(weights, len(documents))
        self._sums.index_add_(1, sample.columns, ranks.summed(torch.stack([weights, seen])))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        step = state.global_step
        if step:
            self._load(Path(str(args.output_dir)) / f"checkpoint-{step}" / FILE, step)
        self.until((step // EVERY + 1) * EVERY + LAG)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        step = state.global_step
        if step % EVERY == 0:
            number = step // EVERY
            before = self._orders[number - 1]
            self._orders = {number - 1: before, number: ranks.from_first_rank(self._order())}
            self._sums *= FADING
            self.until(step + EVERY + LAG)

    def _order(self) -> NDArray[np.int64]:
        """Tokens by mean weight; those not seen yet come before those that no document had, by the sampler's order."""
        weights, seen = self._sums.cpu().numpy()
        mean = np.where(seen > 0, weights / np.where(seen > 0, seen, 1), 0)
        prior = np.empty(len(mean), np.int64)
        prior[self.sampler.order] = np.arange(len(mean))
        return np.lexsort((prior, seen > 0, -mean)).astype(np.int64)

    def save(self, folder: Path) -> None:
        orders = {str(number): torch.from_numpy(order) for number, order in self._orders.items()}
        save_file({"sums": self._sums.cpu(), **orders}, folder / FILE)

    def _load(self, file: Path, step: int) -> None:
        if not file.is_file():  # of a run that looked at the whole vocabulary so far
            self._orders = dict.fromkeys((step // EVERY - 1, step // EVERY), self.sampler.order)
            return
        saved = load_file(file)
        self._sums.copy_(saved.pop("sums"))
        self._orders = {int(number): order.numpy() for number, order in saved.items()}


class SamplingCollator:
    """A collator whose batches have a sample of the vocabulary, which holds all tokens of their step's queries.

    The batches of a step share one, for FLOPS is the square of a mean over all of them; so do all ranks.

    Args:
        collator: makes the batches.
        vocabulary: draws the samples.
        examples: of the whole run, in the order of use.
        per_step: examples per optimiser step.
    """

    def __init__(
        self, collator: Collator, vocabulary: RunVocabulary, examples: Dataset[Example], per_step: int
    ) -> None:
        self.collator = collator
        self.vocabulary = vocabulary
        self.examples = examples
        self.per_step = per_step
        self.sample_of = functools.lru_cache(2)(self._sample_of)

    def __call__(self, placed: Sequence[Placed]) -> dict[str, Any]:
        (step,) = {position // self.per_step for position, _ in placed}
        return self.collator([example for _, example in placed], self.sample_of(step))

    def _sample_of(self, step: int) -> VocabularySample:
        positions = range(step * self.per_step, (step + 1) * self.per_step)
        queries = [self.collator.data.queries[self.examples[position][0]] for position in positions]
        return self.vocabulary.sample(step, np.unique(tokenize(queries, self.collator.tokenizer).ids))
