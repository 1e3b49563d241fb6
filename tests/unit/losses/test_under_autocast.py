"""Every loss inside an autocast region: values and gradients are those outside of it, to the last bit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from neural_sparse import IDFAwareLoss
from neural_sparse.losses.flops import flops_loss, term_loss
from neural_sparse.losses.idf_aware import idf_scores
from neural_sparse.losses.ranking import RANKING_LOSSES
from neural_sparse.training.cost_target import CostTarget
from neural_sparse.training.monitor import teacher_agreement

QUERIES, DOCUMENTS, VOCABULARY = 4, 12, 60
GENERATOR = torch.Generator().manual_seed(0)
IDF = torch.linspace(0, 9, VOCABULARY)
IDS = torch.randint(0, VOCABULARY, (QUERIES, 9), generator=GENERATOR)
MASK = torch.rand(QUERIES, 9, generator=GENERATOR) < 0.8
TARGETS = 80 + 9 * torch.rand(QUERIES, DOCUMENTS, generator=GENERATOR)
KNOWN = torch.rand(QUERIES, DOCUMENTS, generator=GENERATOR) < 0.8
POSITIVE = torch.tensor([0, 3, 6, 9])
TERMS = (torch.arange(DOCUMENTS), torch.arange(DOCUMENTS) + 7, torch.rand(DOCUMENTS, generator=GENERATOR))


def vectors() -> Tensor:
    """Documents [12, 60] with scores about 80 with these queries."""
    return 5 * torch.rand(DOCUMENTS, VOCABULARY, generator=torch.Generator().manual_seed(1))


def whole(documents: Tensor) -> Tensor:
    loss = IDFAwareLoss(
        IDF, VOCABULARY, 0.3, ranking={"kl": 1.0, "margin_mse": 0.1, "info_nce": 0.5}, ramp_steps=0,
        frequency_weighted_flops=True,
    )  # fmt: skip
    weights = IDF * documents[0].detach()  # not IDF, but trained
    return loss(IDS, MASK, documents, TARGETS, KNOWN, POSITIVE, query_weights=weights, terms=TERMS)["loss"]


def ranking(name: str) -> Callable[[Tensor], Tensor]:
    return lambda documents: RANKING_LOSSES[name](documents[:QUERIES, :DOCUMENTS], TARGETS, KNOWN, POSITIVE)


LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "scores": lambda documents: idf_scores(IDS, MASK, IDF, documents),
    "flops": flops_loss,
    "flops of long documents": lambda documents: flops_loss(documents, 1 + IDF, l0_threshold=20),
    "terms": lambda documents: term_loss(documents, *TERMS, IDF),
    "the whole": whole,
    **{name: ranking(name) for name in RANKING_LOSSES},
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_is_what_it_is_outside(name: str, dtype: torch.dtype) -> None:
    documents = vectors().to(dtype).requires_grad_()
    wide = documents.detach().to(torch.promote_types(dtype, torch.float32)).requires_grad_()
    expected = LOSSES[name](wide)
    expected.sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        found = LOSSES[name](documents)
        assert torch.is_autocast_enabled("cpu")  # and left as it was
    found.sum().backward()
    assert found.dtype == expected.dtype == wide.dtype or name == "the whole"
    assert torch.equal(found, expected)
    assert documents.grad is not None
    assert wide.grad is not None
    assert torch.equal(documents.grad, wide.grad.to(dtype))


def test_scores_of_88_are_not_rounded() -> None:
    """A query of one token of weight 8 and documents a hundredth apart: bfloat16 has nothing between 88 and 88.5."""
    documents = torch.tensor([[11.0], [11.01], [11.02]], requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        scores = idf_scores(
            torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1), torch.tensor([8.0]), documents
        )
    assert scores[0].tolist() == pytest.approx([88.0, 88.08, 88.16])


def test_statistics_too() -> None:
    loss = IDFAwareLoss(IDF, VOCABULARY, 0.3, ramp_steps=0)
    share = torch.rand(VOCABULARY, generator=torch.Generator().manual_seed(2))
    inside, outside = (CostTarget(loss, share, 1.0, 10) for _ in range(2))
    documents = vectors() * (vectors() > 1)
    outside.see(documents, lambda: documents)
    with torch.autocast("cpu", torch.bfloat16):
        inside.see(documents, lambda: documents)
        agreement = teacher_agreement(TARGETS + IDF[:DOCUMENTS], TARGETS, KNOWN)
    assert torch.equal(inside._seen, outside._seen)
    assert inside.ratio == outside.ratio
    assert agreement == teacher_agreement(TARGETS + IDF[:DOCUMENTS], TARGETS, KNOWN)
