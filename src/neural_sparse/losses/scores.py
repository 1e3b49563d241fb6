"""The matching function."""

from __future__ import annotations

import torch
from torch import Tensor

from neural_sparse.losses.precision import in_float32


@in_float32
def idf_scores(query_ids: Tensor, query_mask: Tensor, idf: Tensor, documents: Tensor) -> Tensor:
    """s(q, d) = sum_t idf(t) q_t d_t, q_t = 1 if t is in the query (arXiv 2411.04403, equation 5).

    Only the columns of tokens that some query holds are touched, a few hundred of the vocabulary's
    tens of thousands.

    Args:
        query_ids: int64 [queries, tokens], padded with anything.
        query_mask: bool or int, same shape; 0 at padding.
        idf: [vocabulary], 0 for special tokens.
        documents: weights [documents, vocabulary].

    Returns:
        Scores [queries, documents], float32, or float64 for such documents.
    """
    mask = query_mask.bool()
    columns, place = torch.unique(query_ids[mask], return_inverse=True)
    present = documents.new_zeros((len(query_ids), len(columns)))
    rows = torch.arange(len(query_ids), device=mask.device)[:, None].expand_as(mask)[mask]
    present[rows, place] = 1.0  # a repeated token counts once
    weighted = present * idf.to(documents.dtype)[columns]
    return weighted @ documents[:, columns].T
