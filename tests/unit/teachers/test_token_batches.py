"""Batches bounded in padded tokens, and that models see no larger ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import TEXTS, make_tokenizer, save_with_own_code

from neural_sparse.teachers import CrossEncoderTeacher, DenseTeacher, SparseTeacher, TeacherCache
from neural_sparse.teachers.token_batches import by_tokens, token_lengths

SHORT = [f"file {number}" for number in range(40)]
LONG = [f"{number} {text} {text} {text}" for number, text in enumerate(TEXTS * 2)]


@given(st.lists(st.integers(1, 30), max_size=20), st.integers(1, 60))
def test_batches_are_as_large_as_they_may_be(lengths: list[int], tokens: int) -> None:
    slices = by_tokens(np.array(lengths, np.int64), tokens)
    assert [length for part in slices for length in lengths[part]] == lengths
    for number, part in enumerate(slices):
        batch = lengths[part]
        assert len(batch) == 1 or max(batch) * len(batch) <= tokens
        if number + 1 < len(slices):
            more = [*batch, lengths[part.stop]]
            assert max(more) * len(more) > tokens


def test_lengths_are_those_the_model_reads() -> None:
    tokenizer = make_tokenizer("bert")
    texts = ["return a list", "", "open a file " * 30]
    expected = [min(20, len(ids)) for ids in tokenizer(texts)["input_ids"]]
    assert token_lengths(texts, tokenizer, 20).tolist() == expected
    assert token_lengths(texts[:1], tokenizer, 20, "a file ").tolist() == [expected[0] + 2]
    pairs = [(text, texts[0]) for text in texts]
    both = [min(20, len(ids)) for ids in tokenizer(texts, [texts[0]] * 3)["input_ids"]]
    assert token_lengths(pairs, tokenizer, 20).tolist() == both


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    return lambda kind: str(save_with_own_code(kind, tmp_path / f"batched_{kind.replace('-', '_')}"))


@pytest.mark.parametrize("kind", [DenseTeacher, SparseTeacher, CrossEncoderTeacher])
def test_long_texts_come_in_small_batches_and_short_ones_in_large(
    kind: Any, trusted: Callable[[str], str]
) -> None:
    name = trusted(kind.kind)
    teacher = kind(name, device="cpu", max_length=32, batch_size=4, trust_remote_code=True)
    shapes: list[tuple[int, ...]] = []
    module = next(one for one in teacher.model.modules() if type(one).__name__ == "BertEncoder")
    module.register_forward_pre_hook(
        lambda _, arguments, named: shapes.append(tuple((arguments or list(named.values()))[0].shape[:2])),
        with_kwargs=True,
    )
    queries, documents = ["a query"], [*SHORT, *LONG]
    pairs = np.column_stack((np.zeros(len(documents), np.int64), np.arange(len(documents))))
    cache = TeacherCache()
    teacher.prepare(queries, documents, pairs, cache)
    assert all(texts * tokens <= 4 * 32 for texts, tokens in shapes)
    assert max(tokens for _, tokens in shapes) == 32
    assert max(texts for texts, _ in shapes) > 8  # short
    several = [texts for texts, tokens in shapes if tokens == 32]
    assert max(several) == 4

    apart = kind(name, device="cpu", max_length=32, batch_size=1, trust_remote_code=True)
    one, other = (
        teacher.prepare(queries, documents, pairs, cache),
        apart.prepare(queries, documents, pairs, TeacherCache()),
    )
    everything = np.arange(1), np.arange(len(documents)), np.ones((1, len(documents)), np.bool_)
    np.testing.assert_allclose(one.scores(*everything)[0], other.scores(*everything)[0], rtol=2e-2, atol=2e-2)
