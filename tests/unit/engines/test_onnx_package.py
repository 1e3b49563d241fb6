"""A model as ONNX gives the vectors of the model, without torch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from neural_sparse import InputError, NeuralSparseEncoder
from neural_sparse.cli.main import app
from neural_sparse.engines.onnx_package import write_onnx_package
from neural_sparse.model.exported import ExportedEncoder
from neural_sparse.model.fingerprint import Fingerprint
from neural_sparse.search.encode_corpus import encode_corpus
from neural_sparse.search.encoded import EncodedCollection
from neural_sparse.search.updating import update_corpus
from neural_sparse.text.tokens import vocabulary

pytest.importorskip("onnxruntime")
DOCUMENTS = [
    "Return a new list whose items are sorted in ascending order.",
    "",
    "Naïve cafe\u0301 visitors don't queue; 42 cats " * 20,
    "half an emoji \ud83d [SEP] list",
    "한국어 문서",
]


def encoder_of(folder: Path, own_words: float | None = None) -> NeuralSparseEncoder:
    model = NeuralSparseEncoder(folder, 32, own_words=own_words, device="cpu")
    model.set_query_weights({name: index % 7 / 3 for index, name in enumerate(vocabulary(model.tokenizer))})
    return model


@pytest.fixture(scope="module")
def model(tiny_model: Callable[..., Path]) -> NeuralSparseEncoder:
    return encoder_of(tiny_model("bert"), own_words=2.0)


@pytest.fixture(scope="module")
def saved(model: NeuralSparseEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model.save(folder := tmp_path_factory.mktemp("saved") / "model")
    return folder


@pytest.fixture(scope="module")
def export(model: NeuralSparseEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    write_onnx_package(model, folder := tmp_path_factory.mktemp("onnx") / "export")
    return folder


def same(exported: ExportedEncoder, model: NeuralSparseEncoder) -> None:
    documents = exported.encode_documents(DOCUMENTS)
    np.testing.assert_allclose(
        documents.toarray(), model.encode_documents(DOCUMENTS).toarray(), rtol=0, atol=1e-4
    )
    assert documents.nnz
    assert (exported.encode_queries(DOCUMENTS) != model.encode_queries(DOCUMENTS)).nnz == 0
    assert Fingerprint.of(exported).documents == Fingerprint.of(model).documents
    Fingerprint.of(exported).require(Fingerprint.of(model), "the export")
    names = [name for name, _ in exported.top_terms(documents[0], 5)]
    assert names == [name for name, _ in model.top_terms(model.encode_documents(DOCUMENTS[:1]), 5)]


@pytest.mark.parametrize("architecture", ["distilbert", "roberta", "modernbert", "xlm-roberta"])
def test_vectors_are_those_of_the_model(
    tiny_model: Callable[..., Path], tmp_path: Path, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neural_sparse.engines.onnx_package.BLOCK", 50)  # several, the last one smaller
    model = encoder_of(tiny_model(architecture))
    about = write_onnx_package(model, tmp_path / "export")
    assert about["parity"][0]["difference"] < 1e-4
    same(ExportedEncoder(tmp_path / "export"), model)


@pytest.mark.parametrize("threads", [1, 3])
def test_own_words_are_counted(export: Path, model: NeuralSparseEncoder, threads: int) -> None:
    exported = ExportedEncoder(export, threads=threads)
    same(exported, model)
    exported._own_words = None
    assert abs(exported.encode_documents(DOCUMENTS) - model.encode_documents(DOCUMENTS)).max() > 0.1


def test_openvino(export: Path, model: NeuralSparseEncoder) -> None:
    pytest.importorskip("openvino")
    same(ExportedEncoder(export, "openvino", threads=2), model)


def test_documents_can_be_cut_earlier_and_not_later(export: Path, model: NeuralSparseEncoder) -> None:
    short = NeuralSparseEncoder(model.name, 9, own_words=2.0, device="cpu")
    found = ExportedEncoder(export, max_length=9).encode_documents(DOCUMENTS)
    np.testing.assert_allclose(
        found.toarray(), short.encode_documents(DOCUMENTS).toarray(), rtol=0, atol=1e-4
    )
    with pytest.raises(InputError, match="export it with --max-length 33"):
        ExportedEncoder(export, max_length=33)


def test_int8_is_another_model(model: NeuralSparseEncoder, tmp_path: Path) -> None:
    about = write_onnx_package(model, tmp_path / "int8", int8=True)
    assert 0 < about["parity"][0]["difference"] < 1
    assert about["parity"][0]["limit"] is None
    small = ExportedEncoder(tmp_path / "int8")
    assert small.encode_documents(DOCUMENTS).nnz
    with pytest.raises(InputError, match="document side's weights"):
        Fingerprint.of(small).require(Fingerprint.of(model), "the export")
    assert b"MatMulInteger" in (tmp_path / "int8" / "model.onnx").read_bytes()


def corpus(folder: Path, texts: list[str] = DOCUMENTS) -> Path:
    file = folder / "corpus.jsonl"
    file.write_text("\n".join(json.dumps({"_id": f"d{row}", "text": text}) for row, text in enumerate(texts)))
    return file


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_goes_on_after_an_interruption_and_is_updated(
    saved: Path, export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = corpus(tmp_path, DOCUMENTS[:1] * 6)
    encode_corpus(str(export), file, tmp_path / "whole", part_bytes=200, show_progress=False)
    encode, calls = ExportedEncoder.encode_tokens, []

    def stopped(self: ExportedEncoder, *arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(ExportedEncoder, "encode_tokens", stopped)
        with pytest.raises(KeyboardInterrupt):
            encode_corpus(str(export), file, tmp_path / "out", part_bytes=200, show_progress=False)
    done = encode_corpus(str(export), file, tmp_path / "out", part_bytes=200, show_progress=False)
    assert 0 < done.encoded < done.documents == 6
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    corpus(tmp_path, [*DOCUMENTS[:1] * 6, "a new list"])
    for name in (export, saved):  # either goes on with what the other encoded
        update_corpus(str(name), file, tmp_path / "out")
    assert len(EncodedCollection(tmp_path / "out").doc_ids) == 7


@pytest.mark.parametrize("kind", ["onnx", "fastembed"])
def test_the_command(tiny_model: Callable[..., Path], tmp_path: Path, kind: str) -> None:
    command = ["export", str(tiny_model()), "-f", kind, "-o", str(tmp_path / "out"), "--max-length", "32"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "at most" in done.output
    assert (tmp_path / "out" / "model.onnx").is_file()


def test_what_is_refused(saved: Path, export: Path, tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    file = corpus(tmp_path)
    with pytest.raises(InputError, match="--format onnx --output"):
        encode_corpus(str(saved), file, tmp_path / "out", backend="onnx")
    with pytest.raises(InputError, match="name the model that it was exported from"):
        NeuralSparseEncoder(export)
    with pytest.raises(InputError, match="torch cannot load"):
        encode_corpus(str(export), file, tmp_path / "out", backend="torch")
    with pytest.raises(InputError, match="leave --bf16 out"):
        encode_corpus(str(export), file, tmp_path / "out", bf16=True)
    with pytest.raises(InputError, match="is no ONNX export"):
        ExportedEncoder(saved)
    with pytest.raises(InputError, match="unknown backend 'tensorrt'"):
        ExportedEncoder(export, "tensorrt")  # type: ignore[arg-type]
    siamese = NeuralSparseEncoder(tiny_model(), 32, device="cpu", query_encoder="shared")
    with pytest.raises(InputError, match="query_encoder: shared"):
        write_onnx_package(siamese, tmp_path / "siamese")
    damaged = shutil.copytree(export, tmp_path / "damaged")
    content = (damaged / "model.onnx").read_bytes()
    (damaged / "model.onnx").write_bytes(content[:-9])
    with pytest.raises(InputError, match=r"model\.onnx"):
        ExportedEncoder(damaged)
    assert not (tmp_path / "siamese").exists()


def test_other_vectors_are_not_exported(
    model: NeuralSparseEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neural_sparse.engines.onnx_package.activate", lambda pooled, activation: pooled)
    with pytest.raises(InputError, match="does not score as the model does"):
        write_onnx_package(model, tmp_path / "export")
    assert not (tmp_path / "export").exists()
