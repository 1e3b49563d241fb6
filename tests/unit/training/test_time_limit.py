"""A schedule that would be late ends earlier, its learning rate at 0; a run that resumes goes the same way."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from neural_sparse.config import recipe_from_dict
from neural_sparse.data.training_set import TrainingSet
from neural_sparse.io.files import read_json
from neural_sparse.training import setup
from neural_sparse.training.time_limit import FILE, TimeLimit
from neural_sparse.training.train import train

ARGS: Any = None


class Clock:
    """Seconds that each step takes are added by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Run:
    """A loop as the trainer's: an optimiser's step, the schedule's, the callback's."""

    def __init__(self, limit: TimeLimit, clock: Clock, steps: int, at: int = 0) -> None:
        self.optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        linear = partial(_linear, steps)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, linear)
        self.limit, self.clock, self.at, self.steps = limit, clock, at, steps
        self.rates: dict[int, float] = {}
        limit.on_train_begin(ARGS, self.state, self.control, lr_scheduler=self.scheduler)
        for _ in range(at):
            self.optimizer.step()
            self.scheduler.step()

    @property
    def state(self) -> Any:
        return SimpleNamespace(global_step=self.at)

    control: Any = SimpleNamespace(should_training_stop=False, should_save=False)

    def go(self, seconds: float, until: int) -> int:
        self.control = SimpleNamespace(should_training_stop=False, should_save=False)
        while self.at < until and not self.control.should_training_stop:
            self.clock.now += seconds
            self.at += 1
            self.optimizer.step()
            self.scheduler.step()
            self.limit.on_step_end(ARGS, self.state, self.control, lr_scheduler=self.scheduler)
            self.rates[self.at] = self.scheduler.get_last_lr()[0]
        return self.at


def _linear(steps: int, at: int) -> float:
    return 1 - at / steps


def test_a_run_in_time_is_left_alone(tmp_path: Path) -> None:
    clock = Clock()
    run = Run(TimeLimit(101, 100, tmp_path, clock=clock), clock, 100)
    assert run.go(1.0, 100) == 100
    assert run.rates[50] == pytest.approx(0.5)
    assert run.rates[100] == pytest.approx(0.0)
    assert not (tmp_path / FILE).exists()


def test_a_run_that_is_late_ends_in_time_with_its_schedule(tmp_path: Path) -> None:
    clock = Clock()
    run = Run(TimeLimit(100, 100, tmp_path, clock=clock), clock, 100)
    run.go(1.0, 20)
    end = run.go(3.0, 100)
    assert 20 < end < 60
    assert clock.now <= 105
    assert run.rates[end] == pytest.approx(0.0)
    rates = [run.rates[step] for step in sorted(run.rates)]
    assert all(later <= earlier for earlier, later in pairwise(rates))
    assert run.control.should_save


def test_a_decision_is_kept_for_who_resumes(tmp_path: Path) -> None:
    clock = Clock()
    limit = TimeLimit(100, 100, tmp_path, clock=clock)
    run = Run(limit, clock, 100)
    run.go(1.0, 20)
    limit.on_save(ARGS, run.state, run.control)
    end = run.go(5.0, 100)
    kept = read_json(tmp_path / FILE)
    assert list(kept["ends"].values())[-1] == end
    # From a checkpoint before the decision, on a machine that is quick: the same step, the same rates.
    later = Clock()
    again = Run(TimeLimit(100, 100, tmp_path, clock=later), later, 100, at=20)
    assert again.go(0.01, 100) == end
    for step, rate in again.rates.items():
        assert rate == pytest.approx(run.rates[step]), step
    assert again.limit.spent == pytest.approx(20 + 0.01 * (end - 20))


def test_a_training_run_is_cut_short_and_resumed_alike(
    tiny_model: Callable[..., Path], texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clock() -> float:
        clock.now += 1.0  # type: ignore[attr-defined]
        return clock.now  # type: ignore[attr-defined]

    clock.now = 0.0  # type: ignore[attr-defined]
    monkeypatch.setattr(setup, "TimeLimit", partial(TimeLimit, clock=clock))
    values = {
        "init": str(tiny_model("bert")),
        "train": "data",
        "output": str(tmp_path / "whole"),
        "ranking": {"info_nce": 1.0},
        "max_seconds": 12.0,
        "num_steps": 20,
        "warmup_steps": 1,
        "batch_size": 4,
        "num_hard_negatives": 0,
        "save_steps": 3,
        "save_total_limit": 9,
        "max_length": 32,
        "target_flops": 1.0,
        "lambda_flops": 0.001,
        "flops_ramp_steps": 1,
    }
    data = TrainingSet([text.split(";")[0] for text in texts], texts, np.arange(len(texts)))
    recipe = recipe_from_dict(values)
    model = train(recipe, data=data)
    metrics = read_json(tmp_path / "whole" / "metrics.json")
    assert 3 < metrics["steps"] < 20
    assert read_json(tmp_path / "whole" / FILE)["ends"]
    again = tmp_path / "again"
    last = metrics["steps"]
    shutil.copytree(
        tmp_path / "whole",
        again,
        ignore=shutil.ignore_patterns(f"checkpoint-{last}", "final_model", "metrics.json"),
    )
    clock.now = -1e6  # type: ignore[attr-defined]  # all the time in the world
    resumed = train(replace(recipe, output=str(again)), data=data)
    assert read_json(again / "metrics.json")["steps"] == last
    for file in model.rglob("*.safetensors"):
        one, other = load_file(file), load_file(resumed / file.relative_to(model))
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-6)
