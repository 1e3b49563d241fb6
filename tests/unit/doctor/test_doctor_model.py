"""The doctor on model folders: rules by figures, and tiny models made ill."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from neural_sparse.doctor import Finding, examine
from neural_sparse.doctor import model as rules
from neural_sparse.doctor.model import LanguageSample
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.text.tokens import vocabulary

Tiny = Callable[..., Path]


def ill(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings if finding.verdict != "ok"}


def sample(terms: float, vocabulary: int = 30_522, unknown: float = 0.0) -> Finding:
    return rules.sample_terms({"English": LanguageSample([int(terms)], unknown)}, vocabulary)[-1]


@pytest.mark.parametrize(
    ("terms", "verdict", "advice"),
    [
        (80, "ok", ""),
        (300, "ok", ""),
        (301, "warning", "0.05 instead of 0.02"),
        (7631, "problem", "dense"),
        (10, "ok", ""),
        (9, "warning", "0.01 instead of 0.02"),
        (0, "problem", "collapsed"),
    ],
)
def test_sparsity(terms: int, verdict: str, advice: str) -> None:
    assert (sample(terms).verdict, advice in sample(terms).advice) == (verdict, True)


def test_languages_that_the_tokenizer_does_not_know_do_not_count() -> None:
    samples = {"English": LanguageSample([80, 90], 0.0), "Korean": LanguageSample([0, 0], 0.9)}
    first, second = rules.sample_terms(samples, 30_522)
    assert first.found == "tokens are known in English; not in Korean"
    assert (first.verdict, second.verdict) == ("ok", "ok")
    assert rules.sample_terms({"Korean": LanguageSample([0], 0.9)}, 30_522)[0].verdict == "problem"
    one_empty = {"English": LanguageSample([80], 0.0), "German": LanguageSample([0], 0.0)}
    assert "nothing finds a text in German" in rules.sample_terms(one_empty, 30_522)[-1].advice


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1.0, 1.0, 1.0], "all equal"),
        ([-0.1, 2.0], "engines take weights from 0 to 64"),
        ([1.0, 65.0], "engines take"),
        ([np.nan, 1.0], "idf='idf.json'"),
    ],
)
def test_query_weights(values: list[float], words: str) -> None:
    finding = rules.query_weights(np.array(values), own_table=True)
    assert (finding.verdict, words in finding.advice) == ("problem", True)


def test_query_weights_that_are_fine() -> None:
    assert rules.query_weights(np.array([1.0, 1.0]), own_table=False).verdict == "ok"
    trained = rules.query_weights(np.array([0.0, 2.0, 3.0, 1.0]), own_table=True)
    assert (trained.verdict, "1 tokens (25.0%)" in trained.found) == ("ok", True)


def test_dead_dimensions() -> None:
    assert rules.dead_dimensions(0.9, 100).verdict == "ok"
    assert "smaller lambda_flops" in rules.dead_dimensions(0.91, 100).advice


@pytest.fixture
def trained(tiny_model: Tiny, tmp_path: Path) -> Path:
    """A tiny model with a query table, sparse enough."""
    model = NeuralSparseEncoder(tiny_model(), 32, device="cpu")
    names = vocabulary(model.tokenizer)
    model.set_query_weights({name: 0.5 + 0.1 * row for row, name in enumerate(names)})
    with torch.no_grad():
        model.projection.bias -= 4.0
    model.save_pretrained(str(tmp_path / "model"))
    return tmp_path / "model"


def changed(folder: Path, change: Callable[[str, torch.Tensor], torch.Tensor]) -> Path:
    """The model with every tensor changed, as (name, tensor) -> tensor says."""
    for file in folder.rglob("*.safetensors"):
        tensors = {name: change(name, tensor).contiguous() for name, tensor in load_file(file).items()}
        save_file(tensors, file, metadata={"format": "pt"})
    return folder


def test_a_healthy_model(trained: Path) -> None:
    examined = examine(trained)
    assert examined.kind == "model"
    findings = {finding.check: finding for finding in examined.findings}
    assert ill(list(examined.findings)) == {}
    assert findings["special tokens, documents"].found == "silent"
    assert {"vocabulary", "query weights", "sparsity", "dead dimensions"} <= set(findings)


def test_a_start_model_has_no_table_yet(tiny_model: Tiny) -> None:
    findings = {finding.check: finding for finding in examine(tiny_model()).findings}
    assert findings["query weights"].found == "none: a model to start from"


def test_special_tokens_that_speak(trained: Path) -> None:
    def loud(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.ndim == 1 and float(tensor.min()) <= -9000:  # the silenced decoder bias
            return torch.where(tensor <= -9000, torch.tensor(3.0), tensor)
        if tensor.ndim == 1 and float(tensor.max()) > 5 and "weight" in name:  # the query table
            return torch.where(tensor == 0, torch.tensor(2.0), tensor)
        return tensor

    folder = changed(trained, loud)
    found = ill(examine(folder).findings)
    assert found["special tokens, documents"].verdict == "warning"
    assert found["special tokens, queries"].verdict == "problem"
    assert "[CLS] 2" in found["special tokens, queries"].found
    for check in ("special tokens, documents", "special tokens, queries"):
        assert "NeuralSparseEncoder(FOLDER).save_pretrained(FOLDER)" in found[check].advice
    NeuralSparseEncoder(folder).save_pretrained(str(folder))  # as advised
    assert not any(check.startswith("special") for check in ill(examine(folder).findings))


def test_nan_in_the_weights(trained: Path) -> None:
    def broken(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.ndim == 2:
            tensor[0, 0] = torch.nan
        return tensor

    found = ill(examine(changed(trained, broken)).findings)
    assert list(found) == ["weights"]
    assert "checkpoint before" in found["weights"].advice


def test_dense_and_empty_models(trained: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(trained, tmp_path / "dense")
    for folder, shift, word in ((copy, 1e3, "dense"), (trained, -1e3, "collapsed")):

        def shifted(name: str, tensor: torch.Tensor, shift: float = shift) -> torch.Tensor:
            return tensor + shift if tensor.ndim == 1 and float(tensor.min()) <= -9000 else tensor

        found = ill(examine(changed(folder, shifted)).findings)
        assert word in found["sparsity"].advice
        assert ("dead dimensions" in found) == (word == "collapsed")


def test_parts_of_different_models(trained: Path, tiny_model: Tiny) -> None:
    for file in ("tokenizer.json", "tokenizer_config.json"):
        for old in trained.rglob(file):
            shutil.copy(tiny_model("roberta") / file, old)
    assert [(f.check, f.verdict) for f in examine(trained).findings] == [("loading", "problem")]
    sizes = {"tokenizer": 5, "output projection": 5, "query table": 6}
    assert rules.vocabularies(sizes).verdict == "problem"
    assert rules.vocabularies(dict.fromkeys(sizes, 5)).verdict == "ok"
