"""The dev collection's sample, and its figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neural_sparse import NeuralSparseEncoder, compute_idf_weights
from neural_sparse.config import Recipe
from neural_sparse.corpora.collection import Collection
from neural_sparse.evaluation.systems import evaluate_encoder
from neural_sparse.training.dev import KEY, DevEvaluator, sample
from neural_sparse.training.setup import dev_evaluator


@pytest.fixture
def collection(texts: list[str]) -> Collection:
    words = " ".join(texts).split()
    documents = [" ".join(words[at : at + 6]) for at in range(0, len(words) - 6, 2)]
    ids = [f"d{row}" for row in range(len(documents))]
    queries = {f"q{row}": " ".join(documents[row].split()[:3]) for row in range(0, len(documents), 3)}
    qrels = {f"q{row}": {f"d{row}": 1, "d0": 0} for row in range(0, len(documents), 3)}
    return Collection("tiny", ids, documents, queries, qrels)


def test_judged_documents_are_kept(collection: Collection) -> None:
    small = sample(collection, 3, 5, seed=1)
    assert len(small.queries) == 3
    assert {doc_id for grades in small.qrels.values() for doc_id in grades} <= set(small.doc_ids)
    assert len(small.doc_ids) == 5
    assert [collection.doc_ids.index(doc_id) for doc_id in small.doc_ids] == sorted(
        collection.doc_ids.index(doc_id) for doc_id in small.doc_ids
    )
    assert sample(collection, 3, 5, seed=1).doc_ids == small.doc_ids
    assert sample(collection, 3, 5, seed=2).qrels.keys() != small.qrels.keys()
    whole = sample(collection, 1000, 1000, seed=1)
    assert (whole.doc_ids, whole.queries) == (collection.doc_ids, collection.queries)


def test_figures_are_those_of_an_evaluation(collection: Collection, tiny_model: Callable[..., Path]) -> None:
    model = NeuralSparseEncoder(tiny_model("bert"), 24)
    model.train()
    figures = DevEvaluator(collection, bf16=False)(model, "anything", epoch=0, steps=3)
    assert model.training
    model.eval()
    expected = evaluate_encoder(model, collection, show_progress=False).summary()
    assert figures[KEY] == pytest.approx(expected["nDCG@10"])
    assert figures["flops"] == pytest.approx(expected["FLOPS"])
    assert 0 < figures[KEY] <= 1


def test_several_collections_count_the_same(
    collection: Collection, tiny_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = sample(collection, 2, 4, seed=1)
    known = {"a": collection, "b/small": replace(small, name="b/small")}
    monkeypatch.setattr("neural_sparse.training.setup.load_collection", lambda name, split: known[name])
    model = NeuralSparseEncoder(tiny_model("bert"), 24)
    recipe = Recipe(init="m", train=("t",), ranking={"info_nce": 1.0}, dev="a", dev_also=("b/small",))
    found = dev_evaluator(recipe)(model)  # type: ignore[misc]
    one, other = (DevEvaluator(part, False)(model) for part in known.values())
    assert found[KEY] == pytest.approx((one[KEY] + other[KEY]) / 2)
    assert found["flops"] == pytest.approx((one["flops"] + other["flops"]) / 2)
    assert (found[f"{KEY}_1_tiny"], found[f"{KEY}_2_small"]) == (one[KEY], other[KEY])


def test_light_tokens_are_left_out(collection: Collection, tiny_model: Callable[..., Path]) -> None:
    model = NeuralSparseEncoder(tiny_model("bert"), 24)
    model.set_query_weights(compute_idf_weights(collection.texts, model.tokenizer, show_progress=False))
    whole = DevEvaluator(collection, bf16=False)(model)
    found = DevEvaluator(collection, False, 2.0)(model)
    model.silence(np.flatnonzero(model.query_weights.detach().numpy() < 2.0))
    expected = DevEvaluator(collection, bf16=False)(model)
    assert found == pytest.approx(expected)
    assert found["flops"] < whole["flops"]
    assert found["terms"] < whole["terms"]


def test_a_run_without_bfloat16_is_judged_without_it(
    collection: Collection, tiny_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neural_sparse.model.precision.native_bf16", lambda device: True)
    monkeypatch.setattr("neural_sparse.training.setup.load_collection", lambda name, split: collection)
    model = NeuralSparseEncoder(tiny_model("bert"), 24)
    asked = []
    encode = NeuralSparseEncoder.encode_documents

    def noting(self: NeuralSparseEncoder, texts: list[str], *, bf16: bool) -> object:
        asked.append(bf16)
        return encode(self, texts, bf16=bf16)

    monkeypatch.setattr(NeuralSparseEncoder, "encode_documents", noting)
    recipe = Recipe("m", ("t",), ranking={"info_nce": 1.0}, dev="tiny")
    for bf16 in (None, False):
        evaluator = dev_evaluator(replace(recipe, bf16=bf16))
        assert evaluator is not None
        evaluator(model)
    assert asked == [True, False]
