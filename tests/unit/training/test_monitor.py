"""Dimensions over documents, and what stops a run."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
import torch

from neural_sparse.config import read_recipe
from neural_sparse.errors import InputError
from neural_sparse.training.monitor import (
    PATIENCE,
    WINDOW,
    CollapseGuard,
    DimensionMonitor,
    teacher_agreement,
)


def test_dimensions_are_those_of_the_documents_since_the_last_call() -> None:
    rng = np.random.default_rng(0)
    real = torch.ones(40, dtype=torch.bool)
    real[:3] = False
    monitor = DimensionMonitor(real)
    for _ in range(2):
        dense = rng.random((12, 40)) * (rng.random((12, 40)) < 0.06)
        dense[:, 5] = 1
        for rows in (dense[:5], dense[5:]):
            monitor.update(torch.from_numpy(rows))
        found = (dense[:, 3:] > 0).mean(0)
        figures = monitor.take()
        assert figures["dead_dimensions"] == pytest.approx((found == 0).mean())
        assert figures["saturation"] == pytest.approx(np.sort(found)[-10:].mean())
    assert monitor.take() == {}


def test_agreement_counts_queries_with_something_to_compare() -> None:
    scores = torch.tensor([[1.0, 2, 9], [3, 2, 1], [0, 5, 1], [1, 0, 0]])
    targets = torch.tensor([[0.1, 0.9, 0], [0, 1, 0.5], [1, 0, 0], [1, 0, 0]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 0, 0], [0, 0, 0]], dtype=torch.bool)
    assert float(teacher_agreement(scores, targets, mask)) == 0.5
    assert teacher_agreement(scores[2:], targets[2:], mask[2:]).isnan()


PRESSED = (9.0, 1.0)  # lambda * FLOPS, and the rest of the loss


def run(
    terms: Iterable[float],
    vocabulary: int = 1000,
    ramp: int = 50,
    accumulation: int = 1,
    loss: tuple[float, float] = PRESSED,
    learning_rate: float = 2e-5,
) -> int | None:
    """Step at which the run is stopped."""
    guard = CollapseGuard(vocabulary, ramp)
    for step, value in enumerate(terms):
        for part in range(accumulation):
            try:
                # Micro-batches of a step differ, their mean is the step's.
                here = value * (1 + (part - (accumulation - 1) / 2) / 10)
                guard.check(step, here, "now lambda_flops=0.1", *loss, learning_rate)
            except InputError:
                return step
    return None


def test_the_message_names_the_keys() -> None:
    guard = CollapseGuard(1000, 50)
    for step in range(WINDOW - 1):
        guard.check(step, 0.0, "now 0.1", *PRESSED, 1e-5)
    with pytest.raises(InputError, match=r"become empty.*lambda_flops.*now 0\.1"):
        guard.check(WINDOW, 0.0, "now 0.1", *PRESSED, 1e-5)


def test_a_healthy_run_goes_on() -> None:
    rng = np.random.default_rng(0)
    assert run(list(150 * np.exp(-np.arange(500) / 200) + 30 + rng.normal(0, 5, 500))) is None
    assert run([0.0] * (WINDOW - 2) + [80.0] * 300) is None  # a few empty batches


def test_empty_documents_stop_it() -> None:
    stopped = run([120.0] * 60 + [0.0] * 200)
    assert stopped is not None
    assert 60 < stopped < 60 + 100


def test_growing_dense_stops_it() -> None:
    stopped = run([120.0] * 60 + [900.0] * 200)
    assert stopped is not None
    assert 60 < stopped < 60 + 100


def test_a_cold_start_may_be_dense_while_it_thins() -> None:
    assert run(list(1000 * np.exp(-np.arange(600) / 150))) is None
    stopped = run([1000.0] * 600)
    assert stopped is not None
    assert 50 + PATIENCE <= stopped <= 50 + PATIENCE + 2 * WINDOW


def test_dense_documents_under_little_pressure_are_told_of_and_no_collapse(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The recipe `pretrain` from a start that thins by a tenth in 50,000 steps, and one that does not thin."""
    recipe = read_recipe("pretrain")
    vocabulary, ramp = 105_879, recipe.num_steps // 3
    dense = vocabulary * 0.25  # FLOPS if every weight is 0.5
    loss = (recipe.lambda_flops * dense, 0.4)
    rng = np.random.default_rng(0)
    noise = rng.normal(1, 0.02, ramp + 2000)
    slow = 50_000 * 0.9 ** (np.arange(ramp + 2000) / 50_000)
    for terms in (slow * noise, 50_000 * noise):
        caplog.clear()
        assert run(terms, vocabulary, ramp, 1, loss, recipe.learning_rate) is None
        (told,) = caplog.messages  # once
        assert "FLOPS is 0.0026 of a loss of 0.403. That is meant so in pre-training" in told
    # Under the pressure of fine-tuning the same documents are stuck.
    loss = (0.02 * dense, 0.4)
    stopped = run(50_000 * noise, vocabulary, ramp, 1, loss, recipe.learning_rate)
    assert stopped is not None
    assert ramp + PATIENCE < stopped < ramp + PATIENCE + 5 * WINDOW


def test_a_loss_that_ranking_has_left_does_not_make_little_pressure_large() -> None:
    assert run([900.0] * 600, loss=(0.0026, 0.0001)) is None


def test_small_learning_rates_are_given_longer() -> None:
    """Two millionths need 1,000 steps to move weights as far as two hundred-thousandths do in 100."""
    thinning = 1000 * np.exp(-np.arange(900) / 900)  # by a tenth in 100 steps, hardly
    assert run(thinning * np.linspace(1, 1.2, 900), learning_rate=2e-6) is None
    stopped = run([1000.0] * 1500, learning_rate=2e-6)
    assert stopped is not None
    assert 50 + 1000 <= stopped <= 50 + 1000 + 3 * WINDOW
    assert run([1000.0] * 600, learning_rate=0.0) is None  # the doctor's, before the run


def test_pressure_counts_if_it_lasts() -> None:
    guard = CollapseGuard(1000, 50)
    for step in range(600):  # every ninth step has little
        guard.check(step, 900.0, "", *((0.1, 1.0) if step % 9 == 0 else PRESSED), 2e-5)


@pytest.mark.parametrize(
    "before",
    [
        [120.0] * 3,  # no warm-up: before the first window is full
        [200.0] * 60,  # sparse, but not by half of what counts as dense
        list(1000 * np.exp(-np.arange(300) / 60)),  # dense at first, sparse, dense again
    ],
    ids=["at once", "rather dense", "dense at first"],
)
def test_growing_dense_stops_it_whatever_the_start(before: list[float]) -> None:
    stopped = run([*before, *[900.0] * 400], ramp=10_000)
    assert stopped is not None
    assert len(before) < stopped < len(before) + 100


def test_micro_batches_are_no_steps() -> None:
    thinning = list(1000 * np.exp(-np.arange(600) / 150))
    assert run(thinning, accumulation=16) is None
    for terms in ([120.0] * 60 + [0.0] * 200, [120.0] * 60 + [900.0] * 200, [1000.0] * 600):
        once, often = run(terms), run(terms, accumulation=4)
        assert once is not None
        assert often is not None
        assert abs(once - often) <= 1
    assert run([120.0, 0.0, 120.0] * 60, accumulation=16) is None  # an empty step is not an empty run
