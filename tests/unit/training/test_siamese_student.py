"""A student whose queries go through a transformer: trained, resumed, judged, exported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from neural_sparse import Collection, InputError, NeuralSparseEncoder, train
from neural_sparse.config import Recipe
from neural_sparse.evaluation.systems import evaluate_encoder
from neural_sparse.losses.flops import flops_loss
from neural_sparse.losses.idf_aware import IDFAwareLoss
from neural_sparse.model.fingerprint import Fingerprint
from neural_sparse.opensearch.deploy.exported import Exported
from neural_sparse.opensearch.export import export_model
from neural_sparse.opensearch.parity import query_side

TinyModel = Callable[..., Path]
KINDS = ("shared", "own")


def pairs_of(texts: list[str]) -> list[dict[str, Any]]:
    return [{"query": " ".join(text.split()[:3]), "pos": text, "negs": texts[:2]} for text in texts[2:]]


def recipe(folder: Path, init: Path, texts: list[str], **changes: Any) -> Recipe:
    pairs = folder / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(pair) + "\n" for pair in pairs_of(texts)))
    settings: dict[str, Any] = {
        "init": str(init),
        "train": (str(pairs),),
        "output": str(folder / "run"),
        "teacher_cache": str(folder / "cache"),
        "ranking": {"info_nce": 1.0},
        "num_steps": 4,
        "save_steps": 2,
        "logging_steps": 1,
        "batch_size": 2,
        "num_hard_negatives": 1,
        "learning_rate": 1e-3,
        "warmup_steps": 1,
        "max_length": 24,
        "lambda_flops": 1e-3,
        "bf16": False,
        "collapse_guard": False,
    }
    return Recipe(**(settings | changes))


@pytest.fixture(scope="module", params=KINDS)
def trained(
    request: pytest.FixtureRequest,
    tiny_model: TinyModel,
    texts: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Recipe, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    asked = recipe(folder, tiny_model("bert"), texts, query_encoder=request.param, lambda_query_flops=2e-3)
    return asked, train(asked)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(NeuralSparseEncoder(folder, device="cpu").state_dict())


@pytest.mark.integration  # runs, of seconds
def test_both_sides_are_trained(trained: tuple[Recipe, Path], texts: list[str]) -> None:
    asked, folder = trained
    before, after = NeuralSparseEncoder(asked.init, device="cpu"), NeuralSparseEncoder(folder, device="cpu")
    assert after.query_encoder == asked.query_encoder
    start = before.mlm.state_dict()
    for mlm in after.masked_lms:
        assert any(not torch.equal(start[name], one) for name, one in mlm.state_dict().items())
    if asked.query_encoder == "own":
        documents, queries = (mlm.state_dict() for mlm in after.masked_lms)
        assert any(not torch.equal(documents[name], queries[name]) for name in documents)
    history = json.loads((Path(asked.output) / "metrics.json").read_text())["history"]
    for row in history:
        ramped = row["lambda"] * (row["flops"] + 2 * row["query_flops"])
        assert row["loss"] == pytest.approx(row["ranking"] + ramped, abs=2e-3)
        assert row["nonzero_query_terms"] > 0


@pytest.mark.integration  # runs, of seconds
def test_a_resumed_run_has_the_same_weights(trained: tuple[Recipe, Path], tmp_path: Path) -> None:
    asked, folder = trained
    whole, output = weights(folder), tmp_path / "resumed"
    shutil.copytree(asked.output, output)
    shutil.rmtree(output / "final_model")
    shutil.rmtree(output / "checkpoint-4")
    resumed = weights(train(replace(asked, output=str(output))))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.integration  # runs, of seconds
def test_judged_with_what_a_query_takes(trained: tuple[Recipe, Path], texts: list[str]) -> None:
    asked, folder = trained
    model = NeuralSparseEncoder(folder, device="cpu")
    queries = {str(row): pair["query"] for row, pair in enumerate(pairs_of(texts), 2)}
    collection = Collection(
        "tiny",
        [str(row) for row in range(len(texts))],
        texts=texts,
        queries=queries,
        qrels={query: {query: 1} for query in queries},
    )
    found = evaluate_encoder(model, collection, latency_queries=0, show_progress=False)
    assert found.details["query_inference"]["encoder"] == asked.query_encoder
    assert found.summary()["query_gflop"] > 0
    vectors = model.encode_queries(list(queries.values()))
    assert found.summary()["query_terms"] == pytest.approx(vectors.nnz / vectors.shape[0])


@pytest.mark.integration  # runs, of seconds
def test_exported_with_the_same_vectors(
    trained: tuple[Recipe, Path], texts: list[str], tmp_path: Path
) -> None:
    asked, folder = trained
    model = NeuralSparseEncoder(folder, device="cpu")
    written = export_model(model, tmp_path / "export")
    assert [package.function_name for package in written.packages] == ["SPARSE_ENCODING"] * (
        1 if asked.query_encoder == "shared" else 2
    )
    exported = Exported.open(tmp_path / "export")
    assert (exported.queries == exported.encoder) == (asked.query_encoder == "shared")
    assert exported.analyzer is None
    assert exported.fingerprint == Fingerprint.of(model)
    with pytest.raises(InputError, match="no table of weights"):
        exported.weights  # noqa: B018
    requests = (tmp_path / "export" / "deploy.http").read_text()
    assert "sparse_tokenize" not in requests
    served = query_side(exported.queries)
    names = exported.tokens
    for text, vector in zip(texts, model.encode_queries(texts), strict=True):
        ours = {
            names[place]: weight
            for place, weight in zip(vector.indices, vector.data, strict=True)
            if names[place]
        }
        theirs = served.weights(text)
        assert ours.keys() == theirs.keys()
        assert all(weight == pytest.approx(theirs[token], abs=1e-4) for token, weight in ours.items())


def test_loss_is_the_plain_formula() -> None:
    torch.manual_seed(0)
    idf = torch.rand(7) + 0.1
    queries, documents = (torch.rand(4, 7).requires_grad_() for _ in range(2))
    loss = IDFAwareLoss(
        idf, 7, 0.3, ranking="info_nce", ramp_steps=0, lambda_query_flops=0.7, frequency_weighted_flops=True
    )
    ids = torch.zeros(4, 1, dtype=torch.int64)
    parts = loss(ids, torch.ones_like(ids), documents, queries=queries)
    ranking = torch.nn.functional.cross_entropy(queries @ documents.T, torch.arange(4))
    pressed = [flops_loss(vectors, loss.flops_weights) for vectors in (documents, queries)]
    expected = ranking + 0.3 * pressed[0] + 0.7 * pressed[1]
    torch.testing.assert_close(parts["loss"], expected)
    ours = torch.autograd.grad(parts["loss"], (queries, documents))
    theirs = torch.autograd.grad(expected, (queries, documents))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("idf", "init"),
        ("idf_in_matching", False),
        ("train_query_weights", True),
        ("min_query_weight", 0.5),
        ("own_words", 2.0),
        ("vocabulary_sample", 100),
        ("target_flops", 0.5),
        ("push_to_hub", "me/mine"),
    ],
)
def test_keys_of_looked_up_queries_are_refused(
    key: str, value: object, tiny_model: TinyModel, texts: list[str], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=rf"{key}.*query_encoder=own"):
        recipe(tmp_path, tiny_model("bert"), texts, query_encoder="own", **{key: value})


def test_other_refusals(tiny_model: TinyModel, texts: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lambda_query_flops presses queries"):
        recipe(tmp_path, tiny_model("bert"), texts, lambda_query_flops=0.1)
    with pytest.raises(InputError, match="choose from inference-free, shared, own"):
        recipe(tmp_path, tiny_model("bert"), texts, query_encoder="siamese")
