"""Heterogeneous ensemble distillation (arXiv 2411.04403, equations 8 and 9)."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from neural_sparse.errors import InputError, refuse_one_string
from neural_sparse.teachers.cache import MEMORY, TeacherCache
from neural_sparse.teachers.cross_encoder import CrossEncoderTeacher
from neural_sparse.teachers.dense import DenseTeacher
from neural_sparse.teachers.equations import Combination
from neural_sparse.teachers.sparse import SparseTeacher
from neural_sparse.teachers.teacher import PreparedTeacher, Teacher

logger = logging.getLogger(__name__)


class PreparedEnsemble:
    """Teachers that have seen fixed lists of queries and documents (row numbers from here on).

    Attributes:
        teachers: The prepared teachers, in order; those of kinds dense, sparse and BM25 offer
            `query_vectors()` and `document_vectors()`, so that each can be judged as a retriever.
        weights: One per teacher.
        scale: The constant S.
    """

    def __init__(self, teachers: Sequence[PreparedTeacher], weights: Sequence[float], scale: float) -> None:
        self.teachers = list(teachers)
        self.weights = list(weights)
        self.scale = scale
        self._warned = False

    def teacher_scores(
        self, query_rows: ArrayLike, doc_rows: ArrayLike, own: ArrayLike
    ) -> list[tuple[Tensor, Tensor]]:
        """Per teacher: raw scores float32 [B, M], and which of them it knows, bool [B, M]."""
        rows = np.asarray(query_rows, dtype=np.int64), np.asarray(doc_rows, dtype=np.int64)
        candidates = np.asarray(own, dtype=np.bool_)
        results = []
        for teacher in self.teachers:
            scores, mask = teacher.scores(*rows, candidates)
            results.append((torch.from_numpy(scores), torch.from_numpy(mask)))
        return results

    def scores(self, query_rows: ArrayLike, doc_rows: ArrayLike, own: ArrayLike) -> tuple[Tensor, Tensor]:
        """The target of distillation for one batch.

        Args:
            query_rows: int64 [B].
            doc_rows: int64 [M], the documents of the whole batch.
            own: bool [B, M], each query's own candidates. Teachers that score pairs (cross-encoder,
                precomputed) know only these, and are placed among the scores of the others, which know all M.

        Returns:
            Scores in [0, S], float32 [B, M], and which of them any teacher knows, bool [B, M].
        """
        self._warn_about_short_lists(np.asarray(own, dtype=np.bool_))
        return Combination(self.teacher_scores(query_rows, doc_rows, own)).at(self.weights, self.scale)

    def _warn_about_short_lists(self, own: NDArray[np.bool_]) -> None:
        if self._warned or any(teacher.in_batch for teacher in self.teachers):
            return
        shortest = int(own.sum(axis=1).min(initial=own.shape[1]))
        if shortest < 3:
            self._warned = True
            logger.warning(_SHORT_LIST, shortest)


_SHORT_LIST = (
    "a list of %d candidates is normalised to scores of exactly 0 and 1, a hard label; give every query at "
    "least 3 candidates, or add a teacher that scores the whole batch (dense, sparse, BM25)"
)


class EnsembleTeacher:
    """Teachers of different kinds whose normalised scores are averaged and scaled.

    Args:
        dense_teacher_name, sparse_teacher_name: Hub ids, folders, or folders inside installed packages.
        dense_weight, sparse_weight, cross_encoder_weight: Weights of equation 9; only their ratio matters.
        scale_constant: S of equation 9 (10 in pre-training, 30 in fine-tuning).
        cross_encoder_name: A cross-encoder that scores each query's own candidates.
        teachers: More teachers, each with its weight.
        cache_dir: Where vectors are kept; None keeps them in memory.
        memory: Bytes of vectors kept there; those made longest ago are made again when they are needed.
        device: Of the models, and of what `score` returns.
        batch_size, max_length, precision: Of the named models.
        trust_remote_code: Names of the models whose own code may be run.

    Raises:
        InputError: no teacher, a weight that is negative or not finite, weights that are all 0, a scale that
            is not positive.
    """

    def __init__(
        self,
        dense_teacher_name: str | None = None,
        sparse_teacher_name: str | None = None,
        dense_weight: float = 0.5,
        sparse_weight: float = 0.5,
        scale_constant: float = 30.0,
        cross_encoder_name: str | None = None,
        cross_encoder_weight: float = 0.5,
        teachers: Sequence[tuple[Teacher, float]] = (),
        cache_dir: str | Path | None = None,
        memory: int = MEMORY,
        device: str | torch.device | None = None,
        batch_size: int | None = None,
        max_length: int = 512,
        precision: str = "float32",
        trust_remote_code: Collection[str] = (),
    ) -> None:
        self.device = None if device is None else str(device)
        self.scale = float(scale_constant)
        self.cache = TeacherCache(cache_dir, memory=memory)
        self._warned = False
        named: list[tuple[Teacher, float]] = []
        kinds: list[tuple[type[DenseTeacher | SparseTeacher | CrossEncoderTeacher], str | None, float]] = [
            (DenseTeacher, dense_teacher_name, dense_weight),
            (SparseTeacher, sparse_teacher_name, sparse_weight),
            (CrossEncoderTeacher, cross_encoder_name, cross_encoder_weight),
        ]
        for kind, name, weight in kinds:
            if name is not None:
                teacher = kind(
                    name,
                    batch_size=batch_size,
                    device=self.device,
                    max_length=max_length,
                    precision=precision,
                    trust_remote_code=name in trust_remote_code,
                )
                named.append((teacher, weight))
        self.teachers = [teacher for teacher, _ in (*named, *teachers)]
        self.weights = [float(weight) for _, weight in (*named, *teachers)]
        _check(self.teachers, self.weights, self.scale)

    def prepare(
        self, queries: Sequence[str], documents: Sequence[str], pairs: ArrayLike | None = None
    ) -> PreparedEnsemble:
        """Encode every text that the cache does not hold yet, once per teacher.

        Args:
            queries, documents: What the row numbers of `PreparedEnsemble.scores` count.
            pairs: int64 [P, 2], the (query row, document row) pairs a cross-encoder has to score.

        Raises:
            InputError: no text, a text that is no str, a model that cannot be loaded, a full disk.
        """
        refuse_one_string(queries, "queries")
        refuse_one_string(documents, "documents")
        if not len(queries) or not len(documents):
            raise InputError("teachers need at least one query and one document")
        wanted = None if pairs is None else np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
        prepared = [teacher.prepare(queries, documents, wanted, self.cache) for teacher in self.teachers]
        return PreparedEnsemble(prepared, self.weights, self.scale)

    def score(self, queries: list[str], documents: list[str] | list[list[str]]) -> Tensor:
        """Normalised, weighted and scaled scores, for a training loop of your own.

        Args:
            queries: [B].
            documents: Either M documents, all scored for each query, or a list of C candidates per query.

        Returns:
            float32 [B, M] or [B, C]; NaN where no teacher knows the score.

        Raises:
            InputError: lists of different lengths, or not one list per query.
        """
        refuse_one_string(queries, "queries")
        refuse_one_string(documents, "documents")
        lists = [[text] if isinstance(text, str) else list(text) for text in documents]
        flat = [text for texts in lists for text in texts]
        in_batch = all(isinstance(text, str) for text in documents)
        if not in_batch and (len(lists) != len(queries) or len({len(texts) for texts in lists}) != 1):
            raise InputError(
                f"expected one list of candidates per query, all of one length: got {len(queries)} queries, "
                f"{len(lists)} lists, of lengths {sorted({len(texts) for texts in lists})}"
            )
        total = np.arange(len(flat))
        own = np.ones((len(queries), len(flat)), dtype=np.bool_)
        if not in_batch:
            own = total[None, :] // len(lists[0]) == np.arange(len(queries))[:, None]
        prepared = self.prepare(queries, flat, pairs=np.argwhere(own))
        raw = prepared.teacher_scores(np.arange(len(queries)), total, own)
        listed = [(scores, mask & torch.from_numpy(own)) for scores, mask in raw]
        if own.sum(1).min() < 3 and not self._warned:
            self._warned = True
            logger.warning(_SHORT_LIST, own.sum(1).min())
        target, mask = Combination(listed).at(self.weights, self.scale)
        target = target.masked_fill(~mask, torch.nan)
        if not in_batch:
            target = target[torch.from_numpy(own)].reshape(len(queries), -1)
        return target.to(self.device or "cpu")


def _check(teachers: Sequence[Teacher], weights: Sequence[float], scale: float) -> None:
    if not teachers:
        raise InputError(
            "an ensemble needs at least one teacher: name a dense or sparse one, or pass teachers="
        )
    if not all(np.isfinite(weight) and weight >= 0 for weight in weights) or sum(weights) <= 0:
        raise InputError(f"teacher weights must be finite, not negative and not all 0, got {weights}")
    if not (np.isfinite(scale) and scale > 0):
        raise InputError(f"scale_constant must be positive, got {scale}")
