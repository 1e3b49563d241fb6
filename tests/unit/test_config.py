from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

import neural_sparse
from neural_sparse.config import (
    ACTIVATIONS,
    RANKING_LOSSES,
    Recipe,
    TeacherConfig,
    read_recipe,
    recipe_from_dict,
    recipe_to_dict,
)
from neural_sparse.errors import InputError

RECIPES = sorted((Path(neural_sparse.__file__).parent / "recipes").glob("*.yaml"))
MINIMAL = {"init": "model", "train": "pairs.jsonl", "ranking": "info_nce"}


def recipe_file(folder: Path, text: str) -> Path:
    file = folder / "recipe.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_every_shipped_recipe_loads(file: Path) -> None:
    for name in (file, file.stem):  # by path and by name
        recipe = read_recipe(name, ["train=pairs.jsonl"])
        assert recipe.train == ("pairs.jsonl",)
        assert recipe_from_dict(recipe_to_dict(recipe)) == recipe


def test_round_trip_through_json_and_yaml() -> None:
    recipe = Recipe(
        init="a",
        train=("b", "c"),
        teachers=(TeacherConfig("dense", "d", 0.25, 128), TeacherConfig("bm25")),
        ranking={"kl": 1.0, "info_nce": 0.5},
        learning_rate=3e-5,
        bf16=False,
    )
    plain = recipe_to_dict(recipe)
    assert recipe_from_dict(json.loads(json.dumps(plain))) == recipe
    assert recipe_from_dict(yaml.safe_load(yaml.safe_dump(plain))) == recipe


def test_overrides(tmp_path: Path) -> None:
    file = recipe_file(tmp_path, "init: model\ntrain: [a.jsonl]\nnum_steps: 5\nranking: info_nce\n")
    recipe = read_recipe(
        file,
        ["num_steps=7", "learning_rate=2e-5", "bf16=true", "train=[x.jsonl, y]", "l0_threshold=150", "activation=null",
         "teachers=[{kind: bm25}, {kind: dense, name: m, weight: 2}]", "ranking={kl: 1, info_nce: 0.1}"],
    )  # fmt: skip
    assert (recipe.num_steps, recipe.learning_rate, recipe.bf16, recipe.l0_threshold) == (7, 2e-5, True, 150)
    assert recipe.train == ("x.jsonl", "y")
    assert recipe.teachers == (TeacherConfig("bm25"), TeacherConfig("dense", "m", 2.0))
    assert recipe.ranking == {"kl": 1.0, "info_nce": 0.1}
    assert read_recipe(file, ["num_steps=1", "num_steps=2"]).num_steps == 2  # the last one counts
    assert read_recipe(file, ["output=a=b"]).output == "a=b"


