"""The batch that fits: found by search or by prediction, kept on resuming, and nothing else of the run changed."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_models import TEXTS

from neural_sparse.config import Recipe, TeacherConfig
from neural_sparse.data.training_set import TrainingSet
from neural_sparse.errors import InputError
from neural_sparse.idf import IdfWeights, idf_weights
from neural_sparse.io.files import read_json
from neural_sparse.io.resources import available_memory, peak_memory, reset_peak_memory, resident_memory
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.text.tokens import vocabulary
from neural_sparse.training import auto_batch
from neural_sparse.training.auto_batch import (
    check_auto_batch,
    largest_batch,
    largest_fitting,
    predict,
    settle_batch,
)
from neural_sparse.training.run_folder import CONFIG_FILE, claim, finished_model
from neural_sparse.training.train import train
from neural_sparse.work import ranks

pytestmark = pytest.mark.integration  # trains

Tiny = Callable[..., Path]
WORDS = [word for text in TEXTS for word in text.lower().rstrip(".").split()]


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 7, 8, 9, 40, 63, 64, 65, 100, 1000])
@pytest.mark.parametrize("most", [1, 5, 64, 100])
def test_search_ends_within_an_eighth_below_what_fits(limit: int, most: int) -> None:
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= limit

    found = largest_fitting(fits, most)
    best = min(limit, most)
    assert best - max(1, best // 8) <= found <= best
    assert (found == 0) == (limit == 0)
    assert len(tried) == len(set(tried))
    assert max(tried) <= most
    assert not found or found in tried  # nothing is taken that was not tried
    assert sum(size > limit for size in tried) <= 5


def test_prediction_of_a_straight_line_is_exact() -> None:
    peaks = [(size, 100 + 7 * size) for size in (2, 4, 8)]
    for budget in (100, 107, 156, 800, 10_000):
        found = predict(peaks, budget, 500)
        assert found == min(500, max(0, (budget - 100) // 7))


def test_prediction_takes_the_steepest_growth() -> None:
    peaks = [(2, 120), (4, 120), (8, 160)]  # hidden by what the process had before, at first
    assert predict(peaks, 560, 1000) == 8 + 40
    assert predict([(2, 120), (4, 160), (8, 180)], 560, 1000) == 8 + (560 - 180) // 20


def test_prediction_from_what_is_too_small_to_be_seen() -> None:
    assert predict([(2, 120), (4, 120), (8, 120)], 200, 64) == 64
    assert predict([(2, 120), (4, 120), (8, 120)], 100, 64) == 0
    assert predict([(3, 300)], 1000, 64) == 10  # one trial: all of its memory is the batch's


@pytest.fixture
def data() -> TrainingSet:
    rng = np.random.default_rng(0)
    documents = [" ".join(rng.choice(WORDS, rng.integers(3, 40))) for _ in range(40)]
    queries = [" ".join(documents[row].split()[:3]) for row in range(30)]
    return TrainingSet(queries, documents, np.arange(30))


@pytest.fixture
def recipe(tiny_model: Tiny, tmp_path: Path) -> Recipe:
    return Recipe(
        init=str(tiny_model()),
        train=("none",),
        output=str(tmp_path / "run"),
        teacher_cache=str(tmp_path / "cache"),
        teachers=(TeacherConfig("bm25"),),
        auto_batch=True,
        num_steps=4,
        num_hard_negatives=2,
        negatives_pool=4,
        learning_rate=1e-3,
        warmup_steps=0,
        max_length=32,
        bf16=False,
        save_steps=2,
    )


def parts(recipe: Recipe) -> tuple[NeuralSparseEncoder, IdfWeights]:
    model = NeuralSparseEncoder(recipe.init, recipe.max_length, device="cpu")
    return model, idf_weights(dict.fromkeys(vocabulary(model.tokenizer), 1.5), model.tokenizer)


@pytest.mark.integration  # seconds long
def test_the_batch_found_is_recorded_and_trains(
    recipe: Recipe, data: TrainingSet, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        final = train(recipe, data=data)
    config = read_json(Path(recipe.output) / CONFIG_FILE)
    assert config["batch_size"] == 30  # all there are: so little fits everywhere
    assert "auto_batch: batch_size=30 (the most that is tried)" in caplog.text
    assert read_json(final.parent / "metrics.json")["steps"] == 4
    assert finished_model(recipe) == final  # the recipe that asked is the recipe of this run
    with pytest.raises(InputError, match="finished run of this recipe"):
        claim(Path(recipe.output), recipe, overwrite=False)


@pytest.mark.integration  # seconds long
def test_nothing_else_differs_from_a_run_with_that_batch(
    recipe: Recipe, data: TrainingSet, tmp_path: Path
) -> None:
    found = train(recipe, data=data)
    named = train(replace(recipe, auto_batch=False, batch_size=30, output=str(tmp_path / "named")), data=data)
    for file in sorted(found.rglob("*.safetensors")):
        mine, other = load_file(file), load_file(named / file.relative_to(found))
        assert all(torch.equal(mine[name], other[name]) for name in mine)


def test_a_resumed_run_keeps_its_batch(
    recipe: Recipe, data: TrainingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto_batch, "largest_batch", lambda *_: 6)
    train(recipe, data=data)
    output = Path(recipe.output)
    shutil.rmtree(output / "final_model")
    (output / "checkpoint-4" / "complete").unlink()

    def asked(*_: Any) -> int:
        raise AssertionError("a resumed run looks for no other batch")

    monkeypatch.setattr(auto_batch, "largest_batch", asked)
    train(recipe, data=data)
    assert read_json(output / CONFIG_FILE)["batch_size"] == 6
    assert read_json(output / "metrics.json")["steps"] == 4
    assert claim(output, replace(recipe, learning_rate=1e-4), False, resume_anyway=True) is not None
    assert read_json(output / CONFIG_FILE)["batch_size"] == 6


def test_a_run_that_was_killed_before_any_checkpoint_looks_again(
    recipe: Recipe, data: TrainingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, idf = parts(recipe)
    for size in (6, 9):
        assert claim(Path(recipe.output), recipe, overwrite=False) is None
        monkeypatch.setattr(auto_batch, "largest_batch", lambda *_, size=size: size)
        settled = settle_batch(recipe, model, idf, data, resumed=False)
        assert settled.batch_size == read_json(Path(recipe.output) / CONFIG_FILE)["batch_size"] == size


def test_random_state_and_weights_stay_as_they_are(recipe: Recipe, data: TrainingSet) -> None:
    model, idf = parts(recipe)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    needs = {name: tensor.requires_grad for name, tensor in model.named_parameters()}

    def draw() -> tuple[Any, ...]:
        return random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002

    def seed() -> None:
        random.seed(5)
        np.random.seed(5)  # noqa: NPY002
        torch.manual_seed(5)

    seed()
    expected = draw()
    seed()
    largest_batch(replace(recipe, train_query_weights=True), model, idf, data)
    assert draw() == expected
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert {name: tensor.requires_grad for name, tensor in model.named_parameters()} == needs
    assert not model.training
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_a_trial_is_made_of_the_longest_documents(recipe: Recipe, data: TrainingSet) -> None:
    model, idf = parts(recipe)
    trial = auto_batch.TrialSteps(recipe, model, idf, data)
    lengths = [len(model.tokenizer(text)["input_ids"]) for text in trial.documents]
    assert lengths[0] >= 32
    batch = trial._data(100)
    assert len(batch) == 100
    assert all(len(row) == 2 for row in batch.negatives)
    rows = np.concatenate([batch.positives, *batch.negatives])
    assert len(np.unique(rows)) == 300
    assert len(trial._data(1)) == 1


def test_a_budget_that_nothing_fits_into(recipe: Recipe, data: TrainingSet) -> None:
    model, idf = parts(recipe)
    with pytest.raises(InputError, match=r"not even one query.*max_length or num_hard_negatives smaller"):
        largest_batch(recipe, model, idf, data, budget=1000)


@pytest.mark.parametrize(
    ("budget", "most", "found", "sizes"),
    [
        (449, 64, 6, [2, 4]),  # 8 would need 500
        (500, 64, 8, [2, 4, 8]),
        (1199, 64, 21, [2, 4, 8, 16]),
        (10_000, 64, 64, [2, 4, 8, 16, 32, 64]),
        (10_000, 50, 50, [2, 4, 8, 16, 32, 50]),
        (10_000, 1, 1, [1]),
        (120, 64, 0, [2, 4]),
    ],
)
def test_trials_double_and_none_is_larger_than_what_is_expected_to_fit(
    budget: int, most: int, found: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def peak(trial: Any, size: int) -> int:
        tried.append(size)
        return 100 + 50 * size

    monkeypatch.setattr(auto_batch, "_peak_of", peak)
    trial: Any = None
    assert predict(auto_batch._peaks(trial, budget, most), budget, most) == found
    assert tried == sizes


def test_memory_that_was_freed_before_does_not_hide_the_trials() -> None:
    """As after teachers: what lies between blocks that are still in use stays with the process until it is trimmed."""

    class Trial:
        def run(self, batch: int) -> None:
            _ = [np.ones(100_000, np.uint8) for _ in range(100 * batch)]

    blocks = [np.ones(100_000, np.uint8) for _ in range(2000)]
    kept = blocks[::50]
    del blocks
    trial: Any = Trial()
    small, large = (auto_batch._peak_of(trial, size) for size in (2, 8))
    assert len(kept) == 40
    assert 40_000_000 < large - small < 80_000_000


def test_several_devices_are_refused(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    check_auto_batch(recipe)
    monkeypatch.setattr(ranks, "world_size", lambda: 2)
    with pytest.raises(InputError, match="this run has 2: find the batch on one of them"):
        check_auto_batch(recipe)
    check_auto_batch(replace(recipe, auto_batch=False))


class Device:
    """A CUDA device of so many bytes, as far as auto_batch asks for one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, total: int, per_query: int, others: int = 0) -> None:
        self.total, self.per_query, self.others, self.held, self.peak = total, per_query, others, 100, 0
        for name, function in {
            "reset_peak_memory_stats": lambda _: None,
            "memory_allocated": lambda _: self.held,
            "max_memory_allocated": lambda _: self.peak,
            "mem_get_info": lambda _: (self.total - self.held - self.others, self.total),
        }.items():
            monkeypatch.setattr(torch.cuda, name, function)
        self.model = type("Model", (), {"device": torch.device("cuda")})()

    def run(self, batch: int) -> None:
        self.peak = self.held + batch * self.per_query
        if self.peak + self.others > self.total:
            raise torch.OutOfMemoryError("too much")


def test_on_a_gpu_the_trial_itself_says_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_batch, "_release", lambda: None)
    device: Any = Device(monkeypatch, total=10_000, per_query=10)
    assert auto_batch._fits_cuda(device, 840, None)
    assert not auto_batch._fits_cuda(device, 841, None)  # it runs, and leaves less than the headroom
    assert not auto_batch._fits_cuda(device, 2000, None)  # it does not run
    assert auto_batch._fits_cuda(device, 40, 500)
    assert not auto_batch._fits_cuda(device, 41, 500)
    shared: Any = Device(monkeypatch, total=10_000, per_query=10, others=4000)
    assert auto_batch._fits_cuda(shared, 500, None)
    assert not auto_batch._fits_cuda(shared, 501, None)


def test_memory_of_this_process() -> None:
    reset_peak_memory()
    before, resident = peak_memory(), resident_memory()
    block = np.ones(40_000_000, np.uint8)
    assert 30_000_000 < peak_memory() - before < 60_000_000
    del block
    assert peak_memory() - before > 30_000_000
    assert resident <= before + 1_000_000
    assert available_memory() > 0
