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
    changed["the query side"] = Fingerprint.of(other)
    for what, theirs in changed.items():
        with pytest.raises(InputError, match=f"the index out holds vectors of .*differ in {what}: encode"):
            mine.require(theirs, "the index out")
    mine.require_queries(changed["the pruning"], "the index")
    with pytest.raises(InputError, match="the query side"):
        mine.require_queries(changed["the query side"], "the index")


@pytest.mark.parametrize("kind", ["shared", "own"])
def test_of_a_siamese_model(kind: str, tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    model = NeuralSparseEncoder(tiny_model(), 32, query_encoder=kind, device="cpu")  # type: ignore[arg-type]
    before = Fingerprint.of(model)
    assert before.queries != Fingerprint.of(NeuralSparseEncoder(tiny_model(), 32, device="cpu")).queries
    with torch.no_grad():
        model.routes["query"][0].model.get_output_embeddings().bias[7] += 1
    after = Fingerprint.of(model)
    assert (after.documents == before.documents) == (kind == "own")
    with pytest.raises(InputError, match=r"differ in .*the query side"):
        before.require(after, "the index")
    model.save_pretrained(str(tmp_path / "model"))
    after.require(Fingerprint.of(NeuralSparseEncoder(tmp_path / "model", device="cpu")), "the index")
    model.save_query_encoder(tmp_path / "queries")
    assert NeuralSparseEncoder(tmp_path / "queries", device="cpu").documents_digest == after.queries
