"""What a run shows of its losses and its documents' sparsity, and when it stops because that has gone wrong."""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from neural_sparse.errors import DivergedError
from neural_sparse.losses.vocabulary_sample import VocabularySample
from neural_sparse.work import ranks

logger = logging.getLogger(__name__)

MOST_FREQUENT = 10  # dimensions whose saturation is watched
WINDOW = 10  # steps that are averaged before anything is concluded
PATIENCE = 100  # steps after the ramp in which a dense model must grow sparser, at least
TRAVEL = 2e-3  # sum of their learning rates, at least
WORTH = 1.0  # of ranking, in nats: even a query whose ranking loss has gone would lose about so much without documents
EMPTY = 0.5  # terms per document
DENSE = 0.25  # share of the vocabulary


class DimensionMonitor:
    """Which dimensions the documents use, between two log lines.

    Of a sample of the vocabulary only those dimensions count that were in every sample: how many of the others no
    document has used cannot be told from documents of the few steps in which one was drawn.

    Args:
        real: bool [vocabulary], False for tokens that never score (special ones).
    """

    def __init__(self, real: Tensor) -> None:
        self.real = real
        self._documents = torch.zeros_like(real, dtype=torch.int64)
        self._seen = 0
        self._sampled: Tensor | None = None  # how many of the documents each dimension was looked at in

    def update(self, vectors: Tensor, sample: VocabularySample | None = None) -> None:
        """Count the documents [documents, vocabulary] of this rank, or [documents, columns] of a sample."""
        present = (vectors.detach() != 0).sum(0)
        if sample is None:
            self._documents += present
        else:
            self._sampled = torch.zeros_like(self._documents) if self._sampled is None else self._sampled
            self._documents.index_add_(0, sample.columns, present)
            self._sampled[sample.columns] += len(vectors)
        self._seen += len(vectors)

    def take(self) -> dict[str, float]:
        """Figures since the last call, over all ranks, and start again.

        Returns:
            "dead_dimensions": share of dimensions that no document used; "saturation": mean share of the
            documents that hold each of the 10 most frequent ones (1: every query with such a token visits
            every document). Nothing if no document was seen. Of samples no "dead_dimensions", and the saturation of
            dimensions that were in all of them.
        """
        if self._sampled is not None:
            return self._of_samples(self._sampled)
        counts = ranks.summed(self._documents[self.real])
        seen = int(ranks.summed(self._documents.new_full((), self._seen)))
        self._documents.zero_()
        self._seen = 0
        if not seen or not len(counts):
            return {}
        top = _top(counts)
        return {
            "dead_dimensions": float((counts == 0).float().mean()),
            "saturation": float(top.float().mean()) / seen,
        }

    def _of_samples(self, looked_at: Tensor) -> dict[str, float]:
        both = ranks.summed(torch.stack([self._documents, looked_at]))
        seen = int(ranks.summed(self._documents.new_full((), self._seen)))
        self._documents.zero_()
        looked_at.zero_()
        self._seen = 0
        always = both[0][self.real & (both[1] == seen)]
        return {"saturation": float(_top(always).float().mean()) / seen} if seen and len(always) else {}


def _top(counts: Tensor) -> Tensor:
    return counts.topk(min(MOST_FREQUENT, len(counts))).values


