"""A search with Optuna: the space a command line asks for, and trials that survive a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from neural_sparse.config import Recipe, recipe_to_dict
from neural_sparse.errors import InputError
from neural_sparse.io.files import write_json
from neural_sparse.tuning import sweep as module
from neural_sparse.tuning.judging import Judge, Judged
from neural_sparse.tuning.optuna_search import Space, has_range, read_space, search
from neural_sparse.tuning.result import SweepResult

pytest.importorskip("optuna", reason="needs neural-sparse[tune]")


class StandInJudge(Judge):
    """Cost and relevance that fall with lambda."""

    def model(self, model: Path) -> Judged:
        lam = float(model.parent.name.partition("=")[2].partition("__")[0])
        return Judged({"nDCG@10": 0.6 - lam, "FLOPS": 0.1 / lam, "doc_terms": 9.0}, ({"q": 0.5},))

    def bm25(self, folder: Path) -> Judged:
        return Judged({"nDCG@10": 0.4, "FLOPS": 1.0, "doc_terms": 9.0}, ({"q": 0.5},))


JUDGE = StandInJudge((), ())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    # These take longer than all the rest.
    monkeypatch.setattr(SweepResult, "draw", lambda _: None)
    monkeypatch.setattr(module.gc, "collect", lambda: 0)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    file = tmp_path / "recipe.yaml"
    file.write_text(f"init: m\ntrain: a\nranking: info_nce\noutput: {tmp_path}/runs\n")
    return file


class Training:
    """Stands in for training; `stop_at` is the run that is killed, `fails` the one that fails."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.stop_at = self.fails = -1

    def __call__(self, recipe: Recipe, *_: Any) -> Path:
        folder = Path(recipe.output)
        if len(self.done) == self.stop_at:
            self.stop_at = -1
            raise KeyboardInterrupt
        self.done.append(folder.name)
        if len(self.done) - 1 == self.fails:
            raise InputError("documents have become empty")
        write_json(folder / "training_config.json", recipe_to_dict(recipe))
        write_json(folder / "metrics.json", {"seconds": 1.0})
        write_json(folder / "final_model" / "modules.json", [])
        return folder / "final_model"


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Training:
    stand_in = Training()
    monkeypatch.setattr(module, "_train", stand_in)
    return stand_in


def run(space: Space, trials: int) -> SweepResult:
    return search(space, trials, JUDGE, say=lambda _: None)


def test_values_are_drawn_from_the_space(recipe: Path, training: Training) -> None:
    space = read_space(
        recipe, ["lambda_flops=0.005..0.1:log", "num_steps=50..60", "ranking={info_nce: 1},{info_nce: 2}"]
    )
    assert space.keys == ("lambda_flops", "num_steps", "ranking")
    result = run(space, 7)
    recipes = [one.run.recipe for one in result.outcomes]
    assert all(0.005 <= one.lambda_flops <= 0.1 and 50 <= one.num_steps <= 60 for one in recipes)
    assert len({one.lambda_flops for one in recipes}) == 7
    assert {one.ranking["info_nce"] for one in recipes} == {1.0, 2.0}
    assert all(len(f"{one.lambda_flops:g}") <= 7 for one in recipes)  # three digits


@pytest.mark.parametrize("stop_at", [0, 3, 5])
def test_an_interrupted_search_goes_on_as_one_that_was_not(
    recipe: Path, training: Training, tmp_path: Path, stop_at: int
) -> None:
    settings = ["lambda_flops=0.005..0.1:log"]
    whole = run(read_space(recipe, [*settings, f"output={tmp_path}/whole"]), 6)
    assert [one.run.name for one in whole.outcomes] == training.done
    expected, training.done, training.stop_at = training.done, [], stop_at
    space = read_space(recipe, settings)
    with pytest.raises(KeyboardInterrupt):
        run(space, 6)
    again = run(space, 6)
    assert training.done == [one.run.name for one in again.outcomes] == expected
    assert [one.status for one in again.outcomes] == ["finished"] * 6


def test_more_trials_go_on_and_a_failed_one_counts(recipe: Path, training: Training) -> None:
    space = read_space(recipe, ["lambda_flops=0.005..0.1:log"])
    training.fails = 1
    first = run(space, 3)
    assert [one.status for one in first.outcomes] == ["finished", "failed", "finished"]
    before = list(training.done)
    more = run(space, 5)
    assert len(more.outcomes) == 5
    assert training.done[len(before) :] == [before[1], *(one.run.name for one in more.outcomes[3:])]


def test_another_recipe_or_space_is_refused(recipe: Path, training: Training) -> None:
    run(read_space(recipe, ["lambda_flops=0.005..0.1:log"]), 1)
    run(read_space(recipe, ["lambda_flops=0.001..0.1:log"]), 2)  # wider is no contradiction
    for settings, message in (
        (["lambda_flops=0.005..0.1", "num_steps=7"], "another num_steps"),
        (["lambda_flops=0.005..0.1", "seed=1..3"], "another keys to search"),
    ):
        with pytest.raises(InputError, match=message):
            run(read_space(recipe, settings), 1)
    changed = read_space(recipe, ["lambda_flops=0.005..0.1", "num_steps=7"])
    assert len(search(changed, 2, JUDGE, overwrite=True, say=lambda _: None).outcomes) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["seed=1,2"], "nothing to search"),
        (["lamda_flops=1..2"], "unknown key 'lamda_flops'; did you mean 'lambda_flops'"),
        (["lambda_flops=2..1"], "from a smaller to a larger"),
        (["num_steps=1..2.5"], "larger whole number"),
        (["lambda_flops=0..1:log"], "begins above 0"),
        (["lambda_flops=1e..2"], "write numbers"),
        (["lambda_flops=1..2", "lambda_flops=3"], "given twice"),
        (["lambda_flops=1..2", "lambda_flops=3..4"], "given twice"),
        (["num_steps=0..5"], "num_steps must be at least 1"),
        (["output=1..2"], "cannot be swept"),
    ],
)
def test_bad_spaces(recipe: Path, settings: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_space(recipe, settings)


def test_what_is_a_range() -> None:
    assert has_range(["a=1", "b=0.005..0.1:log"])
    assert not has_range(["train=../pairs.jsonl", "corpus=a/../b", "a=1,2"])
