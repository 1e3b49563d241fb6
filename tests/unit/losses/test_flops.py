"""FLOPS and its schedule by hand."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from neural_sparse.losses.flops import document_frequency_weights, flops_loss, quadratic_ramp
from neural_sparse.losses.idf_aware import IDFAwareLoss

DOCUMENTS = torch.tensor([[1.0, 0.0, 2.0], [3.0, 0.0, 0.0]])


def test_by_hand() -> None:
    assert flops_loss(DOCUMENTS) == 2.0**2 + 0 + 1.0**2
    weights = torch.tensor([0.5, 7.0, 3.0])
    assert flops_loss(DOCUMENTS, weights) == 0.5 * 4 + 3 * 1


def test_gradient_is_twice_the_mean_over_the_number_of_documents() -> None:
    documents = torch.rand(
        5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    ).requires_grad_()
    (pull,) = torch.autograd.grad(flops_loss(documents), documents)
    torch.testing.assert_close(pull, (2 * documents.mean(0) / 5).expand(5, 7))
    weights = torch.rand(7, dtype=torch.float64)
    (pull,) = torch.autograd.grad(flops_loss(documents, weights), documents)
    torch.testing.assert_close(pull, (2 * weights * documents.mean(0) / 5).expand(5, 7))


def test_agrees_with_sentence_transformers() -> None:
    from sentence_transformers.sparse_encoder.losses import FlopsLoss

    documents = torch.rand(6, 11, generator=torch.Generator().manual_seed(1))
    theirs = FlopsLoss(torch.nn.Identity()).compute_loss_from_embeddings(documents)
    torch.testing.assert_close(flops_loss(documents), theirs)


def test_threshold_presses_long_documents_only() -> None:
    documents = DOCUMENTS.clone().requires_grad_()  # two terms and one
    loss = flops_loss(documents, l0_threshold=1)
    assert loss == 0.5**2 + 0 + 1.0**2  # the mean is still over both
    (pull,) = torch.autograd.grad(loss, documents)
    assert (pull[1] == 0).all()
    assert pull[0, 0] == 2 * 0.5 / 2
    assert flops_loss(documents, l0_threshold=2) == 0  # more terms than the threshold, not as many
    assert flops_loss(documents, l0_threshold=0) == flops_loss(documents)


@pytest.mark.parametrize(
    ("step", "steps", "expected"),
    [(0, 10, 0.0), (5, 10, 0.25), (10, 10, 1.0), (99, 10, 1.0), (0, 0, 1.0), (3, -1, 1.0), (1, 3, 1 / 9)],
)
def test_ramp(step: int, steps: int, expected: float) -> None:
    assert quadratic_ramp(step, steps) == pytest.approx(expected)


def test_frequency_weights_follow_document_frequency() -> None:
    """e^-idf is the share of documents that hold the token: 3 of 4, 1 of 4, about none."""
    idf = torch.tensor([4 / 3, 4.0, 1e9]).log()
    torch.testing.assert_close(document_frequency_weights(idf), torch.tensor([8.5, 3.5, 1.0]))


def test_tokens_that_no_document_holds_are_pressed_as_rare_ones() -> None:
    """They weigh 1.0 in queries, which is not the IDF of a token in e^-1 of the documents."""
    weights = document_frequency_weights(torch.tensor([1.0, 0.0, 1.0 + 1e-6, 0.25]))
    torch.testing.assert_close(weights, torch.tensor([1.0, 1.0, 4.679, 8.788]), atol=1e-3, rtol=0)
    weights = document_frequency_weights(torch.tensor([1.0, 0.25]), default_idf=0.25)
    torch.testing.assert_close(weights, torch.tensor([4.679, 1.0]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("micro_batches", [2, 3, 4])
@pytest.mark.parametrize("settings", [{}, {"l0_threshold": 4, "frequency_weighted_flops": True}])
def test_micro_batches_press_as_the_whole_batch(micro_batches: int, settings: dict[str, Any]) -> None:
    """The value in any order; the gradient on average over all orders, and in each for terms of one micro-batch."""
    generator = torch.Generator().manual_seed(micro_batches)
    size, vocabulary = 3, 9
    vectors = torch.rand(micro_batches * size, vocabulary, generator=generator, dtype=torch.float64)
    vectors *= torch.rand(vectors.shape, generator=generator) < 0.6
    vectors[:, 0] = 0
    vectors[0, 0] = 2.0  # a rare term
    vectors.requires_grad_()
    idf = torch.linspace(0.5, 4, vocabulary)
    whole = IDFAwareLoss(idf, vocabulary, 1.0, ranking="info_nce", ramp_steps=0, **settings)
    parts = IDFAwareLoss(
        idf, vocabulary, 1.0, ranking="info_nce", ramp_steps=0, micro_batches=micro_batches, **settings
    )
    query = torch.tensor([[1]]), torch.ones(1, 1)
    expected = whole(*query, vectors)["flops"]
    (pull,) = torch.autograd.grad(expected, vectors)
    pulls = []
    for step, order in enumerate(itertools.permutations(range(micro_batches))):
        parts.step = step  # what an earlier step held is forgotten
        flops = torch.stack(
            [parts(*query, vectors[part * size : (part + 1) * size])["flops"] for part in order]
        ).mean()
        torch.testing.assert_close(flops, expected)
        pulls += torch.autograd.grad(flops, vectors)
        torch.testing.assert_close(pulls[-1][0, 0], pull[0, 0])
    torch.testing.assert_close(torch.stack(pulls).mean(0), pull)
