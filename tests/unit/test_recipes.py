"""The shipped recipes hold the training guide's values, and contradictions are refused before anything is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from neural_sparse.cli.main import app
from neural_sparse.config import Recipe, TeacherConfig, read_recipe, recipe_from_dict, shipped_recipes
from neural_sparse.errors import InputError
from neural_sparse.io.files import read_json
from neural_sparse.training.run_folder import CONFIG_FILE, claim

GTE = "Alibaba-NLP/gte-large-en-v1.5"
SPARSE = "opensearch-project/opensearch-neural-sparse-encoding-v1"
CROSS = "cross-encoder/ms-marco-MiniLM-L-12-v2"
# The guide's tables of pre-training and fine-tuning.
GUIDE: dict[str, dict[str, Any]] = {
    "pretrain": {
        "num_steps": 150_000, "warmup_steps": 5000, "batch_size": 48, "num_hard_negatives": 7,
        "learning_rate": 5e-5, "lambda_flops": 1e-7, "scale_constant": 10.0,
    },
    "finetune": {
        "num_steps": 50_000, "warmup_steps": 2000, "batch_size": 40, "num_hard_negatives": 10,
        "learning_rate": 2e-5, "lambda_flops": 0.02, "scale_constant": 30.0,
    },
}  # fmt: skip
MINIMAL: dict[str, Any] = {"init": "model", "train": "pairs.jsonl"}


@pytest.mark.parametrize("name", GUIDE)
def test_the_two_stages_hold_the_guides_values(name: str) -> None:
    recipe = read_recipe(name)
    assert {key: getattr(recipe, key) for key in GUIDE[name]} == GUIDE[name]
    common = {
        "max_length": 256,
        "weight_decay": 0.01,
        "gradient_accumulation_steps": 1,
        "ranking": {"kl": 1.0},
    }
    assert {key: getattr(recipe, key) for key in common} == common
    assert recipe.idf_in_matching
    assert not recipe.frequency_weighted_flops
    teachers = [(teacher.kind, teacher.name) for teacher in recipe.teachers]
    assert teachers[:2] == [("dense", GTE), ("sparse", SPARSE)]
    assert teachers[2:] == ([("cross-encoder", CROSS)] if name == "finetune" else [])
    assert [teacher.weight for teacher in recipe.teachers[:2]] == [0.5, 0.5]


def test_the_second_stage_starts_where_the_first_ends() -> None:
    first, second = read_recipe("pretrain"), read_recipe("finetune")
    assert second.init == f"{first.output}/final_model"
    assert second.idf == first.idf == second.train[0]
    assert first.init == "opensearch-project/opensearch-neural-sparse-encoding-multilingual-v1"


def test_l0_recipe() -> None:
    recipe = read_recipe("l0")
    assert (recipe.activation, recipe.l0_threshold, recipe.flops_ramp_steps) == ("double_log1p", 150, 40_000)


def test_all_seven_are_shipped_each_with_its_purpose_and_memory_advice() -> None:
    shipped = shipped_recipes()
    assert set(shipped) == {
        "pretrain", "finetune", "finetune-own-corpus", "korean", "multilingual", "l0", "tiny-cpu"
    }  # fmt: skip
    folder = Path(__import__("neural_sparse.config").config.__file__).parent / "recipes"
    for name, purpose in shipped.items():
        assert len(purpose) > 30
        assert "emory" in (folder / f"{name}.yaml").read_text()


@pytest.mark.parametrize("name", sorted({"korean", "multilingual", "finetune-own-corpus", "l0", *GUIDE}))
@pytest.mark.parametrize(
    "advice",
    [
        ["batch_size=20", "gradient_accumulation_steps=2"],
        ["max_length=128"],
        ["gradient_checkpointing=true"],
        ["cache_tokens=16384"],
        ["auto_batch=true"],
        ["lambda_flops=0.05"],
    ],
    ids=lambda advice: advice[0],
)
def test_the_advice_is_a_valid_override(name: str, advice: list[str]) -> None:
    assert read_recipe(name, advice) != read_recipe(name)


def test_no_shipped_recipe_runs_code_of_others() -> None:
    assert not any(read_recipe(name, ["train=x"]).trust_remote_code for name in shipped_recipes())
    assert read_recipe("pretrain", [f"trust_remote_code={GTE}"]).trust_remote_code == (GTE,)
    with pytest.raises(InputError, match="is no model that is used here; there is Alibaba-NLP"):
        read_recipe("pretrain", ["trust_remote_code=Alibaba-NLP/gte-large-en-v15"])


def test_recipes_command_prints_what_train_would_use() -> None:
    listed = CliRunner().invoke(app, ["recipes"])
    assert listed.exit_code == 0
    assert all(name in listed.output for name in shipped_recipes())
    shown = CliRunner().invoke(app, ["recipes", "finetune", "batch_size=20"])
    assert shown.exit_code == 0
    assert recipe_from_dict(yaml.safe_load(shown.output)) == read_recipe("finetune", ["batch_size=20"])


CROSS_ENCODER = {"kind": "cross-encoder", "name": "c"}
CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"teachers": [CROSS_ENCODER, {"kind": "bm25"}], "num_hard_negatives": 0}, "fine-tuning without negatives"),
    ({"teachers": [{"kind": "precomputed", "name": "f"}], "num_hard_negatives": 0}, "a precomputed teacher scores"),
    ({"teachers": [CROSS_ENCODER], "num_hard_negatives": 1}, "scale_constant=30 with two candidates is a hard label"),
    ({"teachers": [{"kind": "bm25"}], "num_hard_negatives": 1, "batch_size": 1}, "holds two documents"),
    ({"teachers": [{"kind": "bm25"}], "num_hard_negatives": 0, "batch_size": 2}, "batch_size=2 with num_hard"),
    ({"ranking": "info_nce", "min_query_weight": 1.5}, "at most 1"),
    ({"ranking": "info_nce", "min_query_weight": -0.1}, "min_query_weight"),
    ({"ranking": "info_nce", "min_query_weight": 0.9, "idf_in_matching": False}, "min_query_weight goes by"),
    ({"ranking": "info_nce", "train_query_weights": True, "idf_in_matching": False}, "idf_in_matching=false"),
    ({"ranking": "info_nce", "early_stopping": 2}, "early_stopping needs a dev collection"),
    ({"ranking": "info_nce", "eval_steps": 2}, "eval_steps needs a dev collection"),
    ({"ranking": "info_nce", "dev": "d", "eval_steps": 2, "save_steps": 3}, "set eval_steps alone"),
    ({"ranking": "info_nce", "num_hard_negatives": 0, "batch_size": 1}, "its relevant document alone"),
    ({"ranking": "info_nce", "auto_batch": True, "cache_tokens": 64}, "auto_batch and cache_tokens contradict"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), CONTRADICTIONS)
def test_contradictory_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        recipe_from_dict({**MINIMAL, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"teachers": [{"kind": "bm25"}], "num_hard_negatives": 0},  # scores the whole batch
        {"teachers": [CROSS_ENCODER, {"kind": "bm25"}], "num_hard_negatives": 1},
        {"teachers": [{"kind": "bm25"}], "num_hard_negatives": 1, "batch_size": 1, "auto_batch": True},
        {"teachers": [CROSS_ENCODER], "num_hard_negatives": 2},
        {"teachers": [CROSS_ENCODER], "num_hard_negatives": 0, "ranking": "info_nce"},  # asks no teacher
        {"ranking": "info_nce", "num_hard_negatives": 0, "batch_size": 2},
        {"ranking": "info_nce", "num_hard_negatives": 1, "batch_size": 1},
    ],
)
def test_settings_that_only_look_like_a_contradiction(change: dict[str, Any]) -> None:
    recipe_from_dict({**MINIMAL, **change})


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return Recipe(init="m", train=("t",), output=str(tmp_path / "run"), teachers=(TeacherConfig("bm25"),))


def test_a_changed_recipe_is_refused_unless_asked(recipe: Recipe) -> None:
    output = Path(recipe.output)
    assert claim(output, recipe, overwrite=False) is None
    checkpoint = output / "checkpoint-5"
    checkpoint.mkdir()
    (checkpoint / "complete").touch()
    changed = replace(recipe, learning_rate=1e-3)
    with pytest.raises(InputError, match=r"learning_rate: 2e-05 -> 0\.001\).*--resume-anyway"):
        claim(output, changed, overwrite=False)
    assert claim(output, recipe, overwrite=False) == checkpoint
    assert claim(output, changed, overwrite=False, resume_anyway=True) == checkpoint
    assert read_json(output / CONFIG_FILE)["learning_rate"] == 1e-3  # from now on this is the run's recipe
    assert claim(output, changed, overwrite=False) == checkpoint


def test_a_recipe_of_an_older_version_with_fewer_keys_goes_on(recipe: Recipe) -> None:
    import json

    output = Path(recipe.output)
    claim(output, recipe, overwrite=False)
    config = read_json(output / CONFIG_FILE)
    del config["auto_batch"]
    (output / CONFIG_FILE).write_text(json.dumps(config))
    assert claim(output, recipe, overwrite=False) is None
