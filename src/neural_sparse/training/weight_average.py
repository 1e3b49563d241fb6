"""A moving average of the weights over training, which becomes the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

FILE = "weight_average.safetensors"  # in a checkpoint


class WeightAverage(TrainerCallback):
    """m = d m + (1 - d) w after each optimiser step, d = min(decay, (1 + step) / (10 + step)).

    The smaller d at the start lets the random first steps be forgotten. The optimiser goes on with the weights
    themselves, which is what a checkpoint's model holds; the average lies beside them.

    Args:
        model: whose trained parameters are averaged.
        decay: at least 0, below 1; 0.999 remembers about the last thousand steps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._weights = {name: one for name, one in model.named_parameters() if one.requires_grad}
        self._mean: dict[str, Tensor] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._mean = {name: one.detach().clone() for name, one in self._weights.items()}
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        if (
            state.global_step and (folder / FILE).is_file()
        ):  # not there: of a run that averaged nothing so far
            self.load(folder)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        decay = min(self.decay, (1 + state.global_step) / (10 + state.global_step))
        with torch.no_grad():
            for name, one in self._weights.items():
                self._mean[name].lerp_(one, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the average as its weights, and its own again afterwards."""
        own = {name: one.detach().clone() for name, one in self._weights.items()}
        self.apply()
        try:
            yield
        finally:
            self._copy(own)

    def apply(self) -> None:
        """Give the model the average, for good."""
        self._copy(self._mean)

    def save(self, folder: Path) -> None:
        save_file({name: one.contiguous() for name, one in self._mean.items()}, folder / FILE)

    def load(self, folder: Path) -> None:
        saved = load_file(folder / FILE)
        for name, one in self._mean.items():
            one.copy_(saved[name])

    def _copy(self, values: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, one in self._weights.items():
                one.copy_(values[name])
