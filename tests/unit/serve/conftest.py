"""A small encoded collection to serve."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for package in ("starlette", "uvicorn", "prometheus_client"):
    pytest.importorskip(package, reason="the extra `serve` is not installed")


@pytest.fixture(scope="session")
def documents(texts: list[str]) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    words = " ".join(texts).split()
    rows: list[dict[str, Any]] = [
        {"_id": f"d{n}", "text": " ".join(rng.choice(words, rng.integers(3, 30)))} for n in range(60)
    ]
    rows[3]["text"] = "Sorted <script>alert(1)</script> & <b>lists</b> of naïve cafés"
    rows[4]["_id"] = "../../etc/passwd"
    for number, row in enumerate(rows):
        row["metadata"] = {
            "year": 2000 + number % 10,
            "tags": ["even", "all"] if number % 2 == 0 else ["all"],
        }
    return rows


@pytest.fixture(scope="session")
def model(tiny_model: Callable[..., Path]) -> str:
    return str(tiny_model("bert"))


@pytest.fixture(scope="session")
def encoded(model: str, documents: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `encode` made; who changes it takes a copy."""
    from neural_sparse.search.encode_corpus import encode_corpus

    folder = tmp_path_factory.mktemp("served")
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, documents)))
    encode_corpus(
        model, folder / "corpus.jsonl", folder / "student", fields=["year", "tags"], show_progress=False
    )
    return folder / "student"
