"""lambda controlled during a run, so that its documents end at a target of evaluation FLOPS."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from neural_sparse.evaluation.cost import term_share
from neural_sparse.io.files import read_json, write_json
from neural_sparse.losses.idf_aware import IDFAwareLoss
from neural_sparse.losses.vocabulary_sample import VocabularySample
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.model.precision import in_float32
from neural_sparse.work import ranks

FILE = "cost_target.json"  # in a checkpoint
QUERY_SAMPLE = 20_000
SMOOTHING = 0.1  # of the running estimate, per step
RATIO_EVERY = 10  # steps between looks at the same documents without dropout
ARRIVAL = 0.5  # share of the steps after the ramp in which the cost is led to the target
PROPORTIONAL = 3.0  # log lambda per log of the cost's error
INTEGRAL = 15.0  # the same, for an error that lasts as long as all steps after the ramp
LARGEST_CHANGE = math.log(1000.0)  # of lambda, either way


@dataclass(eq=False)
class LambdaControl:
    """Proportional-integral control of log lambda.

    The cost is led from what it is when control begins to the target, in equal ratios per step, and then held
    there. FLOPS answers to lambda only slowly, and a controller that wanted the target at once would overshoot.

    All that is measured stays on the device, as float64 scalars, so that control waits for no step.

    Attributes:
        target: evaluation FLOPS.
        steps: optimiser steps that are controlled.
        start: FLOPS when control began; None before.
        done: steps controlled so far.
        integral: summed log errors, in units of log lambda.
    """

    target: float
    steps: int
    start: Tensor | None = None
    done: int = 0
    integral: Tensor | float = 0.0

    def wanted(self) -> Tensor | float:
        """FLOPS that the next step should have."""
        if self.start is None:
            return self.target
        way = min(1.0, self.done / max(1.0, ARRIVAL * self.steps))
        return self.start ** (1 - way) * self.target**way

    def update(self, flops: Tensor) -> Tensor:
        """What lambda is multiplied with from now on, given the cost now; float64 scalars."""
        flops = flops.clamp(min=1e-3 * self.target)  # empty documents have no logarithm
        if self.start is None:
            self.start = flops
        self.done += 1
        error = (flops / self.wanted()).log()
        integral = self.integral + INTEGRAL / self.steps * error
        change = PROPORTIONAL * error + integral
        moves = (change.abs() <= LARGEST_CHANGE) | (change * error < 0)  # at a bound, the integral waits
        self.integral = torch.where(moves, _bounded(integral), self.integral)
        return _bounded(change).exp()


def _bounded(change: Tensor) -> Tensor:
    return change.clamp(-LARGEST_CHANGE, LARGEST_CHANGE)


def query_share(queries: Sequence[str], model: NeuralSparseEncoder) -> Tensor:
    """P(q_t > 0) [vocabulary] over training queries, a sample of them where there are many."""
    size = min(QUERY_SAMPLE, len(queries))
    rows = np.random.default_rng(0).choice(len(queries), size, replace=False)
    share = term_share(model.encode_queries([queries[row] for row in rows]))
    return torch.from_numpy(share).float()


class CostTarget(TrainerCallback):
    """Estimates evaluation FLOPS, sum_t P(q_t > 0) P(d_t > 0), while a model trains, and controls lambda by it.

    Documents are those of the batches, and with dropout more of their terms are above zero than without; so
    every few steps the same documents are encoded without it, and the running estimate is corrected by
    the ratio.

    Args:
        loss: whose lambda is controlled, from the end of its ramp on.
        query_share: P(q_t > 0) [vocabulary].
        target: FLOPS to reach.
        num_steps: of the whole run.
        query_weights: [vocabulary], as they are trained; what weighs less than `min_query_weight` will be left out.
    """

    def __init__(
        self,
        loss: IDFAwareLoss,
        query_share: Tensor,
        target: float,
        num_steps: int,
        *,
        query_weights: Tensor | None = None,
        min_query_weight: float = 0.0,
    ) -> None:
        self.loss = loss
        self.query_weights, self.min_query_weight = query_weights, min_query_weight
        self.query_share = query_share.to(loss.idf.device, torch.float32)
        # Where float64 is; an accelerator without it is waited for at each step.
        self._device = torch.device("cpu") if loss.idf.device.type == "mps" else loss.idf.device
        self.control = LambdaControl(target, max(1, num_steps - loss.ramp_steps))
        self.with_dropout: Tensor | None = None  # running estimate
        self.ratio = self._scalar(1.0)
        self._seen: Tensor | None = None

    def _scalar(self, value: float) -> Tensor:
        return torch.full((), value, dtype=torch.float64, device=self._device)

    @property
    def estimate(self) -> float | None:
        """FLOPS without dropout; None before the first step. Waits for the device."""
        return None if self.with_dropout is None else float(self.with_dropout * self.ratio)

    def see(
        self,
        documents: Tensor,
        without_dropout: Callable[[], Tensor],
        sample: VocabularySample | None = None,
    ) -> None:
        """Count a micro-batch.

        Args:
            documents: weights [documents, vocabulary] of this rank, or [documents, columns] of a sample.
            without_dropout: gives the same documents' weights in evaluation mode.
            sample: of the vocabulary; FLOPS is then estimated from it, without bias.
        """
        now = self._sums(documents, sample)
        first = self._seen is None
        self._seen = now if self._seen is None else self._seen + now
        if first and self.loss.step % RATIO_EVERY == 0:
            ratio = self._sums(without_dropout(), sample)[0] / now[0].clamp(min=1e-9)
            self.ratio = ratio if self.with_dropout is None else (self.ratio + ratio) / 2

    @in_float32
    def _sums(self, documents: Tensor, sample: VocabularySample | None) -> Tensor:
        """Summed multiplications of an average query with each document, and documents, over all ranks: [2]."""
        with torch.no_grad():
            present = (documents.detach() != 0).to(torch.float32)
            count = present.new_full((), len(present))
            share = self.query_share
            if self.query_weights is not None and self.min_query_weight:
                share = share * (self.query_weights.detach() >= self.min_query_weight)
            if sample is not None:
                share = share[sample.columns] * sample.weights
            return ranks.summed(torch.stack([(present @ share).sum(), count])).to(self._device, torch.float64)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step:
            self.load(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}")

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._seen is None:
            return
        multiplications, documents = self._seen.unbind()
        self._seen = None
        now = multiplications / documents.clamp(min=1.0)
        before = self.with_dropout
        self.with_dropout = now if before is None else before + SMOOTHING * (now - before)
        if self.loss.step >= self.loss.ramp_steps:
            self.loss.lambda_factor = self.control.update(self.with_dropout * self.ratio)

    def figures(self) -> dict[str, float]:
        """For the log."""
        estimate = self.estimate
        if estimate is None:
            return {}
        return {"lambda": float(self.loss.current_lambda), "estimated_flops": estimate}

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        control = self.control
        return {
            "with_dropout": _number(self.with_dropout),
            "ratio": _number(self.ratio),
            "lambda_factor": _number(self.loss.lambda_factor),
            "control": {
                "target": control.target,
                "steps": control.steps,
                "start": _number(control.start),
                "done": control.done,
                "integral": _number(control.integral),
            },
        }

    def save(self, folder: Path) -> None:
        write_json(folder / FILE, self.state())

    def load(self, folder: Path) -> None:
        """Go on as a checkpoint was left.

        Raises:
            InputError: it holds no such state.
        """
        self.restored(folder)

    def restored(self, folder: Path) -> dict[str, Any]:
        """As `load`; returns what the checkpoint held."""
        state = read_json(folder / FILE)
        control = dict(state["control"])
        for part, name in ((state, "with_dropout"), (control, "start")):
            if part[name] is not None:
                part[name] = self._scalar(part[name])
        control["integral"] = self._scalar(control["integral"])
        self.with_dropout, self.ratio = state["with_dropout"], self._scalar(state["ratio"])
        self.loss.lambda_factor = self._scalar(state["lambda_factor"])
        self.control = LambdaControl(**control)
        return state


def _number(value: Tensor | float | None) -> float | None:
    return None if value is None else float(value)
