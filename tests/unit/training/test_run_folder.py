"""What a run leaves in its folder."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from tiny_models import TEXTS

from neural_sparse.config import Recipe, TeacherConfig
from neural_sparse.corpora.collection import write_queries
from neural_sparse.corpora.qrels_file import write_qrels
from neural_sparse.data.training_set import TrainingSet
from neural_sparse.doctor import examine
from neural_sparse.errors import InputError
from neural_sparse.io.files import read_json, write_text
from neural_sparse.training import monitor
from neural_sparse.training.monitor import CollapseGuard
from neural_sparse.training.run_folder import changes, claim, dev_history, finished_model
from neural_sparse.training.train import train
from neural_sparse.training.trainer import NeuralSparseTrainer, checkpoints
from neural_sparse.training.weight_average import WeightAverage

Tiny = Callable[..., Path]


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    folder = tmp_path / "dev"
    (folder / "qrels").mkdir(parents=True)
    lines = [json.dumps({"_id": f"d{row}", "text": text}) for row, text in enumerate(TEXTS)]
    write_text(folder / "corpus.jsonl", "\n".join(lines))
    write_queries(folder / "queries.jsonl", {"q0": TEXTS[0][:20], "q1": TEXTS[1][:20]})
    write_qrels(folder / "qrels" / "dev.tsv", {"q0": {"d0": 1}, "q1": {"d1": 1}})
    return folder


@pytest.fixture
def data() -> TrainingSet:
    return TrainingSet([text[:12] for text in TEXTS], [text * 9 for text in TEXTS], np.arange(len(TEXTS)))


def test_teachers_of_a_version_that_knew_fewer_settings(tmp_path: Path) -> None:
    teacher = TeacherConfig("dense", "d", max_length=32)
    recipe = Recipe("m", ("none",), str(tmp_path / "run"), teachers=(teacher,))
    claim(tmp_path / "run", recipe, overwrite=False)
    config = read_json(tmp_path / "run" / "training_config.json")
    config["teachers"] = [{"kind": "dense", "name": "d", "weight": 1.0, "max_length": 32}]
    write_text(tmp_path / "run" / "training_config.json", json.dumps(config))
    assert not changes(recipe)
    assert not changes(replace(recipe, teachers=(replace(teacher, batch_size=4),)))
    assert "teachers" in changes(replace(recipe, teachers=(replace(teacher, query_prompt="q: "),)))


@pytest.mark.usefixtures("drawn")
def test_a_run_that_stops_before_its_first_log_line(
    tiny_model: Tiny, dev: Path, data: TrainingSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = Recipe(
        init=str(tiny_model()),
        train=("none",),
        output=str(tmp_path / "run"),
        ranking={"info_nce": 1.0},
        num_steps=20,
        batch_size=2,
        num_hard_negatives=1,
        learning_rate=0.0,  # so that no judgement is better than the first
        warmup_steps=0,
        max_length=32,
        bf16=False,
        dev=str(dev),
        eval_steps=1,
        early_stopping=2,
    )
    final = train(recipe, data=data)
    metrics = read_json(final.parent / "metrics.json")
    assert (final / "modules.json").is_file()
    assert (metrics["steps"], metrics["history"], metrics["best_step"]) == (3, [], 1)
    assert [row["step"] for row in metrics["dev"]] == [1, 2, 3]
    assert metrics["cut_documents"] == 1.0
    assert not (final.parent / "training_losses.png").exists()
    assert "learning rate: 0: nothing is learnt; better learning_rate=2e-5" in caplog.text  # before it began


@pytest.fixture
def recipe(tiny_model: Tiny, tmp_path: Path) -> Recipe:
    return Recipe(
        init=str(tiny_model()),
        train=("none",),
        output=str(tmp_path / "run"),
        ranking={"info_nce": 1.0},
        num_steps=4,
        batch_size=2,
        num_hard_negatives=1,
        warmup_steps=0,
        max_length=32,
        bf16=False,
        save_steps=2,
        logging_steps=1,
    )


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InputError("documents have become empty: smaller"), "documents have become empty: smaller"),
        (
            torch.OutOfMemoryError("CUDA out of memory.\nTried"),
            r"(?s)out of memory \(CUDA out of memory\)\. Add to the same command, in this order:\n  cache_tokens=32  .*"
            "--resume-anyway goes on from checkpoint-2",
        ),
    ],
)
@pytest.mark.usefixtures("drawn")
def test_a_run_that_stops_itself_leaves_what_it_logged(
    recipe: Recipe, data: TrainingSet, error: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Path(recipe.output)
    healthy = CollapseGuard.check

    def stop(self: CollapseGuard, step: int, *figures: Any, **named: Any) -> None:
        if step == 3:
            raise error
        healthy(self, step, *figures, **named)

    monkeypatch.setattr(CollapseGuard, "check", stop)
    with pytest.raises(InputError, match=message):
        train(recipe, data=data)
    metrics = read_json(output / "metrics.json")
    assert [row["step"] for row in metrics["history"]] == [1, 2, 3]
    assert (output / "training_losses.png").is_file()
    assert re.search(message, metrics["stopped"])
    (finding,) = (one for one in examine(output).findings if one.check == "state")
    assert (finding.found, finding.advice) == ("stopped itself at step 4 of 4", metrics["stopped"])
    monkeypatch.undo()
    train(recipe, data=data)  # goes on
    assert "stopped" not in read_json(output / "metrics.json")


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("stop", "raised", "reason"),
    [
        (FileNotFoundError(2, "No such file or directory", "pairs.jsonl"), FileNotFoundError, "No such file"),
        (ConnectionResetError("peer"), ConnectionResetError, "ConnectionResetError: peer"),
        (KeyboardInterrupt(), KeyboardInterrupt, r"interrupted \(Ctrl-C\)"),
        (terminate, SystemExit, r"interrupted \(SIGTERM\)"),
        (MemoryError(), InputError, r"out of memory \(MemoryError\)"),
    ],
    ids=["a file to read", "a connection", "Ctrl-C", "SIGTERM", "memory"],
)
def test_whatever_ends_a_run_is_told_as_what_it_is(
    recipe: Recipe,
    data: TrainingSet,
    stop: BaseException | Callable[[], None],
    raised: type[BaseException],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was told as an output that cannot be written; metrics.json says it too."""

    def end(self: CollapseGuard, step: int, *figures: Any, **named: Any) -> None:
        if step == 1:
            if isinstance(stop, BaseException):
                raise stop
            stop()

    monkeypatch.setattr(CollapseGuard, "check", end)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(raised) as caught:
        train(recipe, data=data)
    assert "cannot write" not in str(caught.value)
    assert signal.getsignal(signal.SIGTERM) is before
    metrics = read_json(Path(recipe.output) / "metrics.json")
    assert (metrics["steps"], len(metrics["history"])) == (2, 1)
    assert re.search(reason, metrics["stopped"])
    (finding,) = (one for one in examine(Path(recipe.output)).findings if one.check == "state")
    assert finding.verdict == ("warning" if "interrupted" in reason else "problem")


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"),
    ],
    ids=["python", "safetensors", "torch"],
)
def test_a_disk_that_is_full(
    recipe: Recipe, data: TrainingSet, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a checkpoint is written, by whichever library; complete ones are there to go on from."""

    def full(self: NeuralSparseTrainer, folder: str) -> None:
        raise error

    monkeypatch.setattr(NeuralSparseTrainer, "_save_optimizer_and_scheduler", full)
    with pytest.raises(
        InputError, match=r"cannot write .*checkpoint-2: .*; complete checkpoints are kept; make room"
    ):
        train(recipe, data=data)
    assert "cannot write" in read_json(Path(recipe.output) / "metrics.json")["stopped"]
    assert checkpoints(recipe.output) == []


def test_a_disk_that_is_full_beside_the_weights(
    recipe: Recipe, data: TrainingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a run keeps of its own is written after the model."""

    def full(self: WeightAverage, folder: Path) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(WeightAverage, "save", full)
    with pytest.raises(InputError, match=r"cannot write .*checkpoint-2: .*complete checkpoints are kept"):
        train(replace(recipe, ema_decay=0.9), data=data)
    assert checkpoints(recipe.output) == []


def test_who_can_read_a_run(recipe: Recipe, data: TrainingSet) -> None:
    """Everyone who can read other files of the user's: safetensors leaves what it writes to its owner alone."""
    train(replace(recipe, ema_decay=0.9, vocabulary_sample=8), data=data)
    folder = Path(recipe.output)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"vocabulary_sample.safetensors", "weight_average.safetensors"} <= {path.name for path in files}
    private = [path.name for path in files if path.stat().st_mode & 0o666 != folder.stat().st_mode & 0o666]
    assert private == []


