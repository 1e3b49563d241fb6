"""One progress bar for a run: time left, loss components, sparsity."""

from __future__ import annotations

import logging
import time
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

logger = logging.getLogger(__name__)

SHOWN = {"loss": "loss", "ranking": "rank", "flops": "flops", "terms": "terms", "nonzero_terms": "terms/doc"}


class ProgressBar(TrainerCallback):
    """A bar on a terminal; elsewhere, where a run of days may write to a file, a line now and then.

    Args:
        seconds: between two lines.
    """

    def __init__(self, seconds: float = 60.0) -> None:
        self.seconds = seconds
        self.bar: tqdm | None = None
        self._began = self._said = 0.0
        self._first = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            self._began = self._said = time.monotonic()
            self._first = state.global_step
            self.bar = tqdm(
                total=state.max_steps, initial=state.global_step, desc="training", unit="step", disable=None
            )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if self.bar is None or not logs:
            return
        shown = {SHOWN[key]: f"{value:.4g}" for key, value in logs.items() if key in SHOWN}
        if not self.bar.disable:
            self.bar.set_postfix(shown)
        elif shown and time.monotonic() - self._said >= self.seconds:
            self._said = time.monotonic()
            self._say(state, shown)

    def _say(self, state: TrainerState, shown: dict[str, str]) -> None:
        done = max(1, state.global_step - self._first)
        left = (state.max_steps - state.global_step) * (self._said - self._began) / done
        figures = ", ".join(f"{name} {value}" for name, value in shown.items())
        logger.info(
            "step %d of %d, %s left: %s",
            state.global_step,
            state.max_steps,
            tqdm.format_interval(left),
            figures,
        )

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.bar is not None:
            self.bar.close()