def test_one_name_stands_for_a_list_or_a_loss() -> None:
    recipe = recipe_from_dict(MINIMAL)
    assert recipe.train == ("pairs.jsonl",)
    assert recipe.ranking == {"info_nce": 1.0}
    assert recipe_from_dict({**MINIMAL, "lambda_flops": 1}).lambda_flops == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lambda_flop": 0.1}, "unknown key 'lambda_flop'; did you mean 'lambda_flops'?"),
        ({"learning-rate": 0.1}, "unknown key 'learning-rate'; did you mean 'learning_rate'?"),
        ({"zzz": 1}, "unknown key 'zzz'; there are init, train, output"),
        ({"lr": 1}, "learning_rate"),  # no name is near: all are told
        ({3: 1}, "unknown key 3"),
        ({"num_steps": "many"}, "num_steps must be int, not 'many'"),
        ({"num_steps": 2.5}, "num_steps must be int, not 2.5"),
        ({"num_steps": True}, "num_steps must be int, not True"),
        ({"num_steps": None}, "num_steps must be int, not None"),
        ({"num_steps": 0}, "num_steps must be at least 1, not 0"),
        ({"batch_size": -1}, "batch_size must be at least 1"),
        ({"learning_rate": "fast"}, "learning_rate must be a number, not 'fast'"),
        ({"learning_rate": -1.0}, "learning_rate must not be negative"),
        ({"learning_rate": "nan"}, "learning_rate must be a finite number, not nan"),
        ({"lambda_flops": float("inf")}, "lambda_flops must be a finite number, not inf"),
        ({"scale_constant": 0}, "scale_constant must be positive, not 0"),
        ({"early_stopping": 0, "dev": "d"}, "early_stopping must be at least 1, not 0"),
        ({"eval_steps": 0, "dev": "d"}, "eval_steps must be at least 1, not 0"),
        ({"save_steps": -1}, "save_steps must be at least 1, not -1"),
        ({"save_total_limit": 0}, "save_total_limit must be at least 1, not 0"),
        ({"encode_max_length": 0}, "encode_max_length must be at least 1, not 0"),
        ({"dev_queries": 0}, "dev_queries must be at least 1, not 0"),
        ({"dev_documents": -1}, "dev_documents must not be negative"),
        ({"flops_ramp_steps": -1}, "flops_ramp_steps must not be negative"),
        ({"l0_threshold": -1}, "l0_threshold must not be negative"),
        ({"max_grad_norm": -1}, "max_grad_norm must not be negative"),
        ({"temperature": 0}, "temperature must be positive, not 0"),
        ({"ranking": {"info_nce": -1}}, "weights must not be negative"),
        ({"ranking": {"info_nce": 0}}, "one of them above 0"),
        ({"teachers": [{"kind": "bm25", "weight": 0}]}, "teachers: all weights are 0"),
        ({"learning_rate": True}, "learning_rate must be float, not True"),
        ({"bf16": "yes"}, "bf16 must be bool, not 'yes'"),
        ({"init": 5}, "init must be str, not 5"),
        ({"init": None}, "init must be str, not None"),
        ({"train": []}, "name at least one file"),
        ({"train": [1]}, "train must be str, not 1"),
        ({"ranking": [1]}, "ranking must be a mapping"),
        ({"ranking": {"info_nce": "much"}}, "ranking.info_nce must be a number"),
        ({"ranking": {"kll": 1}}, r"unknown ranking loss ['kll']; choose from kl, margin_mse, info_nce"),
        ({"ranking": {}}, "no loss is named"),
        ({"ranking": "kl"}, "needs teachers; without any use ranking: {info_nce: 1}"),
        ({"activation": "relu"}, "unknown activation 'relu'; choose from log1p, double_log1p"),
        ({"teachers": "bm25"}, "teachers must be a mapping, not 'bm25'"),
        ({"teachers": [{"kind": "bm52"}]}, "unknown kind 'bm52'; choose from dense, sparse, cross-encoder, bm25"),
        ({"teachers": [{"kind": "dense"}]}, "kind 'dense' needs a name"),
        ({"teachers": [{"kind": "bm25", "name": "x"}]}, "kind 'bm25' takes no name"),
        ({"teachers": [{"kind": "bm25", "weight": -1}]}, "the weight of bm25 is negative"),
        ({"teachers": [{"kind": "dense", "nam": "x"}]}, "unknown key 'nam'; did you mean 'name'?"),
        ({"teachers": [{"name": "x"}]}, "lacks kind"),
        ({"schedule": "cosin"}, "unknown schedule 'cosin'; choose from linear, cosine, constant"),
        ({"optimizer": "sgd"}, "unknown optimizer 'sgd'; choose from adamw, adamw_fused, adamw_8bit"),
        ({"ema_decay": 1}, "ema_decay must be below 1"),
        ({"ema_decay": -1}, "ema_decay must not be negative"),
        ({"ema_decay": 0.9, "target_flops": 1, "flops_ramp_steps": 1}, "ship their average; leave out one"),
        ({"dev_also": ["d"]}, "dev_also adds collections to dev"),
        ({"push_to_hub": "mine"}, "'mine' is no repository of the hub; write OWNER/NAME"),
        ({"in_batch_negatives": False, "num_hard_negatives": 0}, "leaves a query its own candidates"),
        ({"in_batch_negatives": False, "num_hard_negatives": 1, "ranking": "kl", "teachers": [{"kind": "bm25"}]},
         "num_hard_negatives=1 a query has two"),
        ({"logit_scale": 0}, "logit_scale must be positive"),
    ],
)  # fmt: skip
def test_refuses(change: dict[Any, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        recipe_from_dict({**MINIMAL, **change}, "mine.yaml")
    assert message in str(caught.value)
    assert str(caught.value).startswith("mine.yaml: ")
    assert str(caught.value).count("mine.yaml") == 1


def test_names_what_is_missing() -> None:
    with pytest.raises(InputError, match="recipe: lacks init, train"):
        recipe_from_dict({})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("init: [", "not valid YAML"),
        ("- init", "a recipe is a YAML mapping"),
        ("", "a recipe is a YAML mapping"),
        ("init: !!python/object:os.system x", "not valid YAML"),
    ],
)
def test_files_that_are_no_recipe(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_recipe(recipe_file(tmp_path, text))


def test_missing_recipe_and_malformed_override(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such recipe; shipped ones: .*tiny-cpu"):
        read_recipe(tmp_path / "absent.yaml")
    with pytest.raises(InputError, match="no such recipe"):
        read_recipe("tiny-gpu")
    with pytest.raises(InputError, match="'num_steps': overrides are written key=value"):
        read_recipe("tiny-cpu", ["num_steps"])
    with pytest.raises(InputError, match=r"train=\[: not valid YAML"):
        read_recipe("tiny-cpu", ["train=["])


def test_names_agree_with_the_code_they_choose() -> None:
    from neural_sparse.losses import ranking
    from neural_sparse.model.activation import Activation

    assert set(RANKING_LOSSES) == set(ranking.RANKING_LOSSES)
    assert set(ACTIVATIONS) == set(get_args(Activation))


def test_names_of_the_optimisation_agree_with_those_it_is_built_from() -> None:
    from neural_sparse.config import OPTIMIZERS, SCHEDULES
    from neural_sparse.training import setup

    assert (tuple(setup.OPTIMIZERS), tuple(setup.SCHEDULES)) == (OPTIMIZERS, SCHEDULES)


def test_reading_a_recipe_does_not_import_torch() -> None:
    code = (
        "import sys; from neural_sparse import read_recipe; "
        "read_recipe('tiny-cpu', ['train=x']); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_key_is_described() -> None:
    for key in [field.name for field in dataclasses.fields(Recipe)]:
        assert key in str(Recipe.__doc__)
