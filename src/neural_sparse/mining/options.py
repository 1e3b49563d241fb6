"""What to mine."""

from __future__ import annotations

import math
from dataclasses import dataclass

from neural_sparse.errors import InputError, check_seed


@dataclass(frozen=True)
class MiningOptions:
    """How negatives are chosen from the candidates.

    Attributes:
        num_negatives: wanted per query.
        first_rank, last_rank: ranks (from 1) of the candidates to choose from; documents known to be
            relevant are not counted.
        sample: draw from the window; False takes its top.
        absolute_margin, relative_margin, max_score: see `filters.too_close`.
        max_cross_encoder_score: a candidate with a higher score (the model's raw output) is dropped.
        below_positive: no negative scores higher than the positive by `Miner.scorer`, so that the positive is
            the best-scored document of a line {query, docs, scores}, which readers take it to be.
        jaccard, containment: of shingles, from which a candidate is a near-duplicate of the positive;
            see `duplicates.Shingles`. None turns one off.
        seed: of the draw.
    """

    num_negatives: int = 30
    first_rank: int = 1
    last_rank: int = 100
    sample: bool = True
    absolute_margin: float | None = None
    relative_margin: float | None = None
    max_score: float | None = None
    max_cross_encoder_score: float | None = None
    below_positive: bool = False
    jaccard: float | None = 0.8
    containment: float | None = 0.9
    seed: int = 42

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.num_negatives < 1:
            raise InputError(f"at least one negative per query must be asked for, not {self.num_negatives}")
        if not 1 <= self.first_rank <= self.last_rank:
            raise InputError(
                f"ranks {self.first_rank}-{self.last_rank}: write them as 10-100, counted from 1"
            )
        if self.last_rank - self.first_rank + 1 < self.num_negatives:
            raise InputError(
                f"ranks {self.first_rank}-{self.last_rank} hold fewer candidates than the "
                f"{self.num_negatives} negatives asked for; widen the ranks"
            )
        for name in ("jaccard", "containment"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise InputError(f"{name} must be above 0 and at most 1, not {value}")
        for name in ("absolute_margin", "relative_margin", "max_score", "max_cross_encoder_score"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise InputError(f"{name} must be a finite number, not {value}")
        for name in ("absolute_margin", "relative_margin"):
            if (getattr(self, name) or 0) < 0:
                raise InputError(f"{name} must not be negative, but is {getattr(self, name)}")

    @property
    def needs_teacher(self) -> bool:
        """Whether a filter compares scores of a teacher."""
        return any(
            value is not None for value in (self.absolute_margin, self.relative_margin, self.max_score)
        )
