"""The training loss: IDF in the matching function, knowledge from teachers, FLOPS for sparsity."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neural_sparse.errors import InputError
from neural_sparse.idf import DEFAULT_IDF, IdfWeights, idf_weights
from neural_sparse.losses.flops import (
    accumulated_flops,
    document_frequency_weights,
    mean_weights,
    quadratic_ramp,
    term_loss,
)
from neural_sparse.losses.ranking import NEEDS_TEACHER, RANKING_LOSSES
from neural_sparse.losses.vocabulary_sample import VocabularySample
from neural_sparse.model.precision import in_float32
from neural_sparse.work import ranks


@dataclass(frozen=True)
class QueryTerms:
    """Which tokens queries hold.

    Attributes:
        columns: int64 [distinct], the tokens that some query holds.
        rows, places: int64 [tokens], which query holds which of the `columns`; repeats do no harm.
    """

    columns: Tensor
    rows: Tensor
    places: Tensor

    @classmethod
    def of(cls, query_ids: Tensor, query_mask: Tensor) -> QueryTerms:
        """Of both [queries, tokens], on their device, which is waited for if it is no CPU."""
        mask = query_mask.bool()
        columns, places = torch.unique(query_ids[mask], return_inverse=True)
        rows = torch.arange(len(query_ids), device=mask.device)[:, None].expand_as(mask)[mask]
        return cls(columns, rows, places)


@in_float32
def idf_scores(
    query_ids: Tensor, query_mask: Tensor, idf: Tensor, documents: Tensor, terms: QueryTerms | None = None
) -> Tensor:
    """s(q, d) = sum_t idf(t) q_t d_t, q_t = 1 if t is in the query (arXiv 2411.04403, equation 5).

    Only the columns of tokens that some query holds are touched, a few hundred of the vocabulary's
    tens of thousands.

    Args:
        query_ids: int64 [queries, tokens], padded with anything.
        query_mask: bool or int, same shape; 0 at padding.
        idf: [vocabulary], 0 for special tokens.
        documents: weights [documents, vocabulary].
        terms: of these queries, where they are known already.

    Returns:
        Scores [queries, documents], float32, or float64 for such documents.

    >>> documents = torch.tensor([[0.0, 1.5, 0.5], [2.0, 0.0, 1.0]])
    >>> query_ids, mask = torch.tensor([[1, 2, 2]]), torch.ones(1, 3)
    >>> idf_scores(query_ids, mask, torch.tensor([0.2, 2.0, 1.0]), documents)
    tensor([[3.5000, 1.0000]])
    """
    terms = QueryTerms.of(query_ids, query_mask) if terms is None else terms
    present = documents.new_zeros((len(query_ids), len(terms.columns)))
    present[terms.rows, terms.places] = 1.0  # a repeated token counts once
    weighted = present * idf.to(documents.dtype)[terms.columns]
    return weighted @ documents[:, terms.columns].T


class IDFAwareLoss(nn.Module):
    """Ranking loss on IDF-weighted scores plus lambda times FLOPS (arXiv 2411.04403, equations 5 and 7).

    The gradient of the ranking loss on d_t carries the factor idf(t), the FLOPS gradient does not: rare
    tokens are kept and frequent ones pushed out.

    Args:
        idf_weights: what `compute_idf_weights` returned, a tensor [vocabulary], or any table
            {token: weight} together with its `tokenizer`.
        vocab_size: columns of the document vectors.
        lambda_flops: weight of FLOPS once the ramp is over.
        default_idf: weight of tokens that occur in no document (in what `compute_idf_weights` returned, its own).
        ranking: a name out of "kl", "margin_mse", "info_nce", or weights of several: {"kl": 1, "info_nce": 0.1}.
        ramp_steps: optimiser steps over which lambda grows quadratically from 0.
        l0_threshold: press only documents with more non-zero terms (arXiv 2504.14839).
        frequency_weighted_flops: press frequent tokens harder (in the spirit of arXiv 2505.15070).
        idf_in_matching: False scores without IDF, for comparison.
        temperature: the student's scores are divided by it before the ranking losses; 1 in the paper.
        term_weight: weight of the distance between documents and the terms that teachers would give them.
        micro_batches: calls per optimiser step, whose gradients are averaged: FLOPS is then that of all their
            documents, see `accumulated_flops`. Ranking is that of each.
        lambda_query_flops: weight of the FLOPS of query vectors once the ramp is over; lambda_flops if None.

    Attributes:
        step: optimiser steps so far; whoever owns the optimiser sets it. Calls with the same belong to one step.
        lambda_factor: lambda is multiplied with it; for control by a cost target, as a scalar that stays on the device.

    Raises:
        InputError: sizes that disagree, an unknown ranking loss, a plain table without a tokenizer.

    >>> loss_fn = IDFAwareLoss(torch.tensor([0.2, 2.0, 1.0]), 3, lambda_flops=0.1, ramp_steps=0)
    >>> documents = torch.tensor([[0.0, 1.5, 0.5], [2.0, 0.0, 1.0]])
    >>> target = torch.tensor([[10.0, 0.0]])  # what the teachers make of the two
    >>> parts = loss_fn(torch.tensor([[1, 2]]), torch.ones(1, 2), documents, target)
    >>> parts["scores"], parts["flops"]
    (tensor([[3.5000, 1.0000]]), tensor(2.1250))
    >>> bool(parts["loss"] == parts["ranking"] + 0.1 * parts["flops"])
    True
    """

    idf: Tensor

    def __init__(
        self,
        idf_weights: Mapping[str, float] | Tensor | np.ndarray,
        vocab_size: int,
        lambda_flops: float,
        default_idf: float = DEFAULT_IDF,
        device: str | torch.device | None = None,
        *,
        tokenizer: Any = None,
        ranking: str | Mapping[str, float] = "kl",
        ramp_steps: int = 200,
        l0_threshold: int | None = None,
        frequency_weighted_flops: bool = False,
        idf_in_matching: bool = True,
        temperature: float = 1.0,
        term_weight: float = 1.0,
        micro_batches: int = 1,
        lambda_query_flops: float | None = None,
    ) -> None:
        super().__init__()
        vector = _vector(idf_weights, default_idf, tokenizer)
        if isinstance(idf_weights, IdfWeights):
            default_idf = idf_weights.default_idf
        if len(vector) != vocab_size:
            raise InputError(f"the IDF table has {len(vector):,} tokens, the vocabulary {vocab_size:,}")
        weights = {ranking: 1.0} if isinstance(ranking, str) else dict(ranking)
        if unknown := set(weights) - set(RANKING_LOSSES):
            raise InputError(
                f"unknown ranking loss {sorted(unknown)}: choose from {', '.join(RANKING_LOSSES)}"
            )
        for name, value in (("lambda_flops", lambda_flops), ("lambda_query_flops", lambda_query_flops)):
            if value is not None and value < 0:
                raise InputError(f"{name} must be >= 0, not {value}")
        if temperature <= 0:
            raise InputError(f"temperature must be positive, not {temperature}")
        self.flops_weights: Tensor | None
        self.register_buffer(
            "flops_weights",
            document_frequency_weights(vector, default_idf) if frequency_weighted_flops else None,
        )
        if not idf_in_matching:
            vector = (vector > 0).float()
        self.register_buffer("idf", vector)
        self.ranking = weights
        self.needs_teacher = bool(NEEDS_TEACHER & set(weights))
        self.lambda_flops = lambda_flops
        self.lambda_query_flops = lambda_flops if lambda_query_flops is None else lambda_query_flops
        self.ramp_steps = ramp_steps
        self.l0_threshold = l0_threshold
        self.temperature = temperature
        self.term_weight = term_weight
        self.micro_batches = micro_batches
        self._earlier: dict[str, tuple[int, Tensor]] = {}  # step, and the sum of its micro-batches' means
        self.step = 0
        self.lambda_factor: float | Tensor = 1.0
        self.to(device)

    @property
    def current_lambda(self) -> float | Tensor:
        return self.lambda_flops * self._share

    @property
    def _share(self) -> float | Tensor:
        """Of the lambdas, at this step."""
        return self.lambda_factor * quadratic_ramp(self.step, self.ramp_steps)

    @in_float32
    def forward(
        self,
        query_ids: Tensor,
        query_mask: Tensor,
        documents: Tensor,
        teacher_scores: Tensor | None = None,
        mask: Tensor | None = None,
        positive: Tensor | None = None,
        other_relevant: Tensor | None = None,
        query_weights: Tensor | None = None,
        terms: tuple[Tensor, Tensor, Tensor] | None = None,
        query_terms: QueryTerms | None = None,
        sample: VocabularySample | None = None,
        queries: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Named components, in float32 whatever surrounds the call.

        Args:
            query_ids, query_mask: [queries, tokens], without special tokens.
            documents: weights [documents, vocabulary]; on several ranks this rank's share, and all else
                speaks of the documents of all ranks, one rank's after another's.
            teacher_scores: targets [queries, documents].
            mask: bool, same shape: which targets are known; all if None.
            positive: int64 [queries], column of each query's own document; the diagonal of equal groups
                (document i * documents / queries) if None.
            other_relevant: bool [queries, documents], other documents known to be relevant to a query: no
                negatives of "info_nce".
            query_weights: [vocabulary], weights that are trained, instead of IDF (Li-LSR, arXiv 2505.01452);
                tokens whose IDF is 0 keep 0.
            terms: rows, columns and values of the terms that `documents` should have: see `term_loss`.
            query_terms: of these queries, where they are known already; the device is asked for them otherwise.
            sample: which tokens the columns of `documents` are, if not all; among them all that the queries hold.
                The ranking loss is then exact, FLOPS and terms are estimates without bias, and so are their gradients.
                All calls of one step have the same.
            queries: vectors [queries, vocabulary] of a siamese student, on every rank of all queries; the score is
                then their dot product with documents, without IDF, and the loss has FLOPS of queries too.

        Returns:
            "loss" (ranking + lambda * flops + term_weight * terms), "ranking", "flops" (before lambda), "terms"
            and "query_flops" (where they were given), scalars; and "scores".
        """
        if sample is not None and documents.shape[1] != len(sample.columns):
            raise ValueError(f"{documents.shape[1]} columns for a sample of {len(sample.columns)} tokens")
        weights = self.idf if query_weights is None else query_weights * (self.idf > 0)
        if sample is not None:
            query_terms = QueryTerms.of(query_ids, query_mask) if query_terms is None else query_terms
            query_terms = dataclasses.replace(query_terms, columns=sample.within(query_terms.columns)[0])
            weights = weights.index_select(0, sample.columns)
        if queries is None:
            part = idf_scores(query_ids, query_mask, idf=weights, documents=documents, terms=query_terms)
        else:
            part = queries @ documents.T
        of_all = next((given for given in (teacher_scores, mask, other_relevant) if given is not None), None)
        scores = ranks.all_columns(part, None if of_all is None else of_all.shape[1])
        if mask is None:
            mask = torch.ones_like(scores, dtype=torch.bool)
        if positive is None:
            group = scores.shape[1] // scores.shape[0]
            positive = torch.arange(len(scores), device=scores.device) * group
        ranking = scores.new_zeros(())
        for name, weight in self.ranking.items():
            judged = scores / self.temperature
            if name == "info_nce" and other_relevant is not None:
                judged = judged.masked_fill(other_relevant, -torch.inf)
            ranking = ranking + weight * RANKING_LOSSES[name](judged, teacher_scores, mask, positive)
        flops = self._flops(documents, sample)
        pressure = self.current_lambda
        if isinstance(pressure, Tensor):
            pressure = pressure.to(flops)
        loss = ranking + pressure * flops
        parts = {"ranking": ranking, "flops": flops, "scores": scores.detach()}
        if terms is not None:
            parts["terms"] = term_loss(documents, *terms, self.idf, sample)
            loss = loss + self.term_weight * parts["terms"]
        if queries is not None:
            # Not over ranks, which have the same queries.
            parts["query_flops"] = self._accumulated("queries", queries.mean(0), self.flops_weights)
            loss = loss + self.lambda_query_flops * self._share * parts["query_flops"]
        return {"loss": loss} | parts

    def _flops(self, documents: Tensor, sample: VocabularySample | None) -> Tensor:
        counts, weights = None, self.flops_weights
        if sample is not None:
            counts = sample.weights
            weights = counts if weights is None else counts * weights[sample.columns]
        mean = mean_weights(documents, self.l0_threshold, counts)
        return self._accumulated("documents", mean, weights)

    def _accumulated(self, side: str, mean: Tensor, weights: Tensor | None) -> Tensor:
        if self.micro_batches == 1:
            return accumulated_flops(mean, None, 1, weights)
        step, earlier = self._earlier.get(side, (None, None))
        if step != self.step:
            earlier = None
        self._earlier[side] = self.step, mean.detach() if earlier is None else earlier + mean.detach()
        return accumulated_flops(mean, earlier, self.micro_batches, weights)


def _vector(table: Mapping[str, float] | Tensor | np.ndarray, default_idf: float, tokenizer: Any) -> Tensor:
    if isinstance(table, IdfWeights):
        return torch.from_numpy(table.vector.copy())
    if isinstance(table, (Tensor, np.ndarray)):
        return torch.as_tensor(table, dtype=torch.float32).clone()
    if tokenizer is None:
        raise InputError("a plain IDF table needs `tokenizer=`, which says the id of each token")
    return torch.from_numpy(idf_weights(table, tokenizer, default_idf).vector.copy())
