from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from neural_sparse.teachers import BM25Teacher, SparseTeacher
from neural_sparse.teachers.truncation import truncated_share, warn_if_truncated


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
