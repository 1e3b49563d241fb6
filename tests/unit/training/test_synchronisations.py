"""Between log lines no step waits for the device.

There need be no GPU: the calls that would wait on one are counted while the same step runs on the CPU.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from tiny_models import TEXTS
from transformers import TrainerCallback

from neural_sparse.config import Recipe, TeacherConfig
from neural_sparse.data.training_set import TrainingSet
from neural_sparse.idf import compute_idf_weights
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.training.setup import build_trainer

FILE = Path(__file__).resolve().parents[3] / "benchmarks" / "synchronisations.py"
WORDS = [word for text in TEXTS for word in text.lower().rstrip(".").split()]


@pytest.fixture(scope="module")
def counter() -> type:
    spec = importlib.util.spec_from_file_location("synchronisations", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Synchronisations


@pytest.mark.parametrize(
    "waiting",
    [
        lambda values: values.sum().item(),
        lambda values: bool(values.all()),
        lambda values: values.nonzero(),
        lambda values: values[values > 1],
        lambda values: values.unique(),
        lambda values: values.tolist(),
        lambda values: values.cpu(),
        lambda values: torch.arange(3).repeat_interleave(values),
        lambda values: values.bincount(),
        lambda values: values.new_tensor(3),
    ],
)
def test_what_would_wait_is_counted(counter: type, waiting: Callable[[torch.Tensor], Any]) -> None:
    values = torch.arange(3)
    with counter() as found:
        (values + 1).cumsum(0)[torch.zeros(2, dtype=torch.int64)]
    assert found.count == 0
    with found:
        waiting(values)
    assert found.count >= 1
    assert Path(__file__).name in next(iter(found.places))


class Teachers:
    def scores(self, queries: Any, documents: Any, own: Any) -> tuple[torch.Tensor, torch.Tensor]:
        scores = np.cos(3.0 * np.asarray(queries)[:, None] + np.asarray(documents)[None])
        return torch.from_numpy(scores).float(), torch.ones(own.shape, dtype=torch.bool)


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("bert", {"own_words": 2.0, "own_words_learning_rate": 0.1, "target_flops": 1.0, "cache_tokens": 24}),
        (
            "modernbert",
            {"gradient_accumulation_steps": 2, "gradient_checkpointing": True, "term_targets": {"bm25": 1.0}},
        ),
        ("distilbert", {"train_query_weights": True, "l0_threshold": 3}),
        (
            "bert",
            {
                "vocabulary_sample": 30,
                "own_words": 2.0,
                "target_flops": 1.0,
                "cache_tokens": 24,
                "term_targets": {"bm25": 1.0},
            },
        ),
        ("distilbert", {"vocabulary_sample": 30, "train_query_weights": True, "l0_threshold": 3}),
        ("roberta", {"frequency_weighted_flops": True, "ranking": {"info_nce": 1.0}}),
    ],
)
def test_a_step_does_not_wait(
    counter: type,
    tiny_model: Callable[..., Path],
    tmp_path: Path,
    architecture: str,
    settings: dict[str, Any],
) -> None:
    rng = np.random.default_rng(0)
    documents = [" ".join(rng.choice(WORDS, rng.integers(3, 20))) for _ in range(24)]
    queries = [" ".join(text.split()[:3]) for text in documents[:12]]
    negatives = [rng.choice(np.arange(12, 24), 2, replace=False) for _ in queries]
    recipe = Recipe(
        init=str(tiny_model(architecture)),
        train=("none",),
        output=str(tmp_path),
        teachers=(TeacherConfig("bm25"),),
        max_length=32,
        bf16=False,
        lambda_flops=0.01,
        flops_ramp_steps=1,
        num_hard_negatives=2,
        warmup_steps=0,
        batch_size=4,
        num_steps=7,
        **({"ranking": {"kl": 1.0, "margin_mse": 0.1, "info_nce": 0.1}} | settings),
    )
    model = NeuralSparseEncoder(recipe.init, 32, own_words=recipe.own_words or None, device="cpu")
    idf = compute_idf_weights(documents, model.tokenizer, show_progress=False)
    model.set_query_weights(idf)
    wanted = sp.random(len(documents), model.vocab_size, 0.1, format="csr", dtype=np.float32, random_state=0)
    trainer = build_trainer(
        recipe,
        model,
        idf,
        TrainingSet(queries, documents, np.arange(12), negatives),
        Teachers(),  # type: ignore[arg-type]
        None,
        (lambda rows: wanted[rows]) if recipe.term_targets else None,
    )
    found = counter()

    class Steps(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 1:
                found.__enter__()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 6:
                found.__exit__(None, None, None)

    trainer.add_callback(Steps())
    trainer.args.logging_steps, trainer.args.save_strategy = 100, "no"  # type: ignore[assignment]
    trainer.state.logging_steps = 100
    trainer.train()
    assert trainer.state.global_step == 7
    assert not found.places
