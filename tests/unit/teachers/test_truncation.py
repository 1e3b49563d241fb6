from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from neural_sparse.teachers import BM25Teacher, EnsembleTeacher, SparseTeacher
from neural_sparse.teachers.token_batches import truncated_share, warn_if_truncated


def test_share_of_texts_a_teacher_cuts(
    tiny_model: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    texts = ["list sort file"] * 3 + ["list sort file open read quick brown fox"] * 7
    teacher = SparseTeacher(str(tiny_model("bert")), max_length=8)
    assert truncated_share(teacher, texts) == pytest.approx(0.7)
    with caplog.at_level(logging.WARNING):
        assert warn_if_truncated(teacher, texts) == pytest.approx(0.7)
    assert "cuts 70 % of the documents at its limit of 8 tokens" in caplog.text


def test_nothing_to_say(tiny_model: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    teacher = SparseTeacher(str(tiny_model("bert")))
    with caplog.at_level(logging.WARNING):
        assert warn_if_truncated(teacher, ["list sort file"] * 3) == 0
        assert warn_if_truncated(BM25Teacher(), ["a"]) is None
        assert truncated_share(teacher, []) is None
    assert "cuts" not in caplog.text


def test_a_sample_is_enough(tiny_model: Callable[..., Path]) -> None:
    teacher = SparseTeacher(str(tiny_model("bert")), max_length=8)
    texts = [("list " * 20 if row % 4 == 0 else "list") for row in range(10_000)]
    assert truncated_share(teacher, texts, sample=400) == pytest.approx(0.25, abs=0.05)


def test_said_once_when_texts_are_about_to_be_encoded(
    tiny_model: Callable[..., Path], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    texts = ["list sort file open read quick brown fox"] * 7
    name = str(tiny_model("bert"))
    ensemble = EnsembleTeacher(sparse_teacher_name=name, max_length=8, cache_dir=tmp_path)
    with caplog.at_level(logging.WARNING):
        ensemble.prepare(["list"], texts)
        ensemble.prepare(["list"], [*texts, "another list of files to open and to read"])
    assert caplog.text.count("cuts 100 % of the documents") == 1
    caplog.clear()
    again = EnsembleTeacher(sparse_teacher_name=name, max_length=8, cache_dir=tmp_path)
    again.prepare(["list"], texts)
    assert "cuts" not in caplog.text
    assert "model" not in vars(again.teachers[0])  # all is cached: nothing to load
