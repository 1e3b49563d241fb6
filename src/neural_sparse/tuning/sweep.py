"""Run a sweep: train each run that is not finished, judge it, keep the table."""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from neural_sparse.config import Recipe
from neural_sparse.distributed import ranks
from neural_sparse.errors import InputError
from neural_sparse.files import read_json, write_json
from neural_sparse.training.dev import MEASURE
from neural_sparse.training.run_folder import CONFIG_FILE, changes, finished_model
from neural_sparse.training.train import train
from neural_sparse.tuning.choice import WITHIN, Point, pareto_front, recommendation
from neural_sparse.tuning.grid import Grid, Run
from neural_sparse.tuning.judging import FILE as JUDGED_FILE
from neural_sparse.tuning.judging import Judge
from neural_sparse.tuning.shared import Shared

logger = logging.getLogger(__name__)

FILE = "sweep.json"
WAITING, FINISHED, FAILED = "waiting", "finished", "failed"
# What a run may fail of and the next one not: a collapse, a batch that is too large.
FAILURES = (InputError, torch.OutOfMemoryError, MemoryError)


@dataclass
class Outcome:
    """What came of a run.

    Attributes:
        run: which.
        status: "waiting", "finished" or "failed".
        figures: nDCG@10, FLOPS, doc_terms.
        seconds: of training, since its last checkpoint where it was interrupted.
        reason: why it failed.
    """

    run: Run
    status: str = WAITING
    figures: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None
    reason: str | None = None

    @property
    def point(self) -> Point:
        return Point(self.run.label, self.figures[MEASURE], self.figures["FLOPS"])

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.run.name,
            "values": dict(self.run.values),
            "status": self.status,
            **self.figures,
            "seconds": self.seconds,
            "reason": self.reason,
        }


@dataclass
class SweepResult:
    """
    Attributes:
        grid: keys and runs.
        collection: name of what was judged on.
        source: where it is from.
        bm25: figures of BM25 there.
        outcomes: one per run, in the order of the grid.
        within: nDCG@10 that a cheaper run may lose.
    """

    grid: Grid
    collection: str
    source: dict[str, Any]
    bm25: dict[str, float]
    outcomes: list[Outcome]
    within: float = WITHIN

    @property
    def points(self) -> list[Point]:
        return [one.point for one in self.outcomes if one.status == FINISHED]

    @property
    def front(self) -> list[Point]:
        return pareto_front(self.points)

    @property
    def recommendation(self) -> str:
        failed = sum(one.status == FAILED for one in self.outcomes)
        return recommendation(self.points, self.within, failed, self.bm25[MEASURE])

    def to_dict(self) -> dict[str, Any]:
        return {
            "keys": list(self.grid.keys),
            "collection": {"name": self.collection, **self.source},
            "BM25": self.bm25,
            "runs": [one.to_dict() for one in self.outcomes],
            "front": [point.name for point in self.front],
            "within": self.within,
            "recommendation": self.recommendation,
        }


def sweep(
    grid: Grid,
    judge: Judge,
    *,
    within: float = WITHIN,
    overwrite: bool = False,
    say: Callable[[str], None] = logger.info,
    shared: Shared | None = None,
) -> SweepResult:
    """Train and judge every run of a grid; finished ones are not trained again, interrupted ones go on.

    `grid.output`/sweep.json is written after every run. A run that fails is recorded with its reason, and
    tried again, from its last checkpoint, when the sweep is repeated.

    Args:
        grid: the runs, from `read_grid`.
        judge: what they are judged on.
        within: nDCG@10 that a cheaper run may lose and still be recommended.
        overwrite: train all anew.
        say: told what is going on, a line at a time.
        shared: what runs have in common; made here if None.

    Raises:
        InputError: a folder holds a run of another recipe (before anything is trained); several processes.
    """
    if ranks.world_size() > 1 or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(
            "a sweep is one process; start its runs one by one with torchrun and `train` instead"
        )
    if not overwrite:
        _check_folders(grid.runs)
    shared = shared or Shared(grid.output / "shared")
    outcomes = [Outcome(run) for run in grid.runs]
    result = SweepResult(grid, judge.name, judge.source, judge.bm25(grid.output), outcomes, within)
    clock = _Clock(grid.runs if overwrite else [run for run in grid.runs if not finished_model(run.recipe)])
    for number, one in enumerate(outcomes, 1):
        say(f"[{number}/{len(outcomes)}] {one.run.name}{clock.left()}")
        started = time.perf_counter()
        _run(one, judge, shared, overwrite)
        clock.done(one.run, time.perf_counter() - started)
        write_json(grid.output / FILE, result.to_dict())
        say(f"  {describe(one)}")
    return result


def describe(one: Outcome) -> str:
    """A finished or failed run in a line."""
    if one.status == FAILED:
        return f"failed: {one.reason}"
    relevance, cost, terms = (one.figures[key] for key in (MEASURE, "FLOPS", "doc_terms"))
    return f"{MEASURE} {relevance:.3f}, FLOPS {cost:.3g}, {terms:.0f} terms per document"


def _run(one: Outcome, judge: Judge, shared: Shared, overwrite: bool) -> None:
    recipe = one.run.recipe
    try:
        model = None if overwrite else finished_model(recipe)
        if model is None:
            (Path(recipe.output) / JUDGED_FILE).unlink(missing_ok=True)
            model = _train(recipe, shared, overwrite)
        one.seconds = read_json(model.parent / "metrics.json")["seconds"]
        one.figures = judge.model(model)
        one.status = FINISHED
    except FAILURES as error:
        one.status = FAILED
        one.reason = str(error) if isinstance(error, InputError) else f"out of memory ({error})"
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


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


def _check_folders(runs: Sequence[Run]) -> None:
    for run in runs:
        folder = Path(run.recipe.output)
        if (folder / CONFIG_FILE).is_file() and (changed := changes(run.recipe)):
            raise InputError(
                f"{folder} holds a run of another recipe ({changed}); choose another output=, or overwrite the sweep"
            )


class _Clock:
    """Time left, from the steps of the runs that are still to be trained."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._left = {run.name: run.recipe.num_steps for run in runs}
        self._steps = 0
        self._seconds = 0.0

    def left(self) -> str:
        if not self._steps or not self._left:
            return ""
        minutes = sum(self._left.values()) * self._seconds / self._steps / 60
        return f" (about {minutes:.0f} min left)" if minutes >= 1 else " (less than a minute left)"

    def done(self, run: Run, seconds: float) -> None:
        if steps := self._left.pop(run.name, 0):
            self._steps += steps
            self._seconds += seconds
