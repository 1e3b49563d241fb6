"""How far documents are from the terms that teachers would give them."""

from __future__ import annotations

import torch
from torch import Tensor

from neural_sparse.distributed import ranks
from neural_sparse.losses.precision import in_float32


@in_float32
def term_loss(vectors: Tensor, rows: Tensor, columns: Tensor, values: Tensor, weights: Tensor) -> Tensor:
    """Mean over documents of |w (v - T)|^2 / |w T|^2: 0 if the vectors are the targets, 1 if they are empty.

    T is never made dense: the square is multiplied out, so that only the entries it has are looked at.

    Args:
        vectors: v, document weights [documents, vocabulary]; on several ranks this rank's share.
        rows, columns, values: the entries of T [documents, vocabulary], one-dimensional, each place once. A document
            without any has no target and does not count.
        weights: w [vocabulary], what a query pays for a token: IDF.
    """
    squared = weights.to(vectors.dtype).square()
    values = values.to(vectors.dtype)
    at = squared[columns] * values
    size = vectors.new_zeros(len(vectors)).index_add(0, rows, at * values)
    shared = vectors.new_zeros(len(vectors)).index_add(0, rows, at * vectors[rows, columns])
    distance = vectors.square() @ squared - 2 * shared + size
    has_target = size > 0
    relative = torch.where(has_target, distance / torch.where(has_target, size, 1), 0)
    documents = ranks.summed(has_target.sum().to(vectors.dtype))
    return ranks.summed(relative.sum()) / documents.clamp_min(1)
