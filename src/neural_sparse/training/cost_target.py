"""lambda controlled during a run, so that its documents end at a target of evaluation FLOPS."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from neural_sparse.distributed import ranks
from neural_sparse.evaluation.cost import term_share
from neural_sparse.files import read_json, write_json
from neural_sparse.losses.idf_aware import IDFAwareLoss
from neural_sparse.losses.precision import in_float32
from neural_sparse.model.encoder import NeuralSparseEncoder

FILE = "cost_target.json"  # in a checkpoint
QUERY_SAMPLE = 20_000
SMOOTHING = 0.1  # of the running estimate, per step
RATIO_EVERY = 10  # steps between looks at the same documents without dropout
ARRIVAL = 0.5  # share of the steps after the ramp in which the cost is led to the target
PROPORTIONAL = 3.0  # log lambda per log of the cost's error
INTEGRAL = 15.0  # the same, for an error that lasts as long as all steps after the ramp
LARGEST_CHANGE = math.log(1000.0)  # of lambda, either way


@dataclass
class LambdaControl:
    """Proportional-integral control of log lambda.

    The cost is led from what it is when control begins to the target, in equal ratios per step, and then held
    there. FLOPS answers to lambda only slowly, and a controller that wanted the target at once would overshoot.

    Attributes:
        target: evaluation FLOPS.
        steps: optimiser steps that are controlled.
        start: FLOPS when control began; None before.
        done: steps controlled so far.
        integral: summed log errors, in units of log lambda.
    """

    target: float
    steps: int
    start: float | None = None
    done: int = 0
    integral: float = 0.0

    def wanted(self) -> float:
        """FLOPS that the next step should have."""
        if self.start is None:
            return self.target
        way = min(1.0, self.done / max(1.0, ARRIVAL * self.steps))
        return self.start ** (1 - way) * self.target**way

    def update(self, flops: float) -> float:
        """What lambda is multiplied with from now on, given the cost now."""
        flops = max(flops, 1e-3 * self.target)  # empty documents have no logarithm
        if self.start is None:
            self.start = flops
        self.done += 1
        error = math.log(flops / self.wanted())
        integral = self.integral + INTEGRAL / self.steps * error
        change = PROPORTIONAL * error + integral
        if abs(change) <= LARGEST_CHANGE or change * error < 0:  # at a bound, the integral waits
            self.integral = max(-LARGEST_CHANGE, min(LARGEST_CHANGE, integral))
        return math.exp(max(-LARGEST_CHANGE, min(LARGEST_CHANGE, change)))


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
    """

    def __init__(self, loss: IDFAwareLoss, query_share: Tensor, target: float, num_steps: int) -> None:
        self.loss = loss
        self.query_share = query_share.to(loss.idf.device, torch.float32)
        self.control = LambdaControl(target, max(1, num_steps - loss.ramp_steps))
        self.with_dropout: float | None = None  # running estimate
        self.ratio = 1.0
        self._seen = torch.zeros(2, dtype=torch.float64)

    @property
    def estimate(self) -> float | None:
        """FLOPS without dropout; None before the first step."""
        return None if self.with_dropout is None else self.with_dropout * self.ratio

    def see(self, documents: Tensor, without_dropout: Callable[[], Tensor]) -> None:
        """Count a micro-batch.

        Args:
            documents: weights [documents, vocabulary] of this rank.
            without_dropout: gives the same documents' weights in evaluation mode.
        """
        now = self._sums(documents)
        first = not self._seen[1]
        self._seen += now
        if first and self.loss.step % RATIO_EVERY == 0:
            ratio = float(self._sums(without_dropout())[0] / now[0].clamp(min=1e-9))
            self.ratio = ratio if self.with_dropout is None else (self.ratio + ratio) / 2

    @in_float32
    def _sums(self, documents: Tensor) -> Tensor:
        """Summed multiplications of an average query with each document, and documents, over all ranks: [2]."""
        with torch.no_grad():
            present = (documents.detach() != 0).to(torch.float32)
            sums = torch.stack([(present @ self.query_share).sum(), present.new_tensor(len(present))])
            return ranks.summed(sums).cpu().double()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step:
            self.load(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}")

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        multiplications, documents = self._seen.tolist()
        self._seen.zero_()
        now = multiplications / max(documents, 1.0)
        before = self.with_dropout
        self.with_dropout = now if before is None else before + SMOOTHING * (now - before)
        if self.loss.step >= self.loss.ramp_steps:
            self.loss.lambda_factor = self.control.update(self.with_dropout * self.ratio)

    def figures(self) -> dict[str, float]:
        """For the log."""
        estimate = self.estimate
        return {} if estimate is None else {"lambda": self.loss.current_lambda, "estimated_flops": estimate}

    def save(self, folder: Path) -> None:
        state = {
            "with_dropout": self.with_dropout,
            "ratio": self.ratio,
            "lambda_factor": self.loss.lambda_factor,
        }
        write_json(folder / FILE, state | {"control": asdict(self.control)})

    def load(self, folder: Path) -> None:
        """Go on as a checkpoint was left.

        Raises:
            InputError: it holds no such state.
        """
        state = read_json(folder / FILE)
        self.with_dropout, self.ratio = state["with_dropout"], state["ratio"]
        self.loss.lambda_factor = state["lambda_factor"]
        self.control = LambdaControl(**state["control"])
