"""What a run has left in its folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from neural_sparse.config import Recipe
from neural_sparse.io.files import read_json

INTERRUPTED = "interrupted"  # how the reason begins, of a run that somebody has stopped
CONFIG_FILE = "training_config.json"  # of `training.run_folder`, which imports torch


@dataclass(frozen=True)
class TrainingRun:
    """A finished or stopped run.

    Attributes:
        recipe: every key of its recipe.
        steps: optimiser steps it has done.
        finished: whether it has ended by itself.
        history: logged steps, as `training.run_folder.loss_history`.
        dev: {"step", "ndcg10", "flops", "terms"} of each judgement.
        cut: share of the training documents that are longer than max_length, if it is known.
        idf: the table it was trained with, if it is there.
        stopped: why it ended without a model, if that is known.
    """

    recipe: Mapping[str, Any]
    steps: int
    finished: bool
    history: Sequence[Mapping[str, float]]
    dev: Sequence[Mapping[str, float]] = ()
    cut: float | None = None
    idf: Mapping[str, Any] = field(default_factory=dict)
    stopped: str | None = None

    def values(self, key: str) -> np.ndarray:
        """The logged values of a figure, oldest first, float64."""
        return np.array([row[key] for row in self.history if key in row], np.float64)

    def start(self, key: str) -> float:
        """Mean of the first tenth of the log lines, of three at least; NaN if there is none."""
        values = self.values(key)
        return float(values[: _tenth(values)].mean()) if len(values) else float("nan")

    def end(self, key: str) -> float:
        """As `start`, of the last tenth."""
        values = self.values(key)
        return float(values[-_tenth(values) :].mean()) if len(values) else float("nan")

    @property
    def ramp_steps(self) -> int:
        steps = self.recipe["flops_ramp_steps"]
        return self.recipe["num_steps"] // 3 if steps is None else steps


def _tenth(values: np.ndarray) -> int:
    return max(3, len(values) // 10)


def read_training_run(folder: Path) -> TrainingRun:
    """
    Raises:
        InputError: a file that is no JSON.
    """
    # An older version knew fewer keys.
    defaults = {
        item.name: item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
        for item in dataclasses.fields(Recipe)
    }
    recipe = defaults | read_json(folder / CONFIG_FILE)
    table = folder / "idf.json"
    idf = read_json(table) if table.is_file() else {}
    if (folder / "metrics.json").is_file():
        metrics = read_json(folder / "metrics.json")
        stopped = metrics.get("stopped")
        if stopped is not None or (folder / "final_model").is_dir():
            dev, cut = metrics.get("dev", ()), metrics.get("cut_documents")
            ended = metrics["steps"], stopped is None, metrics["history"]
            return TrainingRun(recipe, *ended, dev=dev, cut=cut, idf=idf, stopped=stopped)
    # These bring torch.
    from neural_sparse.training.run_folder import dev_history, loss_history
    from neural_sparse.training.trainer import checkpoints

    saved = checkpoints(folder)
    if not saved:
        return TrainingRun(recipe, 0, False, (), idf=idf)
    state = read_json(saved[-1] / "trainer_state.json")
    log = state["log_history"]
    return TrainingRun(
        recipe, state["global_step"], finished=False, history=loss_history(log), dev=dev_history(log), idf=idf
    )
