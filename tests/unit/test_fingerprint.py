"""Whose vectors these are: equal for what makes the same ones, and different for every change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from neural_sparse import InputError, NeuralSparseEncoder
from neural_sparse.model.fingerprint import Fingerprint
from neural_sparse.model.pruning import Pruning


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta"])
def test_it_outlives_saving(tiny_model: Callable[..., Path], tmp_path: Path, architecture: str) -> None:
    model = NeuralSparseEncoder(tiny_model(architecture), 32, device="cpu")
    before = Fingerprint.of(model)
    model.save_pretrained(str(tmp_path / "saved"))
    after = Fingerprint.of(NeuralSparseEncoder(tmp_path / "saved", device="cpu"))
    assert after.as_json() == {**before.as_json(), "name": str(tmp_path / "saved")}
    assert Fingerprint.read(before.as_json()) == before
    before.require(after, "an index")


def test_every_change_is_noticed_and_named(tiny_model: Callable[..., Path]) -> None:
    model = NeuralSparseEncoder(tiny_model(), 32, device="cpu")
    mine = Fingerprint.of(model)
    changed = {
        "the pruning": Fingerprint.of(model, Pruning(top_k=3)),
        "the tokens read of a document": Fingerprint.of(NeuralSparseEncoder(tiny_model(), 31, device="cpu")),
    }
    other = NeuralSparseEncoder(tiny_model(), 32, device="cpu")
    with torch.no_grad():
        other.projection.bias[7] += 1
    changed["the document side's weights"] = Fingerprint.of(other)
    other = NeuralSparseEncoder(tiny_model(), 32, device="cpu")
    other.set_query_weights({"fox": 2.0})
    changed["the query table"] = Fingerprint.of(other)
    for what, theirs in changed.items():
        with pytest.raises(InputError, match=f"the index out holds vectors of .*differ in {what}: encode"):
            mine.require(theirs, "the index out")
    mine.require_queries(changed["the pruning"], "the index")
    with pytest.raises(InputError, match="the query table"):
        mine.require_queries(changed["the query table"], "the index")
