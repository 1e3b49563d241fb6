"""Run a sweep: train each run that is not finished, judge it, keep the table."""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from neural_sparse.config import Recipe
from neural_sparse.errors import InputError
from neural_sparse.io.files import read_json
from neural_sparse.training.dev import MEASURE
from neural_sparse.training.run_folder import CONFIG_FILE, changes, finished_model
from neural_sparse.training.train import train
from neural_sparse.training.trainer import checkpoints
from neural_sparse.tuning.grid import Grid, Trial
from neural_sparse.tuning.judging import FILE as JUDGED_FILE
from neural_sparse.tuning.judging import Judge, Reference
from neural_sparse.tuning.result import FAILED, FINISHED, Outcome, SweepResult
from neural_sparse.tuning.shared import Shared
from neural_sparse.work import ranks

logger = logging.getLogger(__name__)


def sweep(
    grid: Grid,
    judge: Judge,
    *,
    within: float | None = None,
    references: Sequence[Reference] = (),
    overwrite: bool = False,
    say: Callable[[str], None] = logger.info,
    shared: Shared | None = None,
) -> SweepResult:
    """Train and judge every run of a grid; finished ones are not trained again, interrupted ones go on.

    What is known is written to `grid.output` after every run (sweep.json, sweep.csv), and drawn at the end
    (pareto.png). A run that fails is recorded with its reason, and tried again, from its last checkpoint, when
    the sweep is repeated.

    Args:
        grid: the runs, from `read_grid`.
        judge: what they are judged on.
        within: nDCG@10 that a cheaper run may lose and still be recommended; if None, what is not significant.
        references: systems to show beside the runs.
        overwrite: train all anew.
        say: told what is going on, a line at a time.
        shared: what runs have in common; made here if None.

    Raises:
        InputError: a folder holds a run of another recipe (before anything is trained); several processes.
    """
    if not overwrite:
        for run in grid.runs:
            check_folder(run)
    result = SweepResult(
        grid.output,
        grid.keys,
        collection=judge.name,
        sources=judge.sources,
        bm25={},
        outcomes=[],
        references=references,
        within=within,
    )
    result.outcomes = [Outcome(run) for run in grid.runs]
    work = TrialRunner(result, judge, len(grid.runs), overwrite=overwrite, say=say, shared=shared)
    for one in result.outcomes:
        work.do(one)
    result.draw()
    return result


class TrialRunner:
    """Trains and judges runs, one after another, and keeps the table.

    Args:
        result: whose outcomes they are.
        judge: what they are judged on.
        runs: how many there will be.
        overwrite, say, shared: see `sweep`.

    Raises:
        InputError: several processes.
    """

    def __init__(
        self,
        result: SweepResult,
        judge: Judge,
        runs: int,
        *,
        overwrite: bool = False,
        say: Callable[[str], None] = logger.info,
        shared: Shared | None = None,
    ) -> None:
        if ranks.world_size() > 1 or int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise InputError(
                "a sweep is one process; start its runs one by one with torchrun and `train` instead"
            )
        self.result = result
        self.judge = judge
        self.runs = runs
        self.overwrite = overwrite
        self.say = say
        self.shared = shared or Shared(result.output / "shared")
        self._done = 0
        self._trained: list[float] = []  # seconds per step of runs that were trained here
        result.bm25 = judge.bm25(result.output).figures

    def do(self, one: Outcome) -> None:
        """Train and judge a run, or note why it failed; write what is known."""
        recipe = one.run.recipe
        model = None if self.overwrite else finished_model(recipe)
        self._done += 1
        said = ": trained before" if model is not None else self._time_left()
        self.say(f"[{self._done}/{self.runs}] {one.run.name}{said}")
        steps = self._steps_left(recipe)
        started = time.perf_counter()
        try:
            if model is None:
                (Path(recipe.output) / JUDGED_FILE).unlink(missing_ok=True)
                model = _train(recipe, self.shared, self.overwrite)
            one.seconds = read_json(model.parent / "metrics.json")["seconds"]
            judged = self.judge.model(model)
            one.figures, one.per_query = judged.figures, judged.per_query
            one.status = FINISHED
            if steps:
                self._trained.append((time.perf_counter() - started) / steps)
        except Exception as error:  # a long sweep outlives whatever happens to one of its runs
            one.status, one.reason = FAILED, _reason(error)
            if not isinstance(error, InputError):
                logger.exception("%s", one.run.name)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.result.write()
        self.say(f"  {describe(one)}")

    def _steps_left(self, recipe: Recipe) -> int:
        """Optimiser steps until a run is finished."""
        if self.overwrite:
            return recipe.num_steps
        if finished_model(recipe):
            return 0
        saved = checkpoints(recipe.output)
        return (
            recipe.num_steps - int(saved[-1].name.removeprefix("checkpoint-")) if saved else recipe.num_steps
        )

    def _time_left(self) -> str:
        if not self._trained:
            return ""
        # Runs that are not known yet, those of a search, are taken to be as long as the average one.
        waiting = [one.run.recipe for one in self.result.outcomes[self._done - 1 :]]
        steps = sum(map(self._steps_left, waiting))
        steps += steps * (self.runs - self._done + 1 - len(waiting)) // max(1, len(waiting))
        minutes = steps * sum(self._trained) / len(self._trained) / 60
        return f" (about {minutes:.0f} min left)" if minutes >= 1 else " (less than a minute left)"


def describe(one: Outcome) -> str:
    """A finished or failed run in a line."""
    if one.status == FAILED:
        return f"failed: {one.reason}"
    relevance, cost, terms = (one.figures[key] for key in (MEASURE, "FLOPS", "doc_terms"))
    return f"{MEASURE} {relevance:.3f}, FLOPS {cost:.3g}, {terms:.0f} terms per document"


def check_folder(run: Trial) -> None:
    """
    Raises:
        InputError: the run's folder holds one of another recipe.
    """
    folder = Path(run.recipe.output)
    if (folder / CONFIG_FILE).is_file() and (changed := changes(run.recipe)):
        raise InputError(
            f"{folder} holds a run of another recipe ({changed}); choose another output=, or overwrite the sweep"
        )


def _reason(error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return f"out of memory ({error})"
    return f"{type(error).__name__}: {error}"


def _train(recipe: Recipe, shared: Shared, overwrite: bool) -> Path:
    board = "TENSORBOARD_LOGGING_DIR"  # set by a run for itself, unless someone has set it before
    before = os.environ.get(board)
    try:
        return train(
            recipe,
            data=shared.data(recipe),
            teachers=shared.teachers(recipe),
            idf=shared.idf(recipe),
            overwrite=overwrite,
        )
    finally:
        if before is None:
            os.environ.pop(board, None)
        if "wandb" in recipe.report_to:
            import wandb

            wandb.finish()
