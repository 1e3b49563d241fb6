"""How long the work will take, said before it begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neural_sparse import NeuralSparseEncoder
from neural_sparse.adapt import estimate as module
from neural_sparse.adapt.estimate import SEARCHES, Estimate, estimate
from neural_sparse.config import Recipe, TeacherConfig
from neural_sparse.data.training_set import TrainingSet
from neural_sparse.planning.measure import encoding_speed, training_speed
from neural_sparse.teachers.builder import build_ensemble


def recipe_of(model: Path, **values: Any) -> Recipe:
    return Recipe(
        str(model),
        ("x",),
        teachers=(TeacherConfig("sparse", str(model), max_length=16), TeacherConfig("bm25")),
        num_steps=50,
        batch_size=8,
        num_hard_negatives=3,
        max_length=6,
        encode_max_length=16,
        **values,
    )


@dataclass
class Need:
    seconds: float


def data(texts: Sequence[str]) -> TrainingSet:
    return TrainingSet(["sort a list", "open a file"], list(texts), np.array([0, 1], np.int64))


def test_by_hand(tiny_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("bert")
    start = NeuralSparseEncoder(model, 16)
    long = "list " * 30  # 16 tokens where it is encoded, 6 where it is trained on
    asked: list[Any] = []

    def needs_of(*given: Any, documents: Any, **named: Any) -> list[Need]:
        asked.append((*given, documents))
        return [Need(7.0), Need(5.0)]

    monkeypatch.setattr(module, "needs_of", needs_of)
    monkeypatch.setattr(module, "training_speed", lambda *given, **named: (100.0, 6.0, 20.0))
    monkeypatch.setattr(module, "encoding_speed", lambda *given, **named: 32.0)
    recipe = recipe_of(model, gradient_accumulation_steps=2)
    ensemble = build_ensemble(recipe)
    training = data([long] * 40)
    judged = [f"{long}{row}" for row in range(30)]
    found = estimate(recipe, start, ensemble, ["q"], training, judged, encodings=2)
    assert asked[0][:3] == (ensemble.teachers, ["q"], [long, *judged])  # each once
    assert found.teachers == 12
    assert found.training == pytest.approx(50 * 2 * 8 * 4 * 6 / 100)
    assert found.once == pytest.approx(30 * 16 / 32)
    assert found.evaluating == pytest.approx(SEARCHES + 2 * found.once)
    assert found.total == pytest.approx(found.teachers + found.training + found.evaluating)


def test_as_people_say_it() -> None:
    assert str(Estimate(120, 400.0, 30.0)) == (
        "about 9.2 min on this machine: teachers 2.0 min, training 6.7 min, evaluating 30 s"
    )


@pytest.mark.parametrize("sample", [0, 12])
def test_a_real_one_leaves_the_model_as_it_was(
    sample: int, tiny_model: Callable[..., Path], texts: list[str]
) -> None:
    model = tiny_model("bert")
    start = NeuralSparseEncoder(model, 16)
    before = {name: value.clone() for name, value in start.state_dict().items()}
    recipe = recipe_of(model, vocabulary_sample=sample)
    found = estimate(
        recipe,
        start,
        build_ensemble(recipe),
        ["sort a list", "open a file"],
        data(texts * 4),
        texts,
        seconds=0.01,
    )
    assert min(found.teachers, found.training, found.once) > 0
    assert found.evaluating > SEARCHES
    assert start.max_length == 16
    assert not start.training
    for name, value in start.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in start.parameters())


def test_speeds_are_of_what_is_asked(tiny_model: Callable[..., Path], texts: list[str]) -> None:
    model = tiny_model("bert")
    start = NeuralSparseEncoder(model, 16)
    queries = ["sort a list", "open a file"]
    whole = training_speed(recipe_of(model), start, texts, queries, 0.01)
    part = training_speed(recipe_of(model, vocabulary_sample=12), start, texts, queries, 0.01)
    assert whole[1] == part[1] <= 6  # tokens of a document
    assert whole[2] == start.vocab_size
    assert 12 <= part[2] < start.vocab_size
    assert encoding_speed(start, texts, 0.01) > 0
