"""`neural-sparse doctor --backbone`: rules with made-up figures, and whole models of several shapes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import make_masked_lm, make_tokenizer
from transformers import BertConfig, BertModel
from typer.testing import CliRunner

from neural_sparse import NeuralSparseEncoder
from neural_sparse.cli.main import app
from neural_sparse.doctor.backbone import (
    active_share,
    backbone_findings,
    case_and_space,
    head_norm,
    tokens_per_word,
)
from neural_sparse.errors import InputError
from neural_sparse.model.calibration import LogitRange, logit_range, scale_logits, shift_logits

TinyModel = Callable[..., Path]


def measured(spread: float, active: float, peak: float = 1.0) -> LogitRange:
    return LogitRange(
        1.0, 10.0, spread=spread, active=active, weight=1.0, peak=peak, dense=0.05, terms=(1, 2)
    )


def test_rules() -> None:
    assert head_norm(measured(3, 0.01)).verdict == "ok"
    assert "logit_scale=0.05" in head_norm(measured(40, 0.5)).advice
    assert active_share(measured(3, 0.01), 16).verdict == "ok"
    dense = active_share(measured(40, 0.6, peak=100), 16)
    assert (dense.verdict, "logit_scale=0.05 logit_shift=-5 at once" in dense.advice) == ("warning", True)
    assert case_and_space({}, 100).verdict == "ok"
    assert case_and_space({"the": ["the", " the", "The"]}, 100).verdict == "ok"  # 2 of 100
    found = case_and_space({"the": ["the", " the", "The"]}, 50)
    assert (found.verdict, "fold_variants=true" in found.advice) == ("warning", True)
    assert "2 of 50 tokens (4.0%)" in found.found
    cut = tokens_per_word(make_tokenizer("roberta"))  # its vocabulary is bytes, nearly
    assert cut.verdict == "warning"
    assert "Korean" in cut.advice


def test_the_advice_makes_a_start_of_a_backbone_with_large_logits(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neural_sparse.model.calibration.ENOUGH", 1)  # of a vocabulary of few words
    model = NeuralSparseEncoder(tiny_model("bert"))
    scale_logits(model, 25 / logit_range(model, ["a file", "an error"]).spread)
    model.save_pretrained(str(tmp_path / "large"))
    done = CliRunner().invoke(app, ["doctor", "--backbone", str(tmp_path / "large"), "--json"])
    assert done.exit_code == 0, done.output  # warnings alone
    (examined,) = json.loads(done.stdout)
    advice = {finding["check"]: finding["advice"] for finding in examined["findings"]}
    assert examined["kind"] == "backbone"
    scale = float(advice["head"].partition("logit_scale=")[2])
    shift = float(advice["active dimensions"].partition("logit_shift=")[2].split()[0])
    cured = NeuralSparseEncoder(tmp_path / "large")
    scale_logits(cured, scale)
    shift_logits(cured, shift)
    cured.save_pretrained(str(tmp_path / "cured"))
    verdicts = {finding.check: finding.verdict for finding in backbone_findings(str(tmp_path / "cured"))}
    assert (verdicts["head"], verdicts["active dimensions"]) == ("ok", "ok")
    assert {"case and space", "tokens per word", "OpenSearch", "first word", "positions", "dtype"} <= set(
        verdicts
    )


def test_what_stands_in_a_backbones_way(tmp_path: Path) -> None:
    tokenizer = make_tokenizer("roberta")
    make_masked_lm("roberta", tokenizer).half().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    found = {finding.check: finding for finding in backbone_findings(str(tmp_path))}
    assert found["OpenSearch"].verdict == found["first word"].verdict == "warning"
    assert "fold_variants=true" in found["case and space"].advice
    assert "F16" in found["dtype"].found
    assert found["positions"].verdict == "warning"  # 66
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    save_file(
        {name: torch.full_like(value, torch.nan) for name, value in weights.items()}, file, {"format": "pt"}
    )
    (broken,) = backbone_findings(str(tmp_path))
    assert (broken.check, broken.verdict) == ("loading", "problem")
    with pytest.raises(InputError, match="was not found"):
        backbone_findings(str(tmp_path / "none"))


def test_an_encoder_alone_is_told_to_get_a_head(tmp_path: Path) -> None:
    tokenizer = make_tokenizer("bert")
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=24, num_hidden_layers=1, num_attention_heads=2)
    BertModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    found = {finding.check: finding for finding in backbone_findings(str(tmp_path))}
    assert "new_head=true" in found["head"].advice
    assert "active dimensions" not in found  # of a head that is not there yet
