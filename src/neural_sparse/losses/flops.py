"""Regularisers of document vectors: FLOPS with its schedule, and the distance to terms that teachers would give."""

from __future__ import annotations

import torch
from torch import Tensor

from neural_sparse.idf import DEFAULT_IDF
from neural_sparse.losses.vocabulary_sample import VocabularySample
from neural_sparse.model.precision import in_float32
from neural_sparse.work import ranks


@in_float32
def flops_loss(
    vectors: Tensor,
    token_weights: Tensor | None = None,
    l0_threshold: int | None = None,
    counts: Tensor | None = None,
) -> Tensor:
    """sum_t w_t (mean_i v_it)^2 (Paria et al. 2020, arXiv 2004.05665).

    Args:
        vectors: document weights [documents, vocabulary], >= 0.
        token_weights: w [vocabulary], 1 if None; a weight that grows with document frequency gives
            DF-FLOPS (arXiv 2505.15070).
            On several ranks, those of this rank; the mean is over all ranks' documents.
        l0_threshold: only documents with more non-zero terms than this are pressed
            (arXiv 2504.14839); the mean is still over all documents.
        counts: as in `mean_weights`. Where vectors have columns for a sample of the vocabulary, its weights are also
            a factor of `token_weights`.

    >>> flops_loss(torch.tensor([[2.0, 0.0, 1.0], [0.0, 0.0, 1.0]]))  # (2 / 2)^2 + 0 + (2 / 2)^2
    tensor(2.)
    """
    return accumulated_flops(mean_weights(vectors, l0_threshold, counts), None, 1, token_weights)


@in_float32
def mean_weights(vectors: Tensor, l0_threshold: int | None = None, counts: Tensor | None = None) -> Tensor:
    """mean_i v_it [vocabulary], over all ranks' documents; arguments as `flops_loss`.

    Args:
        counts: [columns], how many terms a non-zero entry of each column stands for; 1 if None. With a sample of the
            vocabulary the number of terms is an estimate, and which documents are above `l0_threshold` a guess for
            those near it.
    """
    if l0_threshold is not None:
        present = vectors.detach() != 0
        long = (present.sum(1) if counts is None else present.to(counts.dtype) @ counts) > l0_threshold
        vectors = vectors * long[:, None]
    if ranks.world_size() > 1:
        count = ranks.summed(vectors.new_full((), len(vectors)))
        return ranks.summed(vectors.sum(0)) / count
    return vectors.mean(0)


@in_float32
def accumulated_flops(
    mean: Tensor, earlier: Tensor | None, micro_batches: int, token_weights: Tensor | None = None
) -> Tensor:
    """What one of several micro-batches adds to the FLOPS of their optimiser step.

    FLOPS is the square of a mean over the whole batch, and a mean of the micro-batches' own FLOPS is more than that:
    terms that one of M micro-batches holds would be pressed M times as hard. With m_k the micro-batches' means,

        M^2 (mean_k m_k)^2 = sum_k (m_k^2 + 2 m_k sum_{j<k} m_j),

    so the mean over micro-batches of (m_k^2 + 2 m_k sum_{j<k} m_j) / M, which is returned, is the FLOPS of the whole
    batch. Its gradient is sum_k (m_k + sum_{j != k} m_j) dm_k 2 / M^2. When micro-batch k is differentiated, later
    ones are not known, so each earlier one counts twice: m_k + 2 sum_{j<k} m_j. Of two micro-batches in either order
    each is once the earlier, so this is the gradient of the whole batch on average over the order of micro-batches,
    and exactly so for terms that one of them holds alone. Later ones count for more (1, 3, 5, ...), which costs a
    quarter of the sample.

    Args:
        mean: m_k [vocabulary] of this micro-batch's documents.
        earlier: sum of those before it in the step, without gradient; None for the first.
        micro_batches: M.
        token_weights: as in `flops_loss`.
    """
    squares = mean * mean
    if earlier is not None:
        shared = mean * earlier
        squares = squares + 2 * (2 * shared - shared.detach())
    total = squares.sum() if token_weights is None else (token_weights * squares).sum()
    return total / micro_batches


def quadratic_ramp(step: int, ramp_steps: int) -> float:
    """min(1, step / ramp_steps)^2; 1 throughout if `ramp_steps` is 0. `step` counts optimiser steps.

    >>> [quadratic_ramp(step, 200) for step in (0, 100, 200, 300)]
    [0.0, 0.25, 1.0, 1.0]
    """
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


@in_float32
def term_loss(
    vectors: Tensor,
    rows: Tensor,
    columns: Tensor,
    values: Tensor,
    weights: Tensor,
    sample: VocabularySample | None = None,
) -> Tensor:
    """Mean over documents of |w (v - T)|^2 / |w T|^2: 0 if the vectors are the targets, 1 if they are empty.

    T is never made dense: the square is multiplied out, so that only the entries it has are looked at.

    Args:
        vectors: v, document weights [documents, vocabulary]; on several ranks this rank's share.
        rows, columns, values: the entries of T [documents, vocabulary], one-dimensional, each place once. A document
            without any has no target and does not count.
        weights: w [vocabulary], what a query pays for a token: IDF.
        sample: which tokens the columns of `vectors` are, if not all; the distance is then estimated from those without
            bias, and |w T|^2 is exact.
    """
    squared = weights.to(vectors.dtype).square()
    values = values.to(vectors.dtype)
    at = squared[columns] * values
    size = vectors.new_zeros(len(vectors)).index_add(0, rows, at * values)
    if sample is None:
        shared = vectors.new_zeros(len(vectors)).index_add(0, rows, at * vectors[rows, columns])
        distance = vectors.square() @ squared - 2 * shared + size
    else:
        places, counts = sample.within(columns)
        gap = at * counts * (values - 2 * vectors[rows, places])
        distance = vectors.square() @ (squared[sample.columns] * sample.weights)
        distance = distance + vectors.new_zeros(len(vectors)).index_add(0, rows, gap)
    has_target = size > 0
    relative = torch.where(has_target, distance / torch.where(has_target, size, 1), 0)
    documents = ranks.summed(has_target.sum().to(vectors.dtype))
    return ranks.summed(relative.sum()) / documents.clamp_min(1)
