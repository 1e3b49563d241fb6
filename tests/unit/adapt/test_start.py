"""The start's own query weights are a candidate, whatever took their place while the run went on."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from rich.console import Console

from neural_sparse import NeuralSparseEncoder
from neural_sparse.adapt.run import _Adaptation
from neural_sparse.adapt.settings import AdaptSettings


def test_published_weights_are_kept(doc_only_model: NeuralSparseEncoder, tmp_path: Path) -> None:
    doc_only_model.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    (tmp_path / "texts.txt").write_text("a list\n")
    settings = AdaptSettings(tmp_path / "texts.txt", init=str(tmp_path / "model"))
    run = _Adaptation(settings, tmp_path / "out", Console(file=io.StringIO()))
    before = run.start.query_weights.numpy().copy()
    run.start.set_query_weights(dict.fromkeys(run.start.tokenizer.get_vocab(), 1.0))
    np.testing.assert_array_equal(run.published.weights, before)
    assert before.max() > 1
