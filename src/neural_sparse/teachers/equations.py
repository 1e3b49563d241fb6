"""Equations 8 and 9 of arXiv 2411.04403, also where teachers know different candidates of a query.

The paper's teachers know every candidate. Here a cross-encoder knows a query's own candidates and a file of scores
what it has, among documents that the others know all. Three rules extend the equations; docs/teachers.md argues them:

- A teacher that tells no candidate from another (a constant list, a single candidate) abstains: its scores are
  unknown, and its weight goes to the others.
- A teacher is complete for a query if it knows every candidate that any teacher knows. Equation 8 as it stands.
- Any other is partial: its list is mapped not onto [0, 1], which is the range of the whole list, but onto the range
  that the complete teachers' scores have on the candidates that it knows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Equal documents get equal scores only up to rounding; normalising that rounding would invent a ranking. A spread
# below the first share of the largest score says nothing, one above the second all it can; between, in proportion,
# so that a target does not jump while a list becomes constant. At the second float32's rounding is 1% of the spread.
_NOTHING, _ALL = 1e-6, 1e-5


def min_max(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Equation 8: each row of `scores` [B, M] mapped onto [0, 1] by its smallest and largest known entry.

    A row whose known entries are all equal becomes zeros. Entries that are not `mask` [B, M] neither count
    nor matter (they may be NaN); they come back as 0.

    >>> min_max(torch.tensor([[2.0, 4.0, 3.0], [5.0, 5.0, 5.0]]))
    tensor([[0.0000, 1.0000, 0.5000],
            [0.0000, 0.0000, 0.0000]])
    """
    return _min_max(scores, torch.ones_like(scores, dtype=torch.bool) if mask is None else mask)[0]


def _min_max(scores: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Scores in [0, 1] [B, M], and how much each row says, in [0, 1] [B, 1]."""
    low, high = _extremes(scores, mask)
    span = high - low
    largest = torch.maximum(low.abs(), high.abs())
    # Not where a score is no number: that is to be seen in the result.
    relative = (span / largest).masked_fill((largest == 0) | ~mask.any(-1, keepdim=True), 0)
    says = ((relative - _NOTHING) / (_ALL - _NOTHING)).clamp(0, 1)
    silent = says == 0
    normalised = (scores - low) / span.masked_fill(silent, 1)
    return normalised.masked_fill(silent | ~mask, 0), says


def _extremes(scores: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest known entry of each row [B, 1]; infinite where none is known."""
    low = scores.masked_fill(~mask, torch.inf).amin(-1, keepdim=True)
    return low, scores.masked_fill(~mask, -torch.inf).amax(-1, keepdim=True)


class Combination:
    """Teachers' scores of the same candidates, normalised once and averaged at any weights.

    Args:
        teachers: per teacher its raw scores [B, M], and which of them it knows, bool [B, M].
    """

    def __init__(self, teachers: Sequence[tuple[Tensor, Tensor]]) -> None:
        self._masks = [mask for _, mask in teachers]
        normalised = [_min_max(scores, mask) for scores, mask in teachers]
        self._scores = [scores for scores, _ in normalised]
        self._says = [says for _, says in normalised]
        self._ranges: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def at(self, weights: Sequence[float], scale: float = 1.0) -> tuple[Tensor, Tensor]:
        """Equation 9: `scale` (S) times the weighted mean of the teachers' normalised scores.

        Args:
            weights: one per teacher. Those of an entry are divided by their sum over the teachers that know it; a
                teacher of weight 0 does not count as one that knows.

        Returns:
            Scores in [0, S] [B, M] (0 where no teacher knows), and the entries that some teacher knows [B, M].
        """
        asked = [number for number, weight in enumerate(weights) if weight > 0]
        shares = {number: weights[number] * self._says[number] for number in asked}
        informed = {number: self._masks[number] & (shares[number] != 0) for number in asked}
        shape = self._masks[0].shape
        by_any = torch.zeros(shape, dtype=torch.bool)
        for mask in informed.values():
            by_any = by_any | mask
        complete = {
            number: shares[number] * (mask | ~by_any).all(-1, keepdim=True)
            for number, mask in informed.items()
        }
        total, sum_of_weights = torch.zeros(shape), torch.zeros(shape)
        for number, mask in informed.items():
            share = shares[number] * mask
            total = total + share * self._placed(number, complete)
            sum_of_weights = sum_of_weights + share
        return scale * total / sum_of_weights.masked_fill(~by_any, 1), by_any

    def _placed(self, number: int, complete: dict[int, Tensor]) -> Tensor:
        """A teacher's normalised scores [B, M]: in the complete teachers' range where it is partial.

        Args:
            complete: weight of each teacher [B, 1]; 0 in the rows in which it is not complete.
        """
        scores = self._scores[number]
        partial = complete[number] == 0
        if not partial.any():
            return scores
        low = high = weight = torch.zeros(len(scores), 1)
        for other, share in complete.items():
            if other != number and (share != 0).any():
                smallest, largest = self._range(number, other)
                low, high, weight = low + share * smallest, high + share * largest, weight + share
        partial = partial & (weight != 0)
        weight = weight.masked_fill(~partial, 1)
        return torch.where(partial, (low + (high - low) * scores) / weight, scores)

    def _range(self, number: int, other: int) -> tuple[Tensor, Tensor]:
        """What the normalised scores of teacher `other` span on the candidates that `number` knows [B, 1] each."""
        if (number, other) not in self._ranges:
            mask = self._masks[number]
            extremes = _extremes(self._scores[other], mask)
            nothing = ~mask.any(-1, keepdim=True)
            self._ranges[number, other] = (
                extremes[0].masked_fill(nothing, 0),
                extremes[1].masked_fill(nothing, 0),
            )
        return self._ranges[number, other]


def combine(teachers: Sequence[tuple[Tensor, Tensor, float]], scale: float) -> tuple[Tensor, Tensor]:
    """Equations 8 and 9 for teachers' raw scores.

    Args:
        teachers: per teacher its raw scores [B, M], which of them it knows, bool [B, M], and its weight.
        scale: the constant S.

    Returns:
        As `Combination.at`.

    >>> mask = torch.tensor([[True, True, True]])
    >>> dense, sparse = torch.tensor([[0.8, 0.2, 0.4]]), torch.tensor([[12.0, 4.0, 12.0]])
    >>> combine([(dense, mask, 0.5), (sparse, mask, 0.5)], scale=30.0)[0]
    tensor([[30.0000,  0.0000, 20.0000]])
    """
    return Combination([(scores, mask) for scores, mask, _ in teachers]).at(
        [weight for _, _, weight in teachers], scale
    )
