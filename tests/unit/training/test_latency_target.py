"""A time for the slowest queries becomes a target of FLOPS, looked up again as the model changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neural_sparse import NeuralSparseEncoder
from neural_sparse.config import recipe_from_dict
from neural_sparse.data.training_set import TrainingSet
from neural_sparse.errors import InputError
from neural_sparse.evaluation.cost import flops_metric, term_share
from neural_sparse.io.files import read_json
from neural_sparse.losses.idf_aware import IDFAwareLoss
from neural_sparse.search.query_time import QueryTime, postings_read
from neural_sparse.training import latency_target
from neural_sparse.training.latency_target import FILE, LatencyTarget
from neural_sparse.training.train import train
from neural_sparse.training.trainer import checkpoints

MODEL = QueryTime(1e-4, 1e-10, 1e-8, tail=1.5, indexed=1000)


@pytest.fixture
def encoder(tiny_model: Callable[..., Path]) -> NeuralSparseEncoder:
    return NeuralSparseEncoder(tiny_model("bert"), 32, device="cpu")


def test_the_target_is_what_the_slowest_queries_may_read(
    encoder: NeuralSparseEncoder, texts: list[str], tmp_path: Path
) -> None:
    asked = [*texts, "a", "list", "a fox"]
    queries = encoder.encode_queries(asked)
    loss = IDFAwareLoss(encoder.idf_table(), encoder.vocab_size, 0.01, ramp_steps=0)
    cost = LatencyTarget(
        loss, encoder, queries, texts, query_time=MODEL, milliseconds=3.0, size=10_000, num_steps=40
    )
    encoder.train()
    cost.look()
    assert encoder.training  # as it was
    encoder.eval()
    vectors = encoder.encode_documents(texts)
    read = postings_read(queries, term_share(vectors))
    assert cost.spread == pytest.approx(np.percentile(read, 99) / read.mean())
    # A model that meets the target of FLOPS meets the time.
    wanted = cost.control.target * cost.spread * 10_000
    assert MODEL.p99(10_000, wanted) == pytest.approx(3.0)
    assert read.mean() == pytest.approx(flops_metric(queries, vectors))
    cost.with_dropout = cost._scalar(cost.control.target)
    assert cost.figures()["estimated_p99_ms"] == pytest.approx(3.0)
    cost.save(tmp_path)
    spread, cost.spread = cost.spread, 1.0
    cost.load(tmp_path)
    assert cost.spread == spread


def test_a_run_times_the_machine_once_and_survives_a_kill(
    tiny_model: Callable[..., Path], texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = []
    monkeypatch.setattr(latency_target, "calibrate", lambda *given: timed.append(given) or MODEL)
    values = {
        "init": str(tiny_model("bert")),
        "train": "data",
        "output": str(tmp_path / "whole"),
        "ranking": {"info_nce": 1.0},
        "target_p99": {"milliseconds": 3, "documents": 10_000},
        "num_steps": 6,
        "warmup_steps": 1,
        "batch_size": 4,
        "num_hard_negatives": 0,
        "flops_ramp_steps": 1,
        "lambda_flops": 0.001,
        "save_steps": 3,
        "logging_steps": 1,
        "max_length": 32,
    }
    data = TrainingSet([text.split(";")[0] for text in texts], texts, np.arange(len(texts)))
    recipe = recipe_from_dict(values)
    train(recipe, data=data)
    history = read_json(tmp_path / "whole" / "metrics.json")["history"]
    assert history[-1]["estimated_p99_ms"] > 0
    assert history[-1]["lambda"] != history[0]["lambda"]
    assert (len(timed), QueryTime.load(tmp_path / "whole" / FILE)) == (1, MODEL)

    again = tmp_path / "again"
    again.mkdir()
    (tmp_path / "whole" / FILE).rename(again / FILE)
    for name in ("training_config.json", "inputs.json", "idf.json", "checkpoint-3"):
        if (tmp_path / "whole" / name).exists():
            (tmp_path / "whole" / name).rename(again / name)
    assert [found.name for found in checkpoints(again)] == ["checkpoint-3"]
    train(replace(recipe, output=str(again)), data=data)
    assert len(timed) == 1
    assert read_json(again / "metrics.json")["history"][-1]["lambda"] == history[-1]["lambda"]

    slow = replace(recipe, output=str(tmp_path / "slow"), target_p99={"milliseconds": 0.01, "documents": 1e6})
    with pytest.raises(InputError, match="cannot be reached"):
        train(slow, data=data)
