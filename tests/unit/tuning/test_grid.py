"""Which runs a command line asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from neural_sparse.config import read_recipe
from neural_sparse.errors import InputError
from neural_sparse.tuning.grid import Grid, read_grid


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    file = tmp_path / "recipe.yaml"
    file.write_text(f"init: model\ntrain: pairs.jsonl\nranking: info_nce\noutput: {tmp_path}/runs\n")
    return file


def names(grid: Grid) -> list[str]:
    return [run.name for run in grid.runs]


def test_every_combination_the_last_key_fastest(recipe: Path, tmp_path: Path) -> None:
    grid = read_grid(recipe, ["lambda_flops=0.005,1e-2", "num_steps=70", "seed=1,2"])
    assert grid.keys == ("lambda_flops", "seed")
    assert names(grid) == [
        "lambda_flops=0.005__seed=1",
        "lambda_flops=0.005__seed=2",
        "lambda_flops=0.01__seed=1",
        "lambda_flops=0.01__seed=2",
    ]
    assert [run.label for run in grid.runs][:2] == ["0.005, 1", "0.005, 2"]
    assert [run.group for run in grid.runs] == ["0.005", "0.005", "0.01", "0.01"]
    assert [run.group for run in read_grid(recipe, ["seed=1,2"]).runs] == ["1", "2"]
    assert grid.runs[3].values == {"lambda_flops": 0.01, "seed": 2}
    # Each is the recipe that `train` would read.
    folder = tmp_path / "runs" / "lambda_flops=0.01__seed=2"
    assert grid.runs[3].recipe == read_recipe(
        recipe, ["lambda_flops=1e-2", "seed=2", "num_steps=70", f"output={folder}"]
    )
    assert grid.output == tmp_path / "runs"


def test_lists_mappings_and_quotes(recipe: Path, tmp_path: Path) -> None:
    lists = read_grid(recipe, ["train=[a.jsonl,b.jsonl],[c.jsonl]"])
    assert [run.recipe.train for run in lists.runs] == [("a.jsonl", "b.jsonl"), ("c.jsonl",)]
    mappings = read_grid(recipe, ["ranking={info_nce: 1},{info_nce: 2}"])
    assert [run.recipe.ranking for run in mappings.runs] == [{"info_nce": 1.0}, {"info_nce": 2.0}]
    teachers = read_grid(
        recipe, ["teachers=[{kind: bm25}],[{kind: dense, name: a/b}, {kind: bm25}]", "ranking=kl"]
    )
    assert [len(run.recipe.teachers) for run in teachers.runs] == [1, 2]
    quoted = read_grid(recipe, ["init='a,b',c", "negatives=dense:m/x"])
    assert [run.recipe.init for run in quoted.runs] == ["a,b", "c"]
    assert quoted.runs[0].recipe.negatives == ("dense:m/x",)
    assert read_grid(recipe, ["seed=1,2", "train=[a,b]"]).runs[0].recipe.train == ("a", "b")
    nothing = read_grid(recipe, ["negatives_pool=5,6", "corpus=", "activation=null"])
    assert nothing.runs[0].recipe.corpus is None
    for grid in (lists, mappings, teachers, quoted):
        assert len(set(names(grid))) == 2
        for run in grid.runs:
            assert Path(run.recipe.output).parent == tmp_path / "runs"
            assert len(run.name) < 100


def test_values_whose_names_look_alike_have_folders_of_their_own(recipe: Path) -> None:
    grid = read_grid(recipe, ["init=a/b,a-b,a b"])
    assert len(set(names(grid))) == 3
    close = read_grid(recipe, ["lambda_flops=0.1,0.10000000001"])
    assert len(set(names(close))) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["lamda_flops=1,2"], "unknown key 'lamda_flops'; did you mean 'lambda_flops'"),
        (["seed=1,2", "lamda_flops=1"], "unknown key 'lamda_flops'; did you mean 'lambda_flops'"),
        (["num_steps=5"], "nothing to sweep"),
        ([], "nothing to sweep"),
        (["seed"], "write key=value"),
        (["seed=1,2", "seed=3"], "seed is given twice"),
        (["lambda_flops=0.1,0.10"], "a value is given twice"),
        (["output=a,b"], "output cannot be swept"),
        (["teacher_cache=a,b"], "teacher_cache cannot be swept"),
        (["seed=1,[2"], "not a list of YAML values"),
        (["seed=1,x"], "seed must be int"),
        (["target_flops=1,2", "lambda_flops=0"], "target_flops multiplies lambda_flops"),
    ],
)
def test_bad_settings(recipe: Path, settings: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_grid(recipe, settings)
