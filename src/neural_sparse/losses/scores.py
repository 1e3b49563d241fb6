"""The matching function."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neural_sparse.losses.precision import in_float32


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
