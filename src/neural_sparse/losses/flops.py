"""The FLOPS regulariser and its schedule."""

from __future__ import annotations

import torch
from torch import Tensor

from neural_sparse.distributed import ranks
from neural_sparse.idf import DEFAULT_IDF
from neural_sparse.losses.precision import in_float32


@in_float32
def flops_loss(
    vectors: Tensor, token_weights: Tensor | None = None, l0_threshold: int | None = None
) -> Tensor:
    """sum_t w_t (mean_i v_it)^2 (Paria et al. 2020, arXiv 2004.05665).

    Args:
        vectors: document weights [documents, vocabulary], >= 0.
        token_weights: w [vocabulary], 1 if None; a weight that grows with document frequency gives
            DF-FLOPS (arXiv 2505.15070).
            On several ranks, those of this rank; the mean is over all ranks' documents.
        l0_threshold: only documents with more non-zero terms than this are pressed
            (arXiv 2504.14839); the mean is still over all documents.
    """
    if l0_threshold is not None:
        long = (vectors.detach() != 0).sum(1) > l0_threshold
        vectors = vectors * long[:, None]
    mean = vectors.mean(0)
    if ranks.world_size() > 1:
        count = ranks.summed(vectors.new_full((), len(vectors)))
        mean = ranks.summed(vectors.sum(0)) / count
    squares = mean * mean
    return squares.sum() if token_weights is None else (token_weights * squares).sum()


def quadratic_ramp(step: int, ramp_steps: int) -> float:
    """min(1, step / ramp_steps)^2; 1 throughout if `ramp_steps` is 0. `step` counts optimiser steps."""
    return 1.0 if ramp_steps <= 0 else min(1.0, step / ramp_steps) ** 2


FREQUENT_PRESSURE = 10.0


def document_frequency_weights(idf: Tensor, default_idf: float = DEFAULT_IDF) -> Tensor:
    """Per-token FLOPS weights [vocabulary] that press frequent tokens harder: 1 + 10 * df / N.

    A rare token weighs 1 and one that is everywhere 11: what a query pays for it is the length of its postings (the
    thought behind DF-FLOPS, arXiv 2505.15070).

    Args:
        idf: [vocabulary], ln((N + 1) / (df + 0.5)), from which df / N is read to within half a document.
        default_idf: of tokens that no document holds, which the formula gives no token that occurs. They weigh 1, as
            do tokens of IDF 0 (special ones), which no query pays for.
    """
    counted = (idf > 0) & (idf != default_idf)
    return 1 + FREQUENT_PRESSURE * torch.where(counted, torch.exp(-idf), 0.0)
