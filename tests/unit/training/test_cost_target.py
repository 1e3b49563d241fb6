"""The estimate of evaluation FLOPS, and the control of lambda by it."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from neural_sparse.config import recipe_from_dict
from neural_sparse.errors import InputError
from neural_sparse.evaluation.cost import flops_metric, term_share
from neural_sparse.losses.idf_aware import IDFAwareLoss
from neural_sparse.training.cost_target import LARGEST_CHANGE, RATIO_EVERY, CostTarget, LambdaControl

NOTHING: Any = None


def vectors(rng: np.random.Generator, rows: int, share: float = 0.3) -> torch.Tensor:
    return torch.from_numpy(rng.random((rows, 30)) * (rng.random((rows, 30)) < share)).float()


def target(queries: torch.Tensor, ramp: int = 0, flops: float = 1.0, steps: int = 100) -> CostTarget:
    loss = IDFAwareLoss(torch.ones(30), 30, 0.01, ramp_steps=ramp)
    share = torch.from_numpy(term_share(sp.csr_matrix(queries.numpy())))
    return CostTarget(loss, share, flops, steps)


def step(cost: CostTarget, number: int, *documents: torch.Tensor) -> None:
    cost.loss.step = number
    for part in documents:
        cost.see(part, lambda part=part: part)
    cost.on_optimizer_step(NOTHING, NOTHING, NOTHING)


@pytest.mark.parametrize("parts", [(40,), (7, 13, 20)])
def test_the_estimate_is_the_metric_of_evaluation(parts: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    queries, documents = vectors(rng, 9, 0.1), vectors(rng, 40)
    cost = target(queries)
    assert cost.estimate is None
    assert cost.figures() == {}
    step(cost, 1, *documents.split(parts))  # micro-batches count as one batch
    expected = flops_metric(sp.csr_matrix(queries.numpy()), sp.csr_matrix(documents.numpy()))
    assert cost.estimate == pytest.approx(expected)


def test_tokens_that_will_be_left_out_cost_nothing() -> None:
    rng = np.random.default_rng(7)
    queries, documents = vectors(rng, 9, 0.3), vectors(rng, 40)
    weights = torch.linspace(0, 3, 30)
    cost = target(queries)
    cost.query_weights, cost.min_query_weight = weights, 0.9
    step(cost, 1, documents)
    kept = (weights >= 0.9).numpy()
    expected = flops_metric(sp.csr_matrix(queries.numpy() * kept), sp.csr_matrix(documents.numpy()))
    assert cost.estimate == pytest.approx(expected)
    assert expected < flops_metric(sp.csr_matrix(queries.numpy()), sp.csr_matrix(documents.numpy()))


def test_the_estimate_is_corrected_for_dropout() -> None:
    rng = np.random.default_rng(1)
    queries, noisy = vectors(rng, 9), vectors(rng, 20)
    clean = noisy * (torch.from_numpy(rng.random((20, 30))) < 0.5)
    cost = target(queries)
    looks = []
    for number in range(2 * RATIO_EVERY):
        cost.loss.step = number
        cost.see(noisy, lambda: looks.append(1) or clean)
        cost.on_optimizer_step(NOTHING, NOTHING, NOTHING)
    expected = flops_metric(sp.csr_matrix(queries.numpy()), sp.csr_matrix(clean.numpy()))
    assert cost.estimate == pytest.approx(expected, rel=1e-5)
    assert len(looks) == 2


def test_lambda_is_left_alone_during_the_ramp() -> None:
    rng = np.random.default_rng(2)
    cost = target(vectors(rng, 9), ramp=5)
    for number in range(5):
        step(cost, number, vectors(rng, 8))
        assert cost.loss.lambda_factor == 1.0
    assert cost.control.start is None
    step(cost, 5, vectors(rng, 8))
    assert cost.control.start == cost.estimate


def simulate(start: float, goal: float, answer: float, lag: float, steps: int = 400) -> list[float]:
    """Costs of a plant whose log cost follows -answer * log lambda with a lag of so many steps."""
    control, cost = LambdaControl(goal, steps), math.log(start)
    costs = []
    for _ in range(steps):
        change = math.log(control.update(torch.tensor(math.exp(cost), dtype=torch.float64)))
        cost += (math.log(start) - answer * change - cost) / lag
        costs.append(math.exp(cost))
    return costs


@pytest.mark.parametrize("answer", [0.4, 0.6, 1.0])
@pytest.mark.parametrize("lag", [5, 40])
@pytest.mark.parametrize("goal", [0.5, 1.0, 2.5])
def test_a_plant_that_answers_slowly_ends_at_the_target(answer: float, lag: float, goal: float) -> None:
    costs = simulate(2.0, goal, answer, lag)
    assert costs[-1] == pytest.approx(goal, rel=0.1)
    assert min(costs) > 0.8 * min(2.0, goal)  # and does not overshoot on the way
    assert max(costs) < 1.2 * max(2.0, goal)


def test_lambda_is_bounded_and_comes_back() -> None:
    control = LambdaControl(1.0, 50)
    factors = [float(control.update(torch.tensor(1e6).double())) for _ in range(50)]
    assert max(factors) == pytest.approx(math.exp(LARGEST_CHANGE))
    assert abs(control.integral) <= LARGEST_CHANGE
    assert [control.update(torch.zeros(()).double()) for _ in range(30)][-1] < 1
    assert all(math.isfinite(factor) and factor > 0 for factor in factors)


def test_state_survives_a_checkpoint(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    queries = vectors(rng, 9)
    batches = [vectors(rng, 8, 0.1 + 0.02 * number) for number in range(30)]
    whole = target(queries, ramp=4)
    for number, documents in enumerate(batches):
        if number == 17:
            whole.save(tmp_path / "checkpoint-17")
        step(whole, number, documents)
    again = target(queries, ramp=4)
    again.on_train_begin(
        SimpleNamespace(output_dir=tmp_path),
        SimpleNamespace(global_step=17),
        NOTHING,  # type: ignore[arg-type]
    )
    for number in range(17, 30):
        step(again, number, batches[number])
    assert again.loss.lambda_factor == whole.loss.lambda_factor != 1
    assert again.estimate == whole.estimate
    assert vars(again.control) == vars(whole.control)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target_p99": {"milliseconds": 5}}, "both above 0"),
        ({"target_p99": {"milliseconds": 0, "documents": 1000}}, "both above 0"),
        ({"target_flops": 1.0}, "two targets for one lambda"),
        ({"lambda_flops": 0}, "target_p99 multiplies lambda_flops"),
        ({"l0_threshold": 150}, "target_p99 and l0_threshold"),
    ],
)
def test_contradictions_of_a_time_are_refused(change: dict[str, Any], message: str) -> None:
    recipe = {"init": "m", "train": "a", "ranking": "info_nce", "num_steps": 100}
    target = {"target_p99": {"milliseconds": 5, "documents": 1e6}}
    assert recipe_from_dict(recipe | target).cost_target == "target_p99"
    with pytest.raises(InputError, match=message):
        recipe_from_dict(recipe | target | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lambda_flops": 0}, "target_flops multiplies lambda_flops, which is 0"),
        ({"target_flops": 0}, "must be positive"),
        ({"l0_threshold": 150}, "target_flops and l0_threshold"),
        ({"early_stopping": 3, "dev": "folder"}, "early_stopping would end"),
        ({"flops_ramp_steps": 100}, "controlled after the ramp"),
    ],
)
def test_contradictions_are_refused(change: dict[str, Any], message: str) -> None:
    recipe = {"init": "m", "train": "a", "ranking": "info_nce", "num_steps": 100, "target_flops": 1.5}
    recipe_from_dict(recipe)
    with pytest.raises(InputError, match=message):
        recipe_from_dict(recipe | change)
