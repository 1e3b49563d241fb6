"""A sample of the vocabulary: ranking exact in each, sums and gradients those of the whole on average."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from neural_sparse.losses.flops import mean_weights
from neural_sparse.losses.idf_aware import IDFAwareLoss
from neural_sparse.losses.vocabulary_sample import (
    VocabularySample,
    VocabularySampler,
    most_frequent_first,
)

SIZE = 200
DRAWS = 400
QUERY_IDS = torch.tensor([[3, 150, 151, 3], [77, 2, 0, 0]])
QUERY_MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
ASKED = np.array([3, 150, 151, 77, 2])


@pytest.fixture(scope="module")
def idf() -> Tensor:
    generator = torch.Generator().manual_seed(5)
    weights = 9 * torch.rand(SIZE, generator=generator) + 0.1
    weights[:2] = 0.0  # special tokens
    weights[190:] = 1.0  # in no document
    return weights


def sampler(idf: Tensor, always: int = 10, drawn: int = 20) -> VocabularySampler:
    return VocabularySampler(most_frequent_first(idf), always, drawn, seed=7)


def problem() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    documents = torch.rand(6, SIZE, generator=generator, dtype=torch.float64)
    documents *= torch.rand(6, SIZE, generator=generator) < 0.4
    targets = torch.rand(6, SIZE, generator=generator) * (torch.rand(6, SIZE, generator=generator) < 0.2)
    rows, columns = targets.nonzero(as_tuple=True)
    return {
        "documents": documents,
        "teacher_scores": 20 * torch.rand(2, 6, generator=generator),
        "terms": (rows, columns, targets[rows, columns]),
    }


def test_most_frequent_first(idf: Tensor) -> None:
    order = most_frequent_first(idf)
    assert sorted(order) == list(range(SIZE))
    counted = idf.numpy()[order[:188]]
    assert (np.diff(counted) >= 0).all()
    assert set(order[188:]) == {0, 1, *range(190, 200)}  # neither special nor unseen tokens pass for frequent


def test_what_is_in_a_sample(idf: Tensor) -> None:
    draw = sampler(idf)
    certain = {*most_frequent_first(idf)[:10], *ASKED}
    for step in range(20):
        sample = draw.sample(step, ASKED)
        columns = sample.columns.tolist()
        assert columns == sorted(set(columns))
        weights = dict(zip(columns, sample.weights.tolist(), strict=True))
        assert certain <= set(columns)
        assert len(columns) == len(certain) + 20
        assert all(weights[token] == 1 for token in certain)  # never what their stratum would have weighed
        assert sample.weights.sum() == SIZE


def test_each_token_is_drawn_as_often_as_its_weight_says(idf: Tensor) -> None:
    draw = sampler(idf)
    seen, weighed = torch.zeros(SIZE), torch.zeros(SIZE)
    for step in range(DRAWS):
        sample = draw.sample(step, ASKED)
        seen[sample.columns] += 1
        weighed[sample.columns] += sample.weights
    assert (seen > 0).all()
    error = (
        (SIZE / 20 - 1) / DRAWS
    ) ** 0.5  # of the mean weight of a token that is drawn with probability 1/10
    assert ((weighed / DRAWS - 1).abs() < 5 * error).all()
    assert weighed.sum() == SIZE * DRAWS


def test_step_and_seed_decide_the_draw(idf: Tensor) -> None:
    def columns(seed: int, step: int) -> list[int]:
        order = most_frequent_first(idf)
        return VocabularySampler(order, 10, 20, seed).sample(step, ASKED).columns.tolist()

    assert columns(1, 5) == columns(1, 5)
    assert columns(1, 5) != columns(1, 6)
    assert columns(1, 5) != columns(2, 5)


@pytest.mark.parametrize(("always", "drawn"), [(0, 1), (200, 5), (0, 0), (10, 500), (0, 200)])
def test_edges(idf: Tensor, always: int, drawn: int) -> None:
    sample = sampler(idf, always, drawn).sample(0, np.array([4, 4]))
    assert 4 in sample.columns
    if drawn:
        assert sample.weights.sum() == SIZE
    if drawn >= 200 or always >= 200:
        assert torch.equal(sample.columns, torch.arange(SIZE))
        assert (sample.weights == 1).all()


def test_places_of_tokens() -> None:
    sample = VocabularySample(torch.tensor([2, 5, 9]), torch.tensor([1.0, 4.0, 7.0]))
    places, weights = sample.within(torch.tensor([9, 0, 5, 6, 11, 2]))
    assert weights.tolist() == [7, 0, 4, 0, 0, 1]
    assert places[weights > 0].tolist() == [2, 1, 0]


def losses(
    loss: IDFAwareLoss, given: dict[str, Any], sample: VocabularySample | None, query_weights: Tensor | None
) -> tuple[dict[str, Tensor], Tensor]:
    """Components, and the gradient of the whole in all of the documents' entries."""
    documents = given["documents"].clone().requires_grad_()
    seen = documents if sample is None else documents[:, sample.columns]
    parts = loss(
        QUERY_IDS,
        QUERY_MASK,
        seen,
        given["teacher_scores"],
        terms=given["terms"],
        query_weights=query_weights,
        sample=sample,
    )
    (gradient,) = torch.autograd.grad(parts["loss"], documents)
    return parts, gradient


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("trained_queries", [False, True])
def test_expectation_is_that_of_the_whole_vocabulary(
    idf: Tensor, weighted: bool, trained_queries: bool
) -> None:
    loss = IDFAwareLoss(idf, SIZE, 0.5, ramp_steps=0, frequency_weighted_flops=weighted, term_weight=0.3)
    query_weights = torch.rand(SIZE, generator=torch.Generator().manual_seed(2)) if trained_queries else None
    given, draw = problem(), sampler(idf)
    expected, gradient = losses(loss, given, None, query_weights)
    found: dict[str, list[Tensor]] = {"flops": [], "terms": [], "loss": []}
    total, squares = torch.zeros_like(gradient), torch.zeros_like(gradient)
    for step in range(DRAWS):
        parts, here = losses(loss, given, draw.sample(step, ASKED), query_weights)
        torch.testing.assert_close(parts["scores"], expected["scores"])
        torch.testing.assert_close(parts["ranking"], expected["ranking"])
        for name, values in found.items():
            values.append(parts[name].detach())
        total += here - gradient
        squares += (here - gradient) ** 2
    for name, values in found.items():
        drawn = torch.stack(values)
        error = drawn.std() / DRAWS**0.5
        assert 0 < error < 0.1 * expected[name]
        assert (drawn.mean() - expected[name]).abs() < 4 * error, name
    mean = total / DRAWS  # of the difference
    error = ((squares / DRAWS - mean**2).clamp(min=0) / DRAWS).sqrt()
    assert (mean.abs() <= 5 * error + 1e-9).all()  # of 1,200 entries, each drawn some 80 times
    assert (error[:, ASKED] < 1e-8).all()  # those of query tokens are exact
    assert (error > 1e-6).any()