def teacher_agreement(scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """How often student and teachers put the same document first, a scalar.

    Args:
        scores, targets: of student and teachers [queries, documents].
        mask: bool, same shape: what the teachers scored. Queries with fewer than two such documents are left
            out, for with them there is nothing to agree on; NaN if no other is left.
    """
    comparable = mask.sum(1) > 1
    mine = scores.masked_fill(~mask, -torch.inf).argmax(1)
    theirs = targets.masked_fill(~mask, -torch.inf).argmax(1)
    return ((mine == theirs) & comparable).sum() / comparable.sum()


class CollapseGuard:
    """Stops a run whose documents have become empty, or dense.

    All is counted in optimiser steps, whatever the accumulation.

    Documents that are dense from the start stop a run only if they cannot be meant so: if lambda * FLOPS outweighs
    the rest of the loss. FLOPS is homogeneous of degree two, so making all weights smaller by a share x lowers the
    loss by 2 x lambda * FLOPS; once that is more than ranking is worth as a whole (its loss, or about one nat, what
    a query loses with documents that say nothing), staying dense is no compromise of the two: the weights do not
    move. Under a smaller lambda it is one, which pre-training wants: 1e-7 times the FLOPS of dense documents (26,000
    with 105,879 tokens of weight 0.5) is .003 of a loss of about 1. That is told, once.

    AdamW moves a parameter by about the learning rate per step, so weights are given the time to move: `PATIENCE`
    steps, and more where their learning rates add up to less than `TRAVEL`, as 100 steps of 2e-5 do. That moves a
    logit, the product with a normalised hidden state of 128 to 768 dimensions, by about .2 to 1.2.

    Args:
        vocab_size: dimensions.
        ramp_steps: steps until lambda has its full weight.
    """

    def __init__(self, vocab_size: int, ramp_steps: int) -> None:
        self.vocab_size = vocab_size
        self.ramp_steps = ramp_steps
        # Step, learning rates added up to it, mean of the window that ended there; the first is what the last is
        # compared with, once it is far enough behind.
        self._past: deque[tuple[int, float, float]] = deque()
        self._window: deque[float] = deque(maxlen=WINDOW)
        self._outweighed: deque[bool] = deque(maxlen=WINDOW)
        # The sparsest so far, not the start: a run may thin from a dense start and diverge afterwards.
        self._sparsest = 0.0
        self._travelled = 0.0
        self._step: int | None = None
        self._parts = 0  # micro-batches of the step
        self._told = False

    def check(
        self, step: int, terms: float, settings: str, flops: float, rest: float, learning_rate: float
    ) -> None:
        """
        Args:
            step: optimiser steps so far; micro-batches of one step have the same.
            terms: non-zero terms per document in this micro-batch.
            settings: the keys that decide it, for the message.
            flops: lambda * FLOPS of this micro-batch.
            rest: its loss without that.
            learning_rate: of this step.

        Raises:
            DivergedError: a collapse, with the keys to change.
        """
        outweighed = flops > max(rest, WORTH)
        further = step == self._step
        if further:
            self._parts += 1
            self._window[-1] += (terms - self._window[-1]) / self._parts
            self._outweighed[-1] &= outweighed
        else:
            self._step, self._parts = step, 1
            self._travelled += learning_rate
            self._window.append(terms)
            self._outweighed.append(outweighed)
        if len(self._window) == 1:  # not yet trained: a run may become dense before the first window is full
            self._sparsest = self._window[0]
        if len(self._window) < WINDOW:
            return
        mean = sum(self._window) / WINDOW
        if mean < EMPTY:
            raise DivergedError(
                f"step {step}: documents have become empty ({mean:.2g} terms each): the FLOPS penalty has outweighed "
                f"everything else. Make lambda_flops or learning_rate smaller, or flops_ramp_steps longer ({settings})"
            )
        dense = DENSE * self.vocab_size
        if mean > max(dense, 2 * self._sparsest):
            raise DivergedError(
                f"step {step}: documents have become dense ({self._sparsest:,.0f} terms each at their sparsest, now "
                f"{mean:,.0f} of {self.vocab_size:,}): the run diverges. "
                f"Make learning_rate smaller or warmup_steps longer ({settings})"
            )
        self._sparsest = min(self._sparsest, mean)
        before = self._before(step, mean)
        if before is None or mean <= dense or mean <= 0.9 * before[1]:
            return
        if before[0] <= self.ramp_steps + WINDOW:  # lambda had not its full weight yet
            return
        found = (
            f"step {step}: documents stay dense ({mean:,.0f} terms each of {self.vocab_size:,}, {before[1]:,.0f} "
            f"{step - before[0]} steps ago)"
        )
        if all(self._outweighed):
            raise DivergedError(
                f"{found} although FLOPS is {flops:.3g} of a loss of {flops + rest:.3g}: they do not move. Make "
                f"learning_rate or max_grad_norm larger ({settings})"
            )
        if not self._told and not ranks.rank():
            logger.warning(
                "%s: with lambda_flops FLOPS is %.2g of a loss of %.3g. That is meant so in pre-training; fine-tuning "
                "needs a larger lambda_flops (%s)",
                *(found, flops, flops + rest, settings),
            )
            self._told = True

    def _before(self, step: int, mean: float) -> tuple[int, float] | None:
        """Step and mean of the last window far enough behind this one, which is added; None before there is one."""
        if self._past and self._past[-1][0] == step:
            self._past.pop()
        self._past.append((step, self._travelled, mean))

        def far(past: tuple[int, float, float]) -> bool:
            return step - past[0] >= PATIENCE and self._travelled - past[1] >= TRAVEL

        while len(self._past) > 1 and far(self._past[1]):
            self._past.popleft()
        first = self._past[0]
        return (first[0], first[2]) if far(first) else None


SHOWN = {
    "loss": "loss",
    "ranking": "rank",
    "flops": "flops",
    "terms": "terms",
    "nonzero_terms": "terms/doc",
    "nonzero_query_terms": "terms/query",
}
ESTIMATED = (
    "flops",
    "terms",
    "nonzero_terms",
    "estimated_flops",
    "estimated_p99_ms",
)  # where a step looks at a sample


class ProgressBar(TrainerCallback):
    """A bar on a terminal; elsewhere, where a run of days may write to a file, a line now and then.

    Args:
        seconds: between two lines.
        estimated: whether a step looks at a sample of the vocabulary: sums over all of it are shown as estimates.
    """

    def __init__(self, seconds: float = 60.0, estimated: bool = False) -> None:
        self.seconds = seconds
        self.estimated = ESTIMATED if estimated else ()
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
        shown = {
            SHOWN[key]: f"{'~' * (key in self.estimated)}{value:.4g}"
            for key, value in logs.items()
            if key in SHOWN
        }
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
