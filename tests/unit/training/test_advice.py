"""What is advised can be done as it is printed: the recipe takes the keys, and the run's folder the recipe."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_models import TEXTS

from neural_sparse.config import Recipe, TeacherConfig, recipe_from_dict, recipe_to_dict
from neural_sparse.data.training_set import TrainingSet
from neural_sparse.errors import InputError
from neural_sparse.io.files import read_json, write_json, write_text
from neural_sparse.training.auto_batch import memory_hint
from neural_sparse.training.run_folder import claim
from neural_sparse.training.step import IDFAwareLoss
from neural_sparse.training.train import train

LINE = re.compile(r"^  ((?:\w+=\S+ ?)+?)( --[\w-]+)?  \(", re.MULTILINE)
MEMORY = torch.OutOfMemoryError("CUDA out of memory.")


def printed(text: str) -> list[tuple[dict[str, Any], str]]:
    """Keys and flag of each line of advice."""
    return [
        (
            {key: yaml.safe_load(value) for key, value in (pair.split("=") for pair in keys.split())},
            flag.strip(),
        )
        for keys, flag in LINE.findall(text)
    ]


RECIPE = Recipe("m", ("t",), teachers=(TeacherConfig("bm25"),), max_length=256, batch_size=40)
RECIPES = {
    "plain": RECIPE,
    "as small as it gets": replace(
        RECIPE, batch_size=1, max_length=20, gradient_checkpointing=True, cache_tokens=20
    ),
    "cached": replace(RECIPE, cache_tokens=4096),
    "a batch that was found": replace(RECIPE, auto_batch=True, batch_size=12),
    "one negative each": replace(RECIPE, batch_size=2, num_hard_negatives=0, ranking={"info_nce": 1.0}),
}


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("name", RECIPES)
def test_every_line_works_as_it_is_printed(name: str, saved: bool, tmp_path: Path) -> None:
    recipe = replace(RECIPES[name], output=str(tmp_path))
    config = tmp_path / "training_config.json"

    def stopped() -> None:
        claim(tmp_path, recipe, overwrite=True)
        if saved:
            write_text(tmp_path / "checkpoint-7" / "complete", "")
        write_json(tmp_path / "metrics.json", {"stopped": "out of memory"})

    stopped()
    before = read_json(config)
    ways = printed(memory_hint(recipe))
    assert ways or name == "as small as it gets"
    if name == "plain":
        assert [next(iter(keys)) for keys, _ in ways] == [
            "cache_tokens", "gradient_checkpointing", "max_length", "batch_size", "auto_batch"
        ]  # fmt: skip
    for keys, flag in ways:
        stopped()
        assert read_json(config) == before
        # As the command line has it: what auto_batch found is in the folder alone.
        asked = recipe if not recipe.auto_batch else replace(recipe, batch_size=40)
        changed = recipe_from_dict(recipe_to_dict(asked) | keys)
        found = claim(tmp_path, changed, flag == "--overwrite", flag == "--resume-anyway")
        assert found == (tmp_path / "checkpoint-7" if saved and flag != "--overwrite" else None)
        if flag:
            stopped()
            with pytest.raises(InputError, match="holds a run of another recipe"):
                claim(tmp_path, changed, overwrite=False)


def test_a_recipe_that_nothing_makes_smaller(tmp_path: Path) -> None:
    recipe = replace(RECIPES["as small as it gets"], output=str(tmp_path), num_hard_negatives=2)
    assert "smaller model" in memory_hint(recipe)


@pytest.fixture
def run(tiny_model: Callable[..., Path], tmp_path: Path) -> Recipe:
    return Recipe(
        init=str(tiny_model()),
        train=("none",),
        output=str(tmp_path / "run"),
        ranking={"info_nce": 1.0},
        num_steps=2,
        batch_size=4,
        num_hard_negatives=0,
        learning_rate=1e-3,
        warmup_steps=0,
        max_length=48,
        bf16=False,
        save_steps=1,
        logging_steps=1,
    )


@pytest.fixture
def data() -> TrainingSet:
    return TrainingSet([text[:12] for text in TEXTS], TEXTS, np.arange(len(TEXTS)))


def test_a_run_out_of_memory_at_its_first_step_goes_on_as_advised(
    run: Recipe, data: TrainingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise MEMORY

    with monkeypatch.context() as patch:
        patch.setattr(IDFAwareLoss, "forward", full)
        with pytest.raises(InputError) as caught:
            train(run, data=data)
    (keys, flag) = next(way for way in printed(str(caught.value)) if "batch_size" in way[0])
    assert not flag
    train(recipe_from_dict(recipe_to_dict(run) | keys), data=data)
    assert read_json(Path(run.output) / "metrics.json")["steps"] == 2


def test_what_keeps_a_run_from_beginning_can_be_changed(run: Recipe, data: TrainingSet) -> None:
    with pytest.raises(InputError, match="counts none; set own_words=2"):
        train(replace(run, own_words_learning_rate=1e-3), data=data)
    train(replace(run, own_words_learning_rate=1e-3, own_words=2.0, num_steps=1), data=data)


def test_gradient_checkpointing_changes_no_weight(run: Recipe, data: TrainingSet, tmp_path: Path) -> None:
    """To the last bit, with dropout; on a processor, which computes the same twice."""
    models = [
        train(replace(run, gradient_checkpointing=way, output=str(tmp_path / str(way))), data=data)
        for way in (False, True)
    ]
    plain, again = (
        load_file(max(model.rglob("*.safetensors"), key=lambda file: file.stat().st_size)) for model in models
    )
    assert len(plain) > 20
    assert plain.keys() == again.keys()
    assert all(torch.equal(plain[name], again[name]) for name in plain)