def test_documents_that_stay_dense(
    recipe: Recipe, data: TrainingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although FLOPS is nearly all of the loss: the weights hardly move. Without the guard the same run goes on."""
    monkeypatch.setattr(monitor, "PATIENCE", 4)
    monkeypatch.setattr(monitor, "WINDOW", 3)
    monkeypatch.setattr(monitor, "DENSE", 0.01)
    dense = replace(
        recipe,
        num_steps=14,
        save_steps=100,
        flops_ramp_steps=0,
        learning_rate=1e-3,
        max_grad_norm=1e-12,  # below Adam's epsilon: nothing moves
        lambda_flops=10.0,
    )
    with pytest.raises(
        InputError, match=r"documents stay dense .* Make learning_rate or max_grad_norm larger"
    ):
        train(dense, data=data)
    assert read_json(Path(recipe.output) / "metrics.json")["steps"] < 14
    train(replace(dense, collapse_guard=False), data=data)
    assert read_json(Path(recipe.output) / "metrics.json")["steps"] == 14


def test_a_finished_run_that_goes_on_with_another_recipe_is_finished_no_more(
    recipe: Recipe, data: TrainingSet
) -> None:
    output = Path(recipe.output)
    train(recipe, data=data)
    longer = replace(recipe, num_steps=6)
    assert claim(output, longer, overwrite=False, resume_anyway=True) == output / "checkpoint-4"
    # Interrupted here: the same command goes on, and does not take the shorter run's model for the longer one's.
    assert finished_model(longer) is None
    assert (output / "earlier_model" / "modules.json").is_file()
    train(longer, data=data)
    assert read_json(output / "metrics.json")["steps"] == 6


def test_judgements_of_a_log() -> None:
    log = [{"loss": 1.0, "step": 1}, {"eval_ndcg10": 0.5, "eval_flops": 2.0, "eval_runtime": 9.0, "step": 2}]
    assert dev_history(log) == [{"step": 2, "ndcg10": 0.5, "flops": 2.0}]


def test_a_run_of_a_version_that_knew_fewer_keys(tmp_path: Path) -> None:
    recipe = Recipe("m", ("t",), teachers=(TeacherConfig("bm25"),), output=str(tmp_path))
    assert claim(tmp_path, recipe, overwrite=False) is None
    file = tmp_path / "training_config.json"
    known = read_json(file)
    needed = {"init": "m", "train": ["t"], "teachers": known["teachers"]}
    write_text(file, json.dumps(needed))
    assert changes(recipe) == ""
    assert changes(replace(recipe, term_targets={"bm25": 1.0})) == "term_targets: {} -> {'bm25': 1.0}"
