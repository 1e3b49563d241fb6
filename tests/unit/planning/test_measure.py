"""`plan --measure`: every rate of this machine is timed, and the plan uses it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from neural_sparse.config import Recipe, TeacherConfig
from neural_sparse.planning import measure as module
from neural_sparse.planning.estimate import Basis
from neural_sparse.planning.hardware import Hardware
from neural_sparse.planning.rates import DEFAULT
from neural_sparse.planning.stages import plan
from neural_sparse.planning.workload import workload_of

TIMED = {
    "tokenizing",
    "counting",
    "reading",
    "hashing",
    "bm25_indexing",
    "indexing",
    "encoding",
    "training",
    "teaching",
}


@pytest.mark.integration  # seconds long
def test_a_plan_from_what_was_timed_here(
    tiny_model: Callable[..., Path], texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.01)
    monkeypatch.setattr(module, "READ", 500)
    monkeypatch.setattr(module, "INDEXED", 10_000)
    model = str(tiny_model("bert"))
    file = tmp_path / "pairs.jsonl"
    rows = [{"query": f"sort {n}", "pos": f"{texts[n % len(texts)]} {n}"} for n in range(300)]
    file.write_text("\n".join(map(json.dumps, rows)))
    recipe = Recipe(model, (str(file),), teachers=(TeacherConfig("sparse", model),), max_length=16)
    said: list[str] = []
    rates, work = module.measure(recipe, DEFAULT, workload_of(recipe), said.append)
    for field in fields(rates):
        if field.name in TIMED:
            figure = getattr(rates, field.name)
            assert figure.value > 0
            assert figure.source == "timed here by --measure", field.name
    assert work.terms.basis is Basis.measured
    assert work.terms.value > 1
    assert said == ["tokenizing and counting", "encoding", f"teacher {model}", "training"]
    estimates = plan(recipe, work, Hardware("this", cores=2), rates)
    assert all(one.seconds > 0 for one in estimates)


def test_a_teacher_that_is_not_here_keeps_the_default(
    tiny_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.01)
    recipe = Recipe(
        str(tiny_model("bert")), ("x",), teachers=(TeacherConfig("dense", "BAAI/bge-small-en-v1.5"),)
    )
    said: list[str] = []
    assert module._teaching(recipe, ["a text"] * 10, said.append) is None
    assert "is not measured" in said[-1]
