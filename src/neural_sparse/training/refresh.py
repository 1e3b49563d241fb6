"""Hard negatives of a training run: mined before it and, if asked, again with the student as it is by then.

Each set is written into the run's folder before it is used, so a run that is resumed trains on the very same
negatives, whatever it was killed at.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from neural_sparse.config import Recipe
from neural_sparse.data.training_set import TrainingSet
from neural_sparse.distributed import ranks
from neural_sparse.errors import InputError
from neural_sparse.mining import Mined, Miner, MiningOptions, Sources, student_source
from neural_sparse.mining.miner import data_digest
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.model.precision import wanted_bf16
from neural_sparse.parts import Parts
from neural_sparse.teachers.build import TeacherBuilder
from neural_sparse.teachers.cache import TeacherCache
from neural_sparse.training.batches import Example, Schedule
from neural_sparse.training.trainer import NeuralSparseTrainer

logger = logging.getLogger(__name__)

FOLDER = "negatives"  # in the run's folder
_LAG = 1  # steps: the next batch is made while negatives are mined


class RunNegatives:
    """The negatives of a run, numbered: 0 from its start, n after n * refresh_negatives_steps.

    Args:
        recipe: whose keys decide what is mined.
        data: examples; negatives they bring are used until the first refresh.
        model: the student; without it only what other sources find can be mined.
    """

    def __init__(self, recipe: Recipe, data: TrainingSet, model: NeuralSparseEncoder | None = None) -> None:
        self.recipe = recipe
        self.data = data
        self.model = model
        self.every = recipe.refresh_negatives_steps
        self._given = data.has_negatives
        self._sources: Sources | None = None
        self.rows = lru_cache(2)(self._rows)

    def start(self) -> TrainingSet:
        """The data with the negatives of the first step."""
        if not self.recipe.num_hard_negatives or (self._given and self.every is None):
            return self.data
        self.make(0)
        return replace(self.data, negatives=self.rows(0))

    def in_force(self, step: int) -> int:
        """Number of the negatives that step `step` (from 0) trains on."""
        return 0 if self.every is None else max(0, step - _LAG) // self.every

    def make(self, number: int) -> None:
        """Mine negatives, unless they are there already."""
        if number == 0 and self._given:
            return
        with ranks.first_rank_first():  # the others find the file
            parts = self._parts()
            if number in parts.missing():
                with _dropout_unmoved(), parts.write(number) as temporary:
                    self.mine(number).save(temporary)

    def _rows(self, number: int) -> Sequence[NDArray[np.int64]]:
        if number == 0 and self._given:
            return self.data.negatives
        return Mined.load(self._parts().file(number)).rows()

    def _parts(self) -> Parts:
        recipe = self.recipe
        settings = {
            "data": self._digest,
            "negatives": list(recipe.negatives),
            "negatives_pool": recipe.negatives_pool,
            "absolute_margin": recipe.negatives_absolute_margin,
            "relative_margin": recipe.negatives_relative_margin,
            "refresh_negatives_steps": self.every,
        }
        count = 1 if self.every is None else -(-recipe.num_steps // self.every)
        return Parts(Path(recipe.output) / FOLDER, settings, count, "safetensors")

    @property
    def _digest(self) -> str:
        if not hasattr(self, "_known_digest"):
            self._known_digest = data_digest(self.data)
        return self._known_digest

    def mine(self, number: int) -> Mined:
        """Negatives of this moment; `make` keeps them.

        Raises:
            InputError: the student is among the sources and there is none.
        """
        recipe = self.recipe
        if self._sources is None:
            cache = TeacherCache(recipe.teacher_cache)
            self._sources = Sources(self.data, cache, TeacherBuilder.of(recipe))
        named = [self._sources.source(text) for text in recipe.negatives if text != "student"]
        if number or "student" in recipe.negatives:
            if self.model is None:
                raise InputError("negatives that the student finds are mined when training starts")
            bf16 = wanted_bf16(recipe.bf16, self.model.device)
            named.append(student_source(self.model, self.data, {"number": number}, bf16))
        margins = recipe.negatives_absolute_margin, recipe.negatives_relative_margin
        compares = any(margin is not None for margin in margins) and recipe.margin_teacher
        options = MiningOptions(
            num_negatives=recipe.negatives_pool,
            last_rank=2 * recipe.negatives_pool,  # room for what the filters drop
            sample=False,
            absolute_margin=margins[0],
            relative_margin=margins[1],
        )
        teacher = self._sources.source(compares) if compares else None
        miner = Miner(self.data, named, options, teacher)
        mined = Mined.join([miner.mine(block) for block in range(miner.blocks)])
        counts = mined.counts
        logger.info(
            "mined %.1f hard negatives per query from %s; %d of %d queries have fewer than %d",
            counts["kept"] / counts["queries"],
            ", ".join(source.name for source in named),
            counts["fewer"],
            counts["queries"],
            recipe.negatives_pool,
        )
        return mined


def refresh_during(
    trainer: NeuralSparseTrainer,
    negatives: RunNegatives,
    prepare: Callable[[Sequence[TrainingSet]], Any] | None,
) -> None:
    """Let a trainer use and refresh a run's negatives; `prepare` as in `RefreshNegatives`."""
    recipe = negatives.recipe
    per_step = recipe.batch_size * recipe.gradient_accumulation_steps
    trainer.schedule = RefreshedSchedule(trainer.schedule, negatives, per_step)  # type: ignore[assignment]
    trainer.add_callback(RefreshNegatives(negatives, trainer, prepare))


