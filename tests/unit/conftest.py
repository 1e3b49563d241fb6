"""Tiny random models, saved once per session."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before anything imports the hub's client: a unit test that asks the network would wait for it.
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
from tiny_models import TEXTS, make_masked_lm, make_tokenizer


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
