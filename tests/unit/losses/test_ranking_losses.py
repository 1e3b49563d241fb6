"""Ranking losses against torch's own and against loops; rows and entries without a target."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from neural_sparse.losses.ranking import (
    NEEDS_TEACHER,
    RANKING_LOSSES,
    info_nce,
    kl_divergence,
    margin_mse,
)

ANY = torch.zeros(3, dtype=torch.long)


def problem(seed: int, queries: int = 3, passages: int = 6) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student = 5 * torch.randn(queries, passages, generator=generator, dtype=torch.float64)
    teacher = 30 * torch.rand(queries, passages, generator=generator, dtype=torch.float64)
    mask = torch.rand(queries, passages, generator=generator) < 0.6
    positive = torch.randint(0, passages, (queries,), generator=generator)
    return student.requires_grad_(), teacher, mask, positive


def gradient(loss: Tensor, leaf: Tensor) -> Tensor:
    return torch.autograd.grad(loss, leaf)[0]


class TestKl:
    @pytest.mark.parametrize("seed", range(5))
    def test_equals_torch(self, seed: int) -> None:
        student, teacher, mask, positive = problem(seed)
        ours = kl_divergence(student, teacher, torch.ones_like(mask), positive)
        theirs = F.kl_div(student.log_softmax(1), teacher.softmax(1), reduction="batchmean")
        torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(gradient(ours, student), gradient(theirs, student))

    @pytest.mark.parametrize("seed", range(5))
    def test_unknown_entries_are_left_out_of_both_sides(self, seed: int) -> None:
        student, teacher, mask, positive = problem(seed)
        mask[:, 0] = True
        ours = kl_divergence(student, teacher.masked_fill(~mask, torch.nan), mask, positive)
        rows = [
            F.kl_div(s[k].log_softmax(0), t[k].softmax(0), reduction="sum")
            for s, t, k in zip(student, teacher, mask, strict=True)
        ]
        theirs = torch.stack(rows).mean()
        torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(gradient(ours, student), gradient(theirs, student))

    def test_a_row_with_nothing_known_costs_nothing(self) -> None:
        student, teacher, mask, positive = problem(0)
        mask[:] = True
        alone = kl_divergence(student[:2], teacher[:2], mask[:2], positive[:2])
        mask[2] = False
        with_empty = kl_divergence(student, teacher, mask, positive)
        torch.testing.assert_close(with_empty, alone)  # the mean is over queries that have a target
        pull = gradient(with_empty, student)
        assert pull.isfinite().all()
        assert (pull[2] == 0).all()

    def test_nothing_known_at_all(self) -> None:
        student, teacher, mask, positive = problem(0)
        loss = kl_divergence(student, teacher, torch.zeros_like(mask), positive)
        assert loss == 0
        assert (gradient(loss, student) == 0).all()

    def test_one_candidate_teaches_nothing(self) -> None:
        student, teacher, mask, positive = problem(0, passages=1)
        loss = kl_divergence(student, teacher, torch.ones_like(mask), positive)
        assert loss == 0
        assert (gradient(loss, student) == 0).all()

    def test_a_constant_teacher_wants_equal_scores(self) -> None:
        student, _, mask, positive = problem(0)
        flat, mask = torch.full_like(student, 7.0).detach(), torch.ones_like(mask)
        loss = kl_divergence(student, flat, mask, positive)
        torch.testing.assert_close(gradient(loss, student), (student.softmax(1) - 1 / 6) / 3)
        assert kl_divergence(flat, flat, mask, positive).abs() < 1e-12

    def test_scores_far_apart_stay_finite(self) -> None:
        student = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
        teacher = torch.tensor([[0.0, 30.0, 0.0]])
        mask = torch.tensor([[True, True, False]])
        loss = kl_divergence(student, teacher, mask, ANY[:1])
        assert loss.isfinite()
        assert gradient(loss, student).isfinite().all()


class TestMarginMse:
    @pytest.mark.parametrize("seed", range(5))
    def test_equals_a_loop(self, seed: int) -> None:
        student, teacher, mask, positive = problem(seed)
        mask[0, positive[0]] = False  # without a target for its positive a query has no margin
        mask[1, positive[1]] = True
        squares = []
        for row in range(3):
            own = int(positive[row])
            for passage in range(6):
                if passage != own and mask[row, passage] and mask[row, own]:
                    ours = student[row, own] - student[row, passage]
                    theirs = teacher[row, own] - teacher[row, passage]
                    squares.append((ours - theirs) ** 2)
        expected = torch.stack(squares).mean()
        loss = margin_mse(student, teacher, mask, positive)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(gradient(loss, student), gradient(expected, student))

    def test_by_hand(self) -> None:
        student = torch.tensor([[4.0, 1.0, 3.0]])
        teacher = torch.tensor([[10.0, 9.0, 4.0]])
        mask = torch.ones(1, 3, dtype=torch.bool)
        # margins 3 against 1, and 1 against 6
        assert margin_mse(student, teacher, mask, torch.tensor([0])) == pytest.approx((4 + 25) / 2)

    def test_nothing_masks(self) -> None:
        student, teacher, mask, positive = problem(0)
        loss = margin_mse(student, teacher.masked_fill(mask, torch.nan) * 0, torch.zeros_like(mask), positive)
        assert loss == 0
        assert (gradient(loss, student) == 0).all()


class TestInfoNce:
    def test_by_hand(self) -> None:
        student = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])
        mask = torch.ones(2, 2, dtype=torch.bool)
        loss = info_nce(student, None, mask, torch.tensor([0, 1]))
        assert loss == pytest.approx((-math.log(3 / 4) - math.log(1 / 2)) / 2)

    def test_gradient(self) -> None:
        student, _, mask, positive = problem(1)
        loss = info_nce(student, None, mask, positive)
        expected = (student.softmax(1) - F.one_hot(positive, 6)) / 3
        torch.testing.assert_close(gradient(loss, student), expected)


@pytest.mark.parametrize("name", sorted(RANKING_LOSSES))
def test_which_need_a_teacher(name: str) -> None:
    student, _, mask, positive = problem(0)
    if name in NEEDS_TEACHER:
        with pytest.raises(ValueError, match=f"{name!r} needs teacher scores"):
            RANKING_LOSSES[name](student, None, mask, positive)
    else:
        assert RANKING_LOSSES[name](student, None, mask, positive).isfinite()
