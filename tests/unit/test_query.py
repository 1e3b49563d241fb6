"""Queries without torch are the model's own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neural_sparse import NeuralSparseEncoder
from neural_sparse.engines.query_package import MODULE, PROBES, write_query_package
from neural_sparse.query import QueryEncoder
from neural_sparse.text.tokens import vocabulary

QUERIES = [*PROBES, "The quick brown fox, the fox", "don't queue\n42", "half \ud83d", "<s> naïve </s>"]


def weighted(folder: Path) -> NeuralSparseEncoder:
    model = NeuralSparseEncoder(folder, 32, device="cpu")
    model.set_query_weights({name: index % 7 / 3 for index, name in enumerate(vocabulary(model.tokenizer))})
    return model


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta"])
@pytest.mark.parametrize("count_repeats", [False, True])
def test_vectors_are_those_of_the_model(
    tiny_model: Callable[..., Path], tmp_path: Path, architecture: str, count_repeats: bool
) -> None:
    model = weighted(tiny_model(architecture))
    model.count_repeats = count_repeats
    model.save(tmp_path / "saved")
    about = write_query_package(model, tmp_path / "package")
    expected = model.encode_queries(QUERIES)
    assert expected.nnz
    names = vocabulary(model.tokenizer)
    for folder in (tmp_path / "saved", tmp_path / "package"):
        encoder = QueryEncoder(folder, count_repeats=count_repeats)
        assert encoder.fingerprint == about["fingerprint"]
        ids, weights, offsets = encoder.vectors(QUERIES)
        np.testing.assert_array_equal(offsets, expected.indptr)
        np.testing.assert_array_equal(ids, expected.indices)
        np.testing.assert_array_equal(weights, expected.data)
        for row, text in enumerate(QUERIES):
            mine = slice(offsets[row], offsets[row + 1])
            assert encoder.tokens(text) == {
                names[token]: weight
                for token, weight in zip(ids[mine].tolist(), weights[mine].tolist(), strict=True)
            }


def test_another_table_has_another_fingerprint(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    model = weighted(tiny_model())
    first = write_query_package(model, tmp_path / "first")["fingerprint"]
    model.set_query_weights({"list": 2.0})
    assert write_query_package(model, tmp_path / "second")["fingerprint"] != first


def test_a_vendored_package_needs_tokenizers_and_numpy_alone(
    tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    write_query_package(weighted(tiny_model()), tmp_path / "package")
    program = (
        "import sys; from query_encoder import QueryEncoder; print(len(QueryEncoder('.').tokens('a new list')));"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'scipy', 'transformers', "
        "'sentence_transformers', 'safetensors', 'neural_sparse'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path / "package", capture_output=True, text=True
    )
    assert done.stdout.split("\n")[1:2] == ["[]"], done.stderr
    assert int(done.stdout.split()[0]) > 0
    assert (tmp_path / "package" / MODULE).is_file()


def test_the_package_is_importable_without_torch() -> None:
    program = "import sys; import neural_sparse.query; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_bad_folders(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="export MODEL --format query"):
        QueryEncoder(tmp_path)
    package = tmp_path / "package"
    write_query_package(weighted(tiny_model()), package)
    weights = (package / "model.safetensors").read_bytes()
    for broken in (b"", weights[:-8], weights[:20], weights[:-4] + np.float32(np.nan).tobytes()):
        (package / "model.safetensors").write_bytes(broken)
        with pytest.raises(ValueError, match=r"model\.safetensors: no table of query weights"):
            QueryEncoder(package)
    (package / "model.safetensors").write_bytes(weights)
    tokenizer = json.loads((package / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"].popitem()
    (package / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ValueError, match="of different models"):
        QueryEncoder(package)
    (package / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match="not a tokenizer"):
        QueryEncoder(package)
