"""A moving average of the weights: its formula, that it becomes the model, and that a resumed run has the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import TrainerControl, TrainerState, TrainingArguments

from neural_sparse import NeuralSparseEncoder, train
from neural_sparse.config import Recipe
from neural_sparse.errors import InputError
from neural_sparse.training.weight_average import FILE, WeightAverage


def test_formula(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    average = WeightAverage(model, 0.8)
    args, control = TrainingArguments(output_dir=str(tmp_path)), TrainerControl()
    average.on_train_begin(args, TrainerState(), control)
    expected = model.weight.detach().clone()
    for step in range(1, 40):
        with torch.no_grad():
            model.weight.normal_()
        average.on_step_end(args, TrainerState(global_step=step), control)
        decay = min(0.8, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach()
    own = model.weight.detach().clone()
    with average.applied():
        torch.testing.assert_close(model.weight.detach(), expected)
    assert torch.equal(model.weight, own)
    average.save(tmp_path)
    assert list(load_file(tmp_path / FILE)) == ["weight"]  # what is not trained needs no average


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(NeuralSparseEncoder(folder, device="cpu").state_dict())


def test_the_average_is_the_model_of_a_run_and_of_a_resumed_one(
    tiny_model: Callable[..., Path], texts: list[str], tmp_path: Path
) -> None:
    pairs = [{"query": " ".join(text.split()[:3]), "pos": text, "negs": texts[:2]} for text in texts[2:]]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    recipe = Recipe(
        init=str(tiny_model("bert")),
        train=(str(tmp_path / "pairs.jsonl"),),
        output=str(tmp_path / "whole"),
        teacher_cache=str(tmp_path / "cache"),
        ranking={"info_nce": 1.0},
        num_steps=6,
        save_steps=2,
        batch_size=2,
        num_hard_negatives=1,
        learning_rate=1e-2,
        warmup_steps=1,
        max_length=24,
        lambda_flops=1e-3,
        bf16=False,
        ema_decay=0.9,
        schedule="cosine",
        optimizer="adamw",
        in_batch_negatives=False,
        collapse_guard=False,
    )
    whole = weights(train(recipe))
    last = tmp_path / "whole" / "checkpoint-6"
    average = load_file(last / FILE)
    raw = weights(last)
    assert all(torch.equal(whole[name], average[name]) for name in average if name in whole)
    assert any(not torch.equal(whole[name], raw[name]) for name in average)
    rates = [
        row["learning_rate"] for row in json.loads((last / "trainer_state.json").read_text())["log_history"]
    ]
    assert rates[-1] < 1e-3  # the cosine has come down
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    for gone in ("final_model", "checkpoint-6", "metrics.json"):
        path = tmp_path / "again" / gone
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    resumed = weights(train(replace(recipe, output=str(tmp_path / "again"))))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_what_a_key_needs_is_looked_for_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe(init="m", train=("none",), output=str(tmp_path), ranking={"info_nce": 1.0})
    found = __import__("importlib.util").util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name == "bitsandbytes" else found(name)
    )
    with pytest.raises(InputError, match="optimizer=adamw_8bit needs the package bitsandbytes"):
        train(replace(recipe, optimizer="adamw_8bit"))
    with pytest.raises(InputError, match="HF_HUB_OFFLINE"):  # as all unit tests are
        train(replace(recipe, push_to_hub="me/model"))
