"""Ranking losses over a matrix of scores: every query against every passage of the batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from neural_sparse.model.precision import in_float32

# (student [queries, passages], teacher or None, mask, positive) -> scalar
RankingLoss = Callable[[Tensor, Tensor | None, Tensor, Tensor], Tensor]


@in_float32
def kl_divergence(student: Tensor, teacher: Tensor | None, mask: Tensor, positive: Tensor) -> Tensor:
    """KL(softmax(teacher) || softmax(student)), mean over queries (arXiv 2411.04403, section 4.2).

    Args:
        student: scores [queries, passages].
        teacher: target scores, same shape.
        mask: bool, same shape: which passages the teachers scored; the others are left out of both
            distributions. A query with no known passage costs nothing.
        positive: unused.

    >>> student = torch.tensor([[3.0, 1.0, 7.0]])
    >>> teacher = torch.tensor([[9.0, 6.0, 0.0]])
    >>> mask = torch.tensor([[True, True, False]])
    >>> kl_divergence(student, teacher, mask, torch.tensor([0]))
    tensor(0.0309)
    """
    teacher = _required(teacher, "kl")
    target = teacher.masked_fill(~mask, -torch.inf).log_softmax(1)
    predicted = student.masked_fill(~mask, -torch.inf).log_softmax(1)
    # -inf - -inf is NaN, also in the gradient of a masked product; so unknown entries are set to 0 first.
    gap = target.masked_fill(~mask, 0.0) - predicted.masked_fill(~mask, 0.0)
    return _mean_over_queries((target.exp() * gap).masked_fill(~mask, 0.0).sum(1), mask.any(1))


@in_float32
def margin_mse(student: Tensor, teacher: Tensor | None, mask: Tensor, positive: Tensor) -> Tensor:
    """Squared difference of student and teacher margins, positive minus other (arXiv 2010.02666).

    Mean over the known passages that are not the query's positive; shapes as in `kl_divergence`, with
    `positive` int64 [queries], the column of each query's own relevant passage.

    >>> student = torch.tensor([[3.0, 1.0, 7.0]])
    >>> teacher = torch.tensor([[9.0, 6.0, 0.0]])
    >>> mask = torch.tensor([[True, True, False]])
    >>> margin_mse(student, teacher, mask, torch.tensor([0]))  # ((3 - 1) - (9 - 6))^2
    tensor(1.)
    """
    teacher = _required(teacher, "margin_mse")
    column = positive[:, None]
    others = mask & mask.gather(1, column)
    others = others.scatter(1, column, False)
    student_margin = student.gather(1, column) - student
    teacher_margin = teacher.gather(1, column) - teacher
    squares = (student_margin - teacher_margin).masked_fill(~others, 0.0) ** 2
    return squares.sum() / others.sum().clamp(min=1)


@in_float32
def info_nce(student: Tensor, teacher: Tensor | None, mask: Tensor, positive: Tensor) -> Tensor:
    """Cross-entropy of the query's own positive among all passages of the batch (arXiv 1807.03748).

    Needs no teacher.

    >>> student = torch.tensor([[3.0, 1.0, 0.0]])
    >>> info_nce(student, None, torch.ones(1, 3, dtype=torch.bool), torch.tensor([0]))
    tensor(0.1698)
    """
    return torch.nn.functional.cross_entropy(student, positive)


RANKING_LOSSES: dict[str, RankingLoss] = {"kl": kl_divergence, "margin_mse": margin_mse, "info_nce": info_nce}
NEEDS_TEACHER = frozenset({"kl", "margin_mse"})


def _required(teacher: Tensor | None, name: str) -> Tensor:
    if teacher is None:
        raise ValueError(f"the ranking loss {name!r} needs teacher scores; without a teacher use 'info_nce'")
    return teacher


def _mean_over_queries(losses: Tensor, counts: Tensor) -> Tensor:
    return losses.sum() / counts.sum().clamp(min=1)
