"""Hard negatives of a training run: mined before it and, if asked, again with the student as it is by then.

Each set is written into the run's folder before it is used, so a run that is resumed trains on the very same
negatives, whatever it was killed at.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from neural_sparse.config import Recipe
from neural_sparse.data.training_set import TrainingSet
from neural_sparse.errors import InputError
from neural_sparse.io.parts import Parts
from neural_sparse.mining import Mined, Miner, MiningOptions, Source, Sources, mine_parts, student_source
from neural_sparse.mining.miner import data_digest, rows_digest
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.model.precision import wanted_bf16
from neural_sparse.teachers.builder import TeacherBuilder
from neural_sparse.teachers.cache import TeacherCache
from neural_sparse.training.batches import Example, Schedule
from neural_sparse.training.trainer import NeuralSparseTrainer
from neural_sparse.work import ranks

logger = logging.getLogger(__name__)

FOLDER = "negatives"  # in the run's folder
_LAG = 1  # steps: the next batch is made while negatives are mined


class RunNegatives:
    """The negatives of a run, numbered: 0 from its start, n after n * refresh_negatives_steps.

    Args:
        recipe: whose keys decide what is mined.
        data: examples; those that bring negatives keep them until the first refresh, for the others they are mined.
        model: the student; without it only what other sources find can be mined.
    """

    def __init__(self, recipe: Recipe, data: TrainingSet, model: NeuralSparseEncoder | None = None) -> None:
        self.recipe = recipe
        self.data = data
        self.model = model
        self.every = recipe.refresh_negatives_steps
        self._lacking = data.without_negatives
        self._sources: Sources | None = None
        self.rows = lru_cache(2)(self._rows)

    def start(self) -> TrainingSet:
        """The data with the negatives of the first step."""
        if not self.recipe.num_hard_negatives or (not len(self._lacking) and self.every is None):
            return self.data
        self.make(0)
        return replace(self.data, negatives=self.rows(0))

    def ahead(self) -> TrainingSet:
        """As `start`, for work that comes before the run: nothing is written into its folder.

        What the student finds is known only when training starts, and is left out where it is among the sources.
        """
        if not self.recipe.num_hard_negatives or not len(self._lacking) or "student" in self.recipe.negatives:
            return self.data
        with tempfile.TemporaryDirectory() as folder:
            return self.data.with_negatives(self._lacking, self.mine(0, Path(folder)).rows())

    def in_force(self, step: int) -> int:
        """Number of the negatives that step `step` (from 0) trains on."""
        return 0 if self.every is None else max(0, step - _LAG) // self.every

    def make(self, number: int) -> None:
        """Mine negatives, unless they are there already; what a kill leaves is gone on with."""
        if number == 0 and not len(self._lacking):
            return
        with ranks.first_rank_first():  # the others find the file
            parts = self._parts()
            unfinished = parts.folder / f"mining-{number:06d}"
            if number in parts.missing():
                with _dropout_unmoved():
                    mined = self.mine(number, unfinished)
                with parts.write(number) as temporary:
                    mined.save(temporary)
            if not ranks.rank() and unfinished.exists():
                shutil.rmtree(unfinished)

    def _rows(self, number: int) -> Sequence[NDArray[np.int64]]:
        if number == 0 and not len(self._lacking):
            return self.data.negatives
        found = Mined.load(self._parts().file(number)).rows()
        return found if number else self.data.with_negatives(self._lacking, found).negatives

    def _parts(self) -> Parts:
        recipe = self.recipe
        some = 0 < len(self._lacking) < len(self.data)
        settings = {
            "data": self._digest,
            "negatives": list(recipe.negatives),
            "negatives_pool": recipe.negatives_pool,
            "absolute_margin": recipe.negatives_absolute_margin,
            "relative_margin": recipe.negatives_relative_margin,
            "refresh_negatives_steps": self.every,
            "lacking": rows_digest(self._lacking if some else None),
        }
        count = 1 if self.every is None else -(-recipe.num_steps // self.every)
        return Parts(Path(recipe.output) / FOLDER, settings, count, "safetensors")

    @cached_property
    def _digest(self) -> str:
        return data_digest(self.data)

    def mine(self, number: int, folder: Path) -> Mined:
        """Negatives of this moment, of all examples, or with number 0 of those that bring none; `make` keeps them.

        Args:
            folder: where blocks wait, and the student's vectors. What is there of just this work, to the last bit of
                the student's weights, is not made again; what is there of other work is deleted: a student that
                trained on from a checkpoint may have come out another, as on a GPU.

        Raises:
            InputError: the student is among the sources and there is none.
        """
        miner = self._miner(number, folder)
        settings = miner.settings()
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        blocks = folder / f"blocks-{digest}"
        for other in folder.glob("blocks-*"):
            if other != blocks:
                logger.info(
                    "blocks of negatives in %s are of another student or other work: mining anew", other
                )
                shutil.rmtree(other)
        parts = Parts(blocks, settings, miner.blocks, "safetensors")
        there = miner.blocks - len(parts.missing())
        if there:
            logger.info("going on with mining: %d of %d blocks are there", there, miner.blocks)
        mine_parts(miner, parts)
        mined = Mined.join([Mined.load(file) for file in parts.files()])
        counts = mined.counts
        logger.info(
            "mined %.1f hard negatives per query from %s; %d of %d queries have fewer than %d",
            counts["kept"] / counts["queries"],
            ", ".join(source.name for source in miner.sources),
            counts["fewer"],
            counts["queries"],
            self.recipe.negatives_pool,
        )
        if len(miner) < len(self.data):
            kept = len(self.data) - len(miner)
            logger.info(
                "%d queries keep the negatives that the data bring, for %d they were mined", kept, len(miner)
            )
        return mined

    def _miner(self, number: int, folder: Path) -> Miner:
        recipe = self.recipe
        if self._sources is None:
            cache = TeacherCache(recipe.teacher_cache)
            self._sources = Sources(self.data, cache, TeacherBuilder.of(recipe))
        named: list[Source] = [self._sources.source(text) for text in recipe.negatives if text != "student"]
        if number or "student" in recipe.negatives:
            if self.model is None:
                raise InputError("negatives that the student finds are mined when training starts")
            bf16 = wanted_bf16(recipe.bf16, self.model.device)
            named.append(student_source(self.model, self.data, folder=folder, digest=self._digest, bf16=bf16))
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
        all_of_them = number > 0 or len(self._lacking) == len(self.data)
        return Miner(self.data, named, options, teacher, only=None if all_of_them else self._lacking)


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
