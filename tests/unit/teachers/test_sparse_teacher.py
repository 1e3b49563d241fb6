"""The two ways in which a sparse teacher encodes, behind the fused head and in plain sentence-transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.sparse_encoder.modules import SpladePooling
from tiny_models import TEXTS

from neural_sparse.teachers import SparseTeacher


def test_special_tokens_are_silent_either_way(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    def side() -> list:
        return [Transformer(str(tiny_model("bert")), transformer_task="fill-mask"), SpladePooling("max")]

    SparseEncoder(modules=side()).save_pretrained(str(tmp_path / "siamese"))
    two_sides = Router.for_query_document(side(), side())  # the fused head does not cover it
    SparseEncoder(modules=[two_sides]).save_pretrained(str(tmp_path / "two-sided"))
    fused, plain = (
        SparseTeacher(str(tmp_path / name), device="cpu", max_length=32) for name in ("siamese", "two-sided")
    )
    for task in ("query", "document"):
        ours, theirs = (teacher.encode(TEXTS, task).toarray() for teacher in (fused, plain))  # type: ignore[arg-type]
        np.testing.assert_allclose(ours, theirs, atol=2e-3)  # rounded to float16
        assert not theirs[:, fused.model.tokenizer.all_special_ids].any()
        assert theirs.any()
    assert isinstance(fused.model, SparseEncoder)
    assert type(plain.model) is SparseEncoder
