"""Pooled logits without the products that cannot matter: exact, for encoding on a CPU in float32.

A document's vector has some hundred terms, and the rest of the vocabulary is multiplied only to learn that its scores
are below zero. Hidden states of a masked LM hardly leave a small subspace, so that a quarter of the dimensions, in a
basis that begins with those of the most energy, nearly settles a score h w + b, and Cauchy and Schwarz bound the rest:

    h w  <=  sum of the first k of (Q h)_i (Q w)_i  +  |rest of Q h| |rest of Q w|,     Q orthonormal

The bound is itself a product, of k + 1 dimensions, so the same kernel finds its maximum over a text's tokens. Only for
texts and tokens of the vocabulary whose bound is above zero are the products made, of all dimensions and as ever.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from neural_sparse.model.head import pooled_logits

SHARE = 4  # of the dimensions, one in so many is in the bound
MANY = 0.2  # of the first batch's pairs: where more may be above zero, all are multiplied from then on
FEWEST_TOKENS = 16_384  # of which it pays to rotate the output matrix
UNIT = 2.0**-24  # rounding of float32


class HeadBound:
    """What the batches of one `encode_documents` share.

    The first batch decides the basis (any is right, and some bound better) and whether a bound pays at all; after it
    threads may use the rest side by side, and results do not depend on which is quicker. The weights must not change
    while it is used.
    """

    def __init__(self) -> None:
        self._parts: tuple[Tensor, Tensor, Tensor] | None = None
        self.pays = True

    def pooled(self, hidden: Tensor, offsets: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """As `pooled_logits`, without gradients: the same entries above zero, their values within rounding.

        Args:
            hidden: float32 [tokens, width]; offsets: int64 [texts + 1]; weight: float32 [vocabulary, width];
                bias: [vocabulary] or None.
        """
        if not self.pays or not len(hidden):
            return pooled_logits(hidden, offsets, weight, bias)
        first_batch = self._parts is None
        if self._parts is None:
            self._parts = _rotated(hidden, weight)
        basis, first, lengths = self._parts
        kept = first.shape[1] - 1
        turned = hidden @ basis
        rest = turned[:, kept:].norm(dim=1, keepdim=True)
        # The error of a product of n terms is at most n units of |h| |w| (Higham 2002, section 3.1); there are three
        # products, and their operands are rounded too. A text without finite states keeps all its pairs.
        slack = 8 * hidden.shape[1] * UNIT * hidden.norm(dim=1).max() * lengths
        bounds = pooled_logits(
            torch.cat([turned[:, :kept], rest], 1), offsets, first, slack if bias is None else bias + slack
        )
        if first_batch:
            self.pays = bounds.count_nonzero().item() <= MANY * bounds.numel()
            if not self.pays:
                return pooled_logits(hidden, offsets, weight, bias)
        return _at(bounds, hidden, offsets=offsets, weight=weight, bias=bias)


def _rotated(hidden: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A basis [width, width] by falling energy of hidden states; `weight` in it, its first dimensions and the length
    of the rest, [vocabulary, dimensions + 1]; the length of its rows."""
    states = hidden.double()
    energy = states.T @ states
    if not torch.isfinite(energy).all():  # NaN reaches the result whatever the basis
        energy = torch.eye(hidden.shape[1], dtype=torch.float64)
    basis = torch.linalg.eigh(energy)[1].flip(1).float().contiguous()
    kept = max(1, hidden.shape[1] // SHARE - 1)
    turned = weight @ basis
    first = torch.cat([turned[:, :kept], turned[:, kept:].norm(dim=1, keepdim=True)], 1)
    return basis, first, weight.norm(dim=1)


def _at(bounds: Tensor, hidden: Tensor, offsets: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Pooled logits where bounds are not zero, zero elsewhere."""
    pooled = torch.zeros_like(bounds)
    ends = offsets.tolist()
    for text, (start, end) in enumerate(itertools.pairwise(ends)):
        columns = bounds[text].nonzero().squeeze(1)
        if start == end or not len(columns):
            continue
        best = (hidden[start:end] @ weight.index_select(0, columns).T).amax(0)
        if bias is not None:
            best += bias[columns]
        pooled[text, columns] = best.relu_()
    return pooled