def test_expectation_over_micro_batches(idf: Tensor) -> None:
    """FLOPS of an optimiser step of two micro-batches that share a sample."""
    given, draw = problem(), sampler(idf)
    whole = IDFAwareLoss(idf, SIZE, 0.5, ramp_steps=0, micro_batches=2)
    halves = given["documents"].split(3)

    def flops(sample: VocabularySample | None, step: int) -> Tensor:
        whole.step = step
        return sum(
            (whole._flops(half if sample is None else half[:, sample.columns], sample) for half in halves),
            torch.zeros(()),
        )

    expected = flops(None, 0)
    drawn = torch.stack([flops(draw.sample(step, ASKED), step) for step in range(1, DRAWS)])
    assert (drawn.mean() - expected).abs() < 4 * drawn.std() / DRAWS**0.5


def test_the_threshold_counts_what_columns_stand_for() -> None:
    vectors = torch.tensor([[1.0, 0, 1.0], [0, 1.0, 0]])
    counts = torch.tensor([1.0, 1.0, 9.0])
    assert mean_weights(vectors, 9, counts).tolist() == [0.5, 0, 0.5]
    assert mean_weights(vectors, 10, counts).tolist() == [0, 0, 0]


def test_columns_of_another_sample_are_refused(idf: Tensor) -> None:
    loss = IDFAwareLoss(idf, SIZE, 0.5)
    with pytest.raises(ValueError, match="200 columns for a sample"):
        loss(QUERY_IDS, QUERY_MASK, problem()["documents"], sample=sampler(idf).sample(0, ASKED))
