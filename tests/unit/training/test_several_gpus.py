"""Several GPUs in one process: one is used, and that is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import TEXTS

from neural_sparse.config import Recipe
from neural_sparse.data.training_set import TrainingSet
from neural_sparse.doctor.machine import several_devices
from neural_sparse.io.files import read_json
from neural_sparse.training import setup
from neural_sparse.training.train import train
from neural_sparse.work import ranks


def test_a_run_that_sees_two_gpus_uses_one(
    tiny_model: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Two devices are counted and the trainer believes them; cutting the batch for them would be an error."""

    class Cutting(torch.nn.DataParallel):
        def __init__(self, *args: object, **kwargs: object) -> None:
            raise AssertionError("packed documents would be cut for two devices")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.nn, "DataParallel", Cutting)
    # The arguments count no GPU where the processor is asked for.
    asked = setup.SparseEncoderTrainingArguments.__post_init__

    def without_use_cpu(self: Any) -> None:
        self.use_cpu = False
        asked(self)

    monkeypatch.setattr(setup.SparseEncoderTrainingArguments, "__post_init__", without_use_cpu)
    recipe = Recipe(
        init=str(tiny_model()),
        train=("none",),
        output=str(tmp_path / "run"),
        ranking={"info_nce": 1.0},
        num_steps=2,
        batch_size=2,
        num_hard_negatives=0,
        warmup_steps=0,
        max_length=32,
        bf16=False,
        logging_steps=1,
    )
    data = TrainingSet([text[:12] for text in TEXTS], TEXTS, np.arange(len(TEXTS)))
    train(recipe, data=data)
    history = read_json(Path(recipe.output) / "metrics.json")["history"]
    assert [row["step"] for row in history] == [1, 2]
    assert "DataParallel" not in caplog.text


def test_the_others_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for count, told in ((1, False), (2, True), (8, True)):
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        said = ranks.unused_devices()
        assert (said is not None) == told
        assert bool(several_devices(count)) == told
        if said is not None:
            assert said.startswith(f"{count} GPUs are visible, this process uses cuda:0; ")
            assert f"torchrun --nproc-per-node {count} -m neural_sparse train" in said
    monkeypatch.setattr(ranks, "world_size", lambda: 8)
    assert ranks.unused_devices() is None
    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert ranks.unused_devices() is None
