"""Hard negatives of a training set, mined block by block as the options say."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neural_sparse.data.training_set import TrainingSet
from neural_sparse.errors import InputError, check_seed
from neural_sparse.mining.duplicates import Shingles
from neural_sparse.mining.filters import (
    Mask,
    among,
    compress,
    pick,
    rank_window,
    too_close,
    union_by_rank,
)
from neural_sparse.mining.mined import COUNTS, Mined
from neural_sparse.mining.sources import Scorer, Source
from neural_sparse.text.keys import add_texts
from neural_sparse.text.ragged import Indices, RelevantRows


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


logger = logging.getLogger(__name__)

BLOCK = 1024  # examples; part of what the draw depends on


@dataclass
class Miner:
    """Candidates from several retrievers, filters against false negatives, and a choice of what passes.

    What is mined for a block is a function of the data, the sources, the options and the block's number.

    Args:
        data: examples; all its documents are candidates.
        sources: their rankings are united by rank.
        options: what to choose.
        teacher: scores positives and candidates for the margins.
        cross_encoder: scores what the other filters let through.
        only: rows of the examples to mine for, int64; None for all.

    Raises:
        InputError: no source; a margin without a teacher or a threshold without a cross-encoder.
    """

    data: TrainingSet
    sources: Sequence[Source]
    options: MiningOptions
    teacher: Scorer | None = None
    cross_encoder: Scorer | None = None
    only: Indices | None = None

    def __post_init__(self) -> None:
        if not self.sources:
            raise InputError("name at least one source of candidates, for example bm25")
        if self.options.needs_teacher and self.teacher is None:
            raise InputError("a margin or a highest score compares scores of a teacher: name one")
        if self.options.max_cross_encoder_score is not None and self.cross_encoder is None:
            raise InputError("a highest cross-encoder score needs a cross-encoder: name one")
        self._shingles = Shingles(self.data.documents)

    def __len__(self) -> int:
        """Examples to mine for."""
        return len(self.data) if self.only is None else len(self.only)

    @property
    def blocks(self) -> int:
        return -(-len(self) // BLOCK)

    @property
    def scorer(self) -> Scorer | None:
        """What `Mined.scores` are scores of."""
        return self.cross_encoder or self.teacher

    def settings(self) -> dict[str, Any]:
        """All that the result depends on, as JSON values."""
        return {
            "data": data_digest(self.data),
            "sources": [source.identity for source in self.sources],
            "options": asdict(self.options),
            "teacher": self.teacher and self.teacher.identity,
            "cross_encoder": self.cross_encoder and self.cross_encoder.identity,
            "only": rows_digest(self.only),
            "block": BLOCK,
        }

    def examples(self, block: int) -> Indices:
        """Rows of the examples of one block."""
        rows = np.arange(block * BLOCK, min((block + 1) * BLOCK, len(self)))
        return rows if self.only is None else self.only[rows]

    def mine(self, block: int) -> Mined:
        """Negatives of the examples of one block.

        Raises:
            InputError: a source or teacher gave a score that is not a number.
        """
        options = self.options
        examples = self.examples(block)
        positives = np.asarray(self.data.positives)[examples].astype(np.int64)
        relevant = [self.data.relevant[example] for example in examples.tolist()]

        ranked = self._ranked(examples, options.last_rank + max(map(len, relevant)))
        window, passed_by = rank_window(
            among(ranked, relevant), ranked >= 0, options.first_rank, options.last_rank
        )
        candidates = compress(ranked, window)[:, : options.last_rank - options.first_rank + 1]
        present = candidates >= 0
        equal, near = self._shingles.overlap(
            positives, candidates, wanted=present, jaccard=options.jaccard, containment=options.containment
        )
        passing = present & ~equal & ~near
        scores: NDArray[np.float32] | None = None
        close = np.zeros_like(present)
        if self.teacher is not None:
            scores = self._scores(self.teacher, examples, positives, np.where(passing, candidates, -1))
            margins = (options.absolute_margin, options.relative_margin, options.max_score)
            close = passing & too_close(scores[:, 1:], scores[:, 0], *margins)
            if options.below_positive and self.cross_encoder is None:
                close |= passing & (scores[:, 1:] > scores[:, :1])
        judged = np.full((len(examples), 1 + candidates.shape[1]), np.nan, np.float32)
        if self.cross_encoder is not None:
            judged[:, :1] = self._scores(self.cross_encoder, examples, positives, candidates[:, :0])

        def judge(now: Mask) -> Mask:
            assert self.cross_encoder is not None
            judged[:, 1:][now] = self.cross_encoder.pair_scores(examples, np.where(now, candidates, -1))[now]
            _check(judged[:, 1:], now, self.cross_encoder.name)
            limit = np.inf if options.max_cross_encoder_score is None else options.max_cross_encoder_score
            limits = np.minimum(judged[:, :1] if options.below_positive else np.inf, limit)
            return judged[:, 1:] > limits

        chosen, doubtful = pick(
            passing & ~close,
            self._order(block, candidates.shape),
            options.num_negatives,
            judge if self.cross_encoder is not None else None,
        )
        if self.cross_encoder is not None:
            scores = judged
        kept = chosen.sum(1)
        counts = dict(zip(COUNTS, (passed_by, equal, near, close, doubtful), strict=True))
        return Mined(
            negatives=compress(candidates, chosen)[:, : options.num_negatives].astype(np.int32),
            scores=None if scores is None else _chosen_scores(scores, chosen, options.num_negatives),
            counts={
                "candidates": int(present.sum() + passed_by.sum()),
                **{name: int(mask.sum()) for name, mask in counts.items()},
                "kept": int(kept.sum()),
                "queries": len(examples),
                "fewer": int((kept < options.num_negatives).sum()),
                "none": int((kept == 0).sum()),
            },
        )

    def _ranked(self, examples: Indices, depth: int) -> Indices:
        """The sources' rankings united; a query that several examples share is searched once."""
        texts = [self.data.queries[example] for example in examples.tolist()]
        first: dict[str, int] = {}
        place = np.array([first.setdefault(text, len(first)) for text in texts])
        searched = examples[np.unique(place, return_index=True)[1]]
        k = min(depth, len(self.data.documents))
        return union_by_rank([source.search(searched, k) for source in self.sources])[place]

    def _order(self, block: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """The order in which candidates are taken: by rank, or drawn."""
        if not self.options.sample:
            return np.broadcast_to(np.arange(shape[1]), shape)
        # Drawn for the full window, so that a candidate's chance does not hang on how many there are.
        width = self.options.last_rank
        keys = np.random.default_rng((self.options.seed, block)).random((shape[0], width))[:, : shape[1]]
        return np.argsort(np.argsort(keys, axis=1), axis=1)

    @staticmethod
    def _scores(
        scorer: Scorer, examples: Indices, positives: Indices, candidates: Indices
    ) -> NDArray[np.float32]:
        """Scores of the positive (first column) and the candidates."""
        rows = np.column_stack([positives, candidates])
        scores = scorer.pair_scores(examples, rows)
        _check(scores, rows >= 0, scorer.name)
        return scores


def _check(scores: NDArray[np.float32], asked: Mask, name: str) -> None:
    if not np.isfinite(scores[asked]).all():
        raise InputError(f"{name} gave a score that is not a number; its weights may be damaged")


def _chosen_scores(scores: NDArray[np.float32], chosen: Mask, count: int) -> NDArray[np.float32]:
    """Scores [queries, 1 + candidates] of the positive and the chosen ones, NaN behind."""
    order = np.argsort(~chosen, axis=1, kind="stable")[:, :count]
    picked = np.where(chosen, scores[:, 1:], np.float32(np.nan))
    return np.column_stack([scores[:, 0], np.take_along_axis(picked, order, 1)])


def rows_digest(rows: Indices | None) -> str | None:
    """sha256 of rows; None of None, which stands for all."""
    return None if rows is None else hashlib.sha256(np.asarray(rows, dtype="<i8").tobytes()).hexdigest()


def data_digest(data: TrainingSet) -> str:
    """sha256 of the texts and of what is known about them."""
    digest = hashlib.sha256(np.asarray(data.positives, dtype="<i8").tobytes())
    for texts in (data.queries, data.documents):
        add_texts(digest, texts)
    if not isinstance(data.relevant, RelevantRows):  # which follow from queries and positives
        for known in data.relevant:
            digest.update(np.array([len(known), *sorted(known)], dtype="<i8").tobytes())
    return digest.hexdigest()
