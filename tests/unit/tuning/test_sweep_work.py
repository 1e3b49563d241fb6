"""The loop over runs: what a failure leaves, what is said, and the time that is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from neural_sparse.config import Recipe, recipe_to_dict
from neural_sparse.errors import InputError
from neural_sparse.io.files import read_json, write_json
from neural_sparse.tuning import sweep as module
from neural_sparse.tuning.grid import Grid, read_grid
from neural_sparse.tuning.judging import Judge, Judged
from neural_sparse.tuning.result import SweepResult
from neural_sparse.tuning.sweep import sweep


class StandInJudge(Judge):
    """Cost by the model's folder."""

    def model(self, model: Path) -> Judged:
        cost = 1 / float(model.parent.name.partition("=")[2])
        return Judged({"nDCG@10": 0.5, "FLOPS": cost, "doc_terms": 9.0}, ({"q": 0.5},))

    def bm25(self, folder: Path) -> Judged:
        return Judged({"nDCG@10": 0.4, "FLOPS": 1.0, "doc_terms": 9.0}, ({"q": 0.5},))


JUDGE = StandInJudge((), ())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    # These take longer than all the rest.
    monkeypatch.setattr(SweepResult, "draw", lambda _: None)
    monkeypatch.setattr(module.gc, "collect", lambda: 0)


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    file = tmp_path / "recipe.yaml"
    file.write_text(f"init: m\ntrain: a\nranking: info_nce\noutput: {tmp_path}/runs\nnum_steps: 100\n")
    return read_grid(file, ["lambda_flops=1,2,4"])


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """lambda_flops of the runs that were trained; 2 fails until it is taken out of `failing`."""
    done: list[float] = []

    def train(recipe: Recipe, *_: Any) -> Path:
        done.append(recipe.lambda_flops)
        if recipe.lambda_flops in failing:
            raise failing[recipe.lambda_flops]
        folder = Path(recipe.output)
        write_json(folder / "training_config.json", recipe_to_dict(recipe))
        write_json(folder / "metrics.json", {"seconds": 60.0})
        write_json(folder / "final_model" / "modules.json", [])
        return folder / "final_model"

    monkeypatch.setattr(module, "_train", train)
    return done


failing: dict[float, Exception] = {}


@pytest.fixture(autouse=True)
def _nothing_fails() -> None:
    failing.clear()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (InputError("documents have become empty"), "documents have become empty"),
        (RuntimeError("shapes differ"), "RuntimeError: shapes differ"),
        (MemoryError("64 GiB"), "out of memory (64 GiB)"),
    ],
)
def test_a_failed_run_is_noted_and_tried_again(
    grid: Grid, trained: list[float], error: Exception, reason: str
) -> None:
    failing[2] = error
    result = sweep(grid, JUDGE, say=lambda _: None)
    assert trained == [1, 2, 4]
    assert [one.status for one in result.outcomes] == ["finished", "failed", "finished"]
    assert read_json(grid.output / "sweep.json")["runs"][1]["reason"] == reason
    failing.clear()
    trained.clear()
    said: list[str] = []
    again = sweep(grid, JUDGE, say=said.append)
    assert trained == [2]
    assert [one.status for one in again.outcomes] == ["finished"] * 3
    assert again.outcomes[1].reason is None
    assert said[0] == "[1/3] lambda_flops=1: trained before"
    trained.clear()
    sweep(grid, JUDGE, say=said.append, overwrite=True)
    assert trained == [1, 2, 4]


def test_an_interrupted_sweep_has_written_what_was_done(grid: Grid, trained: list[float]) -> None:
    failing[2] = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        sweep(grid, JUDGE, say=lambda _: None)
    runs = read_json(grid.output / "sweep.json")["runs"]
    assert [run["status"] for run in runs] == ["finished", "waiting", "waiting"]


def test_time_left_is_that_of_all_steps_to_come(
    grid: Grid, trained: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 300))  # each run takes 300 s: two looks at the clock
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(clock)))
    half = Path(grid.runs[2].recipe.output) / "checkpoint-50"
    half.mkdir(parents=True)
    (half / "complete").write_text("")
    said: list[str] = []
    sweep(grid, JUDGE, say=said.append)
    shown = [line.partition(" (")[2] for line in said if line.startswith("[")]
    # 300 s per 100 steps: two runs of 100 and 50 steps are left, then one of 50.
    assert shown == ["", "about 8 min left)", "about 2 min left)"]