class RefreshedSchedule(Dataset[Example]):
    """A schedule whose hard negatives are those in force at each position's step.

    Args:
        per_step: examples per optimiser step.
    """

    def __init__(self, schedule: Schedule, negatives: RunNegatives, per_step: int) -> None:
        self._schedule = schedule
        self._negatives = negatives
        self._per_step = per_step
        self._number: int | None = None

    def __len__(self) -> int:
        return len(self._schedule)

    def __getitem__(self, position: int) -> Example:
        number = self._negatives.in_force(position // self._per_step)
        if number != self._number:
            self._schedule.data = replace(self._schedule.data, negatives=self._negatives.rows(number))
            self._number = number
        return self._schedule[position]


class RefreshNegatives(TrainerCallback):
    """Mines anew every so many optimiser steps.

    Args:
        negatives: of the run.
        trainer: makes batches ahead, up to the first step whose negatives are not there yet; its collator's teachers
            are prepared again where they score single pairs.
        prepare: teachers that know the pairs of these data sets; None where they know every pair.
    """

    def __init__(
        self,
        negatives: RunNegatives,
        trainer: NeuralSparseTrainer,
        prepare: Callable[[Sequence[TrainingSet]], Any] | None,
    ) -> None:
        self._negatives = negatives
        self._trainer = trainer
        self._prepare = prepare

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step:
            self._teach(state.global_step)
        self._read(state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        every = self._negatives.every
        if every and state.global_step % every == 0 and state.global_step < state.max_steps:
            self._trainer.look()  # a student that has diverged finds nothing
            self._negatives.make(state.global_step // every)
            self._teach(state.global_step)
            self._read(state.global_step)

    def _read(self, step: int) -> None:
        """Let the batches be made whose negatives are there at this step."""
        every = self._negatives.every
        if every:
            number = step // every
            # Here, and not in the thread that makes batches: opening the folder of negatives tidies it.
            self._negatives.rows(number)
            self._trainer.read_until((number + 1) * every + _LAG)

    def _teach(self, step: int) -> None:
        """Let the teachers know the pairs of this step and of the next."""
        if self._prepare is not None:
            numbers = sorted({self._negatives.in_force(step), self._negatives.in_force(step + _LAG)})
            sets = [
                replace(self._negatives.data, negatives=self._negatives.rows(number)) for number in numbers
            ]
            with ranks.first_rank_first(), _dropout_unmoved():
                self._trainer.collator.teachers = self._prepare(sets)


@contextmanager
def _dropout_unmoved() -> Iterator[None]:
    """Leave the random state as it was: loading models draws from it, and a resumed run loads fewer."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        yield
