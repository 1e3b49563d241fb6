"""The distance between documents and their terms, against the formula with dense targets."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from neural_sparse import IDFAwareLoss
from neural_sparse.losses.flops import term_loss


def plain(vectors: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """|w (v - T)|^2 / |w T|^2 of each document that has a target, then the mean."""
    found = [
        ((weights * (v - t)) ** 2).sum() / ((weights * t) ** 2).sum()
        for v, t in zip(vectors, targets, strict=True)
        if ((weights * t) ** 2).sum() > 0
    ]
    return torch.stack(found).mean() if found else vectors.sum() * 0


def entries(targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    rows, columns = targets.nonzero(as_tuple=True)
    return rows, columns, targets[rows, columns]


@pytest.mark.parametrize("seed", range(20))
def test_equals_the_formula(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    documents, vocabulary = (int(torch.randint(1, most, (), generator=generator)) for most in (7, 40))
    shape = documents, vocabulary
    vectors = torch.rand(shape, generator=generator, dtype=torch.float64).requires_grad_()
    targets = torch.rand(shape, generator=generator, dtype=torch.float64)
    targets *= torch.rand(shape, generator=generator) < 0.3
    targets[torch.rand(documents, generator=generator) < 0.2] = 0  # an empty text
    weights = 9 * torch.rand(vocabulary, generator=generator, dtype=torch.float64)
    weights[torch.rand(vocabulary, generator=generator) < 0.2] = 0  # special tokens

    ours, theirs = term_loss(vectors, *entries(targets), weights), plain(vectors, targets, weights)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        *(torch.autograd.grad(value, vectors)[0] for value in (ours, theirs)), rtol=1e-9, atol=1e-10
    )


def test_scale_of_the_values() -> None:
    weights, targets = torch.tensor([1.0, 5.0, 9.0]), torch.tensor([[0.0, 2.0, 1.0], [0.0, 0.0, 0.0]])
    assert term_loss(targets, *entries(targets), weights) == pytest.approx(0.0, abs=1e-6)
    assert term_loss(torch.zeros(2, 3), *entries(targets), weights) == 1.0
    assert term_loss(torch.ones(2, 3), *entries(torch.zeros(2, 3)), weights) == 0.0  # no target at all


def test_joins_the_training_loss_with_its_weight() -> None:
    generator = torch.Generator().manual_seed(0)
    documents = torch.rand(4, 20, generator=generator)
    targets = torch.rand(4, 20, generator=generator) * (torch.rand(4, 20, generator=generator) < 0.3)
    idf = torch.linspace(0, 9, 20)
    given = torch.tensor([[1, 2], [3, 4]]), torch.ones(2, 2), documents, torch.rand(2, 4, generator=generator)
    loss = IDFAwareLoss(idf, 20, 0.1, ramp_steps=0, term_weight=3.0)
    without, parts = loss(*given), loss(*given, terms=entries(targets))
    assert "terms" not in without
    torch.testing.assert_close(parts["terms"], plain(documents, targets, idf))
    torch.testing.assert_close(parts["loss"], without["loss"] + 3 * parts["terms"])
