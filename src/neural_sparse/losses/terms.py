"""How far documents are from the terms that teachers would give them."""

from __future__ import annotations

import torch
from torch import Tensor

from neural_sparse.distributed import ranks
from neural_sparse.losses.precision import in_float32
from neural_sparse.losses.vocabulary_sample import VocabularySample


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
