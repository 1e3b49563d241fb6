"""What a run leaves in its folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_models import TEXTS

from neural_sparse.config import Recipe
from neural_sparse.data.collection import write_qrels, write_queries
from neural_sparse.data.training_set import TrainingSet
from neural_sparse.files import read_json, write_text
from neural_sparse.training.run_folder import dev_history
from neural_sparse.training.train import train

Tiny = Callable[..., Path]


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    import json

    folder = tmp_path / "dev"
    (folder / "qrels").mkdir(parents=True)
    lines = [json.dumps({"_id": f"d{row}", "text": text}) for row, text in enumerate(TEXTS)]
    write_text(folder / "corpus.jsonl", "\n".join(lines))
    write_queries(folder / "queries.jsonl", {"q0": TEXTS[0][:20], "q1": TEXTS[1][:20]})
    write_qrels(folder / "qrels" / "dev.tsv", {"q0": {"d0": 1}, "q1": {"d1": 1}})
    return folder


def test_a_run_that_stops_before_its_first_log_line(tiny_model: Tiny, dev: Path, tmp_path: Path) -> None:
    data = TrainingSet([text[:12] for text in TEXTS], [text * 9 for text in TEXTS], np.arange(len(TEXTS)))
    recipe = Recipe(
        init=str(tiny_model()),
        train=("none",),
        output=str(tmp_path / "run"),
        ranking={"info_nce": 1.0},
        num_steps=20,
        batch_size=2,
        num_hard_negatives=1,
        learning_rate=0.0,  # so that no judgement is better than the first
        warmup_steps=0,
        max_length=32,
        bf16=False,
        dev=str(dev),
        eval_steps=1,
        early_stopping=2,
    )
    final = train(recipe, data=data)
    metrics = read_json(final.parent / "metrics.json")
    assert (final / "modules.json").is_file()
    assert (metrics["steps"], metrics["history"], metrics["best_step"]) == (3, [], 1)
    assert [row["step"] for row in metrics["dev"]] == [1, 2, 3]
    assert metrics["cut_documents"] == 1.0
    assert not (final.parent / "training_losses.png").exists()


def test_judgements_of_a_log() -> None:
    log = [{"loss": 1.0, "step": 1}, {"eval_ndcg10": 0.5, "eval_flops": 2.0, "eval_runtime": 9.0, "step": 2}]
    assert dev_history(log) == [{"step": 2, "ndcg10": 0.5, "flops": 2.0}]
