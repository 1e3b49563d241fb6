"""What a run says of its documents' sparsity, and when it stops because that has gone wrong."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from neural_sparse.distributed import ranks
from neural_sparse.errors import InputError

MOST_FREQUENT = 10  # dimensions whose saturation is watched
WINDOW = 10  # steps that are averaged before anything is concluded
PATIENCE = 100  # steps after the ramp in which a dense model must grow sparser
EMPTY = 0.5  # terms per document
DENSE = 0.25  # share of the vocabulary


class DimensionMonitor:
    """Which dimensions the documents use, between two log lines.

    Args:
        real: bool [vocabulary], False for tokens that never score (special ones).
    """

    def __init__(self, real: Tensor) -> None:
        self.real = real
        self._documents = torch.zeros_like(real, dtype=torch.int64)
        self._seen = 0

    def update(self, vectors: Tensor) -> None:
        """Count the documents [documents, vocabulary] of this rank."""
        self._documents += (vectors.detach() != 0).sum(0)
        self._seen += len(vectors)

    def take(self) -> dict[str, float]:
        """Figures since the last call, over all ranks, and start again.

        Returns:
            "dead_dimensions": share of dimensions that no document used; "saturation": mean share of the
            documents that hold each of the 10 most frequent ones (1: every query with such a token visits
            every document). Nothing if no document was seen.
        """
        counts = ranks.summed(self._documents[self.real])
        seen = int(ranks.summed(self._documents.new_tensor(self._seen)))
        self._documents.zero_()
        self._seen = 0
        if not seen or not len(counts):
            return {}
        top = counts.topk(min(MOST_FREQUENT, len(counts))).values
        return {
            "dead_dimensions": float((counts == 0).float().mean()),
            "saturation": float(top.float().mean()) / seen,
        }


def teacher_agreement(scores: Tensor, targets: Tensor, known: Tensor) -> Tensor:
    """How often student and teachers put the same document first, a scalar.

    Args:
        scores, targets: of student and teachers [queries, documents].
        known: bool, same shape: what the teachers scored. Queries with fewer than two such documents are left
            out, for with them there is nothing to agree on; NaN if no other is left.
    """
    comparable = known.sum(1) > 1
    mine = scores.masked_fill(~known, -torch.inf).argmax(1)
    theirs = targets.masked_fill(~known, -torch.inf).argmax(1)
    return ((mine == theirs) & comparable).sum() / comparable.sum()


class CollapseGuard:
    """Stops a run whose documents have become empty, or dense.

    All is counted in optimiser steps, whatever the accumulation.

    Args:
        vocab_size: dimensions.
        ramp_steps: steps until lambda has its full weight.
    """

    def __init__(self, vocab_size: int, ramp_steps: int) -> None:
        self.vocab_size = vocab_size
        self.ramp_steps = ramp_steps
        self._means: deque[float] = deque(maxlen=PATIENCE)  # mean of the window that ended at each step
        self._window: deque[float] = deque(maxlen=WINDOW)
        # The sparsest so far, not the start: a run may thin from a dense start and diverge afterwards.
        self._sparsest = 0.0
        self._step: int | None = None
        self._parts = 0  # micro-batches of the step

    def check(self, step: int, terms: float, settings: str) -> None:
        """
        Args:
            step: optimiser steps so far; micro-batches of one step have the same.
            terms: non-zero terms per document in this micro-batch.
            settings: the keys that decide it, for the message.

        Raises:
            InputError: a collapse, with the keys to change.
        """
        further = step == self._step
        if further:
            self._parts += 1
            self._window[-1] += (terms - self._window[-1]) / self._parts
        else:
            self._step, self._parts = step, 1
            self._window.append(terms)
        if len(self._window) == 1:  # not yet trained: a run may become dense before the first window is full
            self._sparsest = self._window[0]
        if len(self._window) < WINDOW:
            return
        mean = sum(self._window) / WINDOW
        before = self._means[0] if len(self._means) == PATIENCE else None
        if further and self._means:
            self._means[-1] = mean
        else:
            self._means.append(mean)
        dense = DENSE * self.vocab_size
        if mean < EMPTY:
            raise InputError(
                f"step {step}: documents have become empty ({mean:.2g} terms each): the FLOPS penalty has outweighed "
                f"everything else. Make lambda_flops or learning_rate smaller, or flops_ramp_steps longer ({settings})"
            )
        if mean > max(dense, 2 * self._sparsest):
            raise InputError(
                f"step {step}: documents have become dense ({self._sparsest:,.0f} terms each at their sparsest, now "
                f"{mean:,.0f} of {self.vocab_size:,}): the run diverges. "
                f"Make learning_rate smaller or warmup_steps longer ({settings})"
            )
        self._sparsest = min(self._sparsest, mean)
        settled = step > self.ramp_steps + PATIENCE + WINDOW
        if settled and before is not None and mean > dense and mean > 0.9 * before:
            raise InputError(
                f"step {step}: documents stay dense ({mean:,.0f} terms each of {self.vocab_size:,}, {before:,.0f} "
                f"{PATIENCE} steps ago) although the FLOPS penalty has its full weight. Make lambda_flops "
                f"larger ({settings})"
            )
