"""LoRA: only adapters move, the model that is saved has none, and a resumed run ends with the same weights."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SparseEncoder

from neural_sparse import InputError, NeuralSparseEncoder, train
from neural_sparse.config import Recipe
from neural_sparse.training.low_rank import FILE, LowRank
from neural_sparse.training.setup import check_packages

TinyModel = Callable[..., Path]
needs_peft = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="needs peft")


def recipe(folder: Path, init: Path, texts: list[str], **changes: Any) -> Recipe:
    pairs = [{"query": " ".join(text.split()[:3]), "pos": text, "negs": texts[:2]} for text in texts[2:]]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    settings: dict[str, Any] = {
        "init": str(init),
        "train": (str(folder / "pairs.jsonl"),),
        "output": str(folder / "whole"),
        "teacher_cache": str(folder / "cache"),
        "ranking": {"info_nce": 1.0},
        "num_steps": 4,
        "save_steps": 2,
        "batch_size": 2,
        "num_hard_negatives": 1,
        "learning_rate": 1e-2,
        "warmup_steps": 1,
        "max_length": 24,
        "lambda_flops": 1e-3,
        "bf16": False,
        "collapse_guard": False,
    }
    return Recipe(**(settings | changes))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(NeuralSparseEncoder(folder, device="cpu").state_dict())


def resumed(asked: Recipe, output: Path) -> Path:
    """The run again from its checkpoint after half of the steps."""
    shutil.copytree(asked.output, output)
    shutil.rmtree(output / "final_model")
    shutil.rmtree(output / "checkpoint-4")
    return train(replace(asked, output=str(output)))


@needs_peft
@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_only_adapters_move_and_merging_changes_no_vector(
    architecture: str, tiny_model: TinyModel, texts: list[str]
) -> None:
    model = NeuralSparseEncoder(tiny_model(architecture), 24, device="cpu")
    start = model.encode_documents(texts)
    before = {name: one.clone() for name, one in model.state_dict().items()}
    adapter = LowRank(model, rank=2, alpha=4.0)
    assert abs(model.encode_documents(texts) - start).max() == 0  # B is 0
    moved = [one for one in model.parameters() if one.requires_grad]
    optimiser = torch.optim.AdamW(moved, lr=0.05)
    for _ in range(3):
        optimiser.zero_grad()
        tokens = model.tokenizer(texts, padding=True, truncation=True, max_length=24, return_tensors="pt")
        model(tokens["input_ids"], tokens["attention_mask"]).square().sum().backward()
        optimiser.step()
    after = {name.replace(".base_layer", ""): one for name, one in model.state_dict().items()}
    adapters = {name for name in after if "lora_" in name}
    assert after.keys() - adapters == before.keys()
    assert all(torch.equal(after[name], one) for name, one in before.items())
    assert sum(one.numel() for one in moved) == sum(after[name].numel() for name in adapters)
    trained = model.encode_documents(texts)
    assert abs(trained - start).max() > 1e-3
    merged = adapter.merged()
    assert merged.state_dict().keys() == before.keys()
    np.testing.assert_allclose(merged.encode_documents(texts).toarray(), trained.toarray(), atol=1e-4)
    assert abs(model.encode_documents(texts) - trained).max() == 0  # goes on as it was
    adapter.merge()
    assert all(torch.equal(one, merged.state_dict()[name]) for name, one in model.state_dict().items())


@needs_peft
@pytest.mark.integration  # runs, of seconds
def test_a_run_and_a_resumed_one(tiny_model: TinyModel, texts: list[str], tmp_path: Path) -> None:
    asked = recipe(tmp_path, tiny_model("bert"), texts, lora_rank=2, lora_targets=("query", "value"))
    folder = train(asked)
    start, whole = weights(Path(asked.init)), weights(folder)
    moved = {name for name in whole if name in start and not torch.equal(start[name], whole[name])}
    moved -= {name for name in moved if "query.0" in name}  # the table has IDF now
    assert len(moved) == 4  # two layers, the query and the value of each
    assert all(name.endswith(("self.query.weight", "self.value.weight")) for name in moved)
    saved = load_file(Path(asked.output) / "checkpoint-4" / FILE)
    assert all("lora_" in name for name in saved)
    assert all(
        torch.equal(one, whole[name]) for name, one in weights(Path(asked.output) / "checkpoint-4").items()
    )
    plain = SparseEncoder(str(folder), device="cpu").encode_document(texts, convert_to_sparse_tensor=False)
    ours = NeuralSparseEncoder(folder, device="cpu").encode_documents(texts)
    np.testing.assert_allclose(plain.numpy(), ours.toarray(), atol=1e-5)
    again = weights(resumed(asked, tmp_path / "resumed"))
    assert all(torch.equal(one, again[name]) for name, one in whole.items())


@pytest.mark.integration
def test_8_bit_adamw_and_resumed(tiny_model: TinyModel, texts: list[str], tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    asked = recipe(tmp_path, tiny_model("roberta"), texts, optimizer="adamw_8bit")
    whole = weights(train(asked))
    again = weights(resumed(asked, tmp_path / "resumed"))
    assert all(torch.equal(one, again[name]) for name, one in whole.items())


def test_refusals(
    tiny_model: TinyModel, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="set lora_rank"):
        recipe(tmp_path, tiny_model("bert"), texts, lora_targets=("query",))
    asked = recipe(tmp_path, tiny_model("bert"), texts, lora_rank=2)
    with monkeypatch.context() as patched:
        patched.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(InputError, match=r"lora_rank needs the package peft"):
            check_packages(asked)
    pytest.importorskip("peft")
    model = NeuralSparseEncoder(tiny_model("bert"), 24, device="cpu")
    with pytest.raises(InputError, match=r"no linear layer.*'q_proj'; there are dense, key, query, value"):
        LowRank(model, 2, 4.0, ["q_proj"])
    adapter = LowRank(model, 2, 4.0)
    with pytest.raises(InputError, match="trained without adapters"):
        adapter.load(tmp_path)
