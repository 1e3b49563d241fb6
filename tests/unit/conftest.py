"""Tiny random models, saved once per session."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before anything imports the hub's client: a unit test that asks the network would wait for it.
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
from tiny_models import TEXTS, make_masked_lm, make_tokenizer

if TYPE_CHECKING:
    from neural_sparse import NeuralSparseEncoder

# By default all is looked through every 70,000 objects, and compiling makes many that stay. What tiny models leave
# behind can wait for longer.
gc.set_threshold(5000, 10, 20)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Folder of a tiny random masked LM: tiny_model("bert"), tiny_model("roberta", padding=5)."""
    made: dict[tuple[str, int], Path] = {}

    def folder(architecture: str = "bert", padding: int = 0) -> Path:
        key = (architecture, padding)
        if key not in made:
            made[key] = tmp_path_factory.mktemp(f"{architecture}-{padding}")
            tokenizer = make_tokenizer(architecture)
            make_masked_lm(architecture, tokenizer, padding).save_pretrained(made[key])
            tokenizer.save_pretrained(made[key])
        return made[key]

    return folder


@pytest.fixture(scope="session")
def bert_tokenizer() -> Any:
    return make_tokenizer("bert")


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return TEXTS


@pytest.fixture(scope="session")
def doc_only_model(tiny_model: Callable[..., Path]) -> NeuralSparseEncoder:
    """A tiny doc-only model: random weights, query weights by position in the vocabulary."""
    from neural_sparse import NeuralSparseEncoder
    from neural_sparse.text.tokens import vocabulary

    model = NeuralSparseEncoder(tiny_model(), 32, device="cpu")
    model.set_query_weights(
        {token: 0.5 + index / 50 for index, token in enumerate(vocabulary(model.tokenizer))}
    )
    model.name = "runs/tiny"
    return model
