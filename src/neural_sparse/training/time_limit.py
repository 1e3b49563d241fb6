"""A schedule that ends within a time: shortened where steps take longer than was planned."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from neural_sparse.io.files import read_json, write_json
from neural_sparse.training.cost_target import CostTarget
from neural_sparse.work import ranks

logger = logging.getLogger(__name__)

FILE = "time_limit.json"  # in a run's folder
LOOKS = 20  # at the time, during a run
LATE = 1.02  # times the limit, from which on a run is too late
FIRST = 3  # steps of a process before its speed is known


class TimeLimit(TrainerCallback):
    """Ends the learning rate's way down, and the run, at a step that is reached in time.

    Every twentieth of the run the time of the steps left is told by that of the steps so far. A run that would be late
    gets a new last step, and the learning rate goes to 0 there, from where it is. What was decided at which step is
    written to the run's folder, so that a run that resumes goes the same way.

    Args:
        seconds: of training, that of earlier processes counted up to the checkpoint gone on from.
        num_steps: planned. folder: of the run.
        cost: whose control has to know how many steps are left.
        clock: seconds.
    """

    def __init__(
        self,
        seconds: float,
        num_steps: int,
        folder: Path,
        cost: CostTarget | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds, self.num_steps, self.file = seconds, num_steps, folder / FILE
        self.cost, self.clock = cost, clock
        self.every = max(1, num_steps // LOOKS)
        self.ends: dict[int, int] = {}  # step of the decision -> last step
        self.last = num_steps
        self.elapsed: dict[int, float] = {}  # at checkpoints
        self._before = self._began = self._known = 0.0
        self._steps = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._began, self._steps = self.clock(), 0
        if not state.global_step:
            return
        if self.file.is_file():
            kept = read_json(self.file)
            self.ends = {int(step): last for step, last in kept["ends"].items()}
            self.elapsed = {int(step): seconds for step, seconds in kept["elapsed"].items()}
        self._before = self.elapsed.get(state.global_step, 0.0)
        for step in sorted(self.ends):
            if step <= state.global_step:
                self._end_at(self.ends[step], step, kwargs["lr_scheduler"])

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        step = state.global_step
        self._steps += 1
        if self._steps == 1:
            self._known = self.clock()  # the first one compiles and allocates
        if step in self.ends:
            self._end_at(self.ends[step], step, kwargs["lr_scheduler"])
        elif step % self.every == 0 and self._steps > FIRST and step > max(self.ends, default=0):
            self._look(step, kwargs["lr_scheduler"])
        if step >= self.last:
            control.should_training_stop = control.should_save = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.elapsed[state.global_step] = self.spent
        self._keep()

    @property
    def spent(self) -> float:
        """Seconds of training so far."""
        return self._before + self.clock() - self._began

    def _look(self, step: int, scheduler: Any) -> None:
        each = (self.clock() - self._known) / (self._steps - 1)
        last = self.last
        if self.spent + each * (last - step) > LATE * self.seconds:
            last = min(last, step + max(1, int((self.seconds - self.spent) / max(each, 1e-9))))
        last = ranks.from_first_rank(last)
        if last >= self.last:
            return
        logger.warning(
            "a step takes %.2f s: %d of %d steps fit into the time, and the learning rate ends there",
            each,
            last,
            self.num_steps,
        )
        self.ends[step] = last
        self._keep()
        self._end_at(last, step, scheduler)

    def _end_at(self, last: int, step: int, scheduler: Any) -> None:
        self.last = last
        inner = getattr(scheduler, "scheduler", scheduler)
        inner.lr_lambdas = [shortened(before, step, last) for before in inner.lr_lambdas]
        if self.cost is not None:
            self.cost.control.steps = max(1, last - self.cost.loss.ramp_steps)

    def _keep(self) -> None:
        if not ranks.rank():
            ends = {str(step): last for step, last in self.ends.items()}
            write_json(
                self.file, {"ends": ends, "elapsed": {str(step): one for step, one in self.elapsed.items()}}
            )


def shortened(before: Callable[[int], float], step: int, last: int) -> Callable[[int], float]:
    """A factor of the learning rate that is as before up to `step`, and from there goes straight to 0 at `last`.

    >>> factor = shortened(lambda at: 1 - at / 100, 40, 60)
    >>> [round(factor(at), 2) for at in (20, 40, 50, 60)]
    [0.8, 0.6, 0.3, 0.0]
    """
    there = before(step)

    def factor(at: int) -> float:
        return before(at) if at <= step else there * max(0.0, (last - at) / max(1, last - step))

    return factor
