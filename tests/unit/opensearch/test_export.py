from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from tokenizers import Tokenizer

from neural_sparse import Collection, InputError, NeuralSparseEncoder
from neural_sparse.io.files import read_json, sha256_file
from neural_sparse.opensearch import export as export_module
from neural_sparse.opensearch.export import Export, ExportOptions, export_model
from neural_sparse.opensearch.guards import served_name, server_names
from neural_sparse.opensearch.parity import (
    Check,
    Rankings,
    ServedDocuments,
    ServedQueries,
    compare_queries,
    parity_table,
    served_queries,
    too_long,
)
from neural_sparse.opensearch.shipped import TwoPhase, two_phase_search


def test_what_an_export_holds(exported: Export) -> None:
    files = sorted(
        str(path.relative_to(exported.folder)) for path in exported.folder.rglob("*") if path.is_file()
    )
    assert files == [
        "deploy.http",
        "encoder/ml-commons_model_config.json",
        "encoder/runs-tiny-1.0.0-torch_script.zip",
        "export.json",
        "query/ml-commons_model_config.json",
        "query/runs-tiny-query-1.0.0-torch_script.zip",
    ]
    for package, function in zip(exported.packages, ("SPARSE_ENCODING", "SPARSE_TOKENIZE"), strict=True):
        config = read_json(package.path.parent / "ml-commons_model_config.json")
        assert config == {
            "name": package.name,
            "version": "1.0.0",
            "model_format": "TORCH_SCRIPT",
            "function_name": function,
            "description": package.description,
            "model_content_size_in_bytes": package.path.stat().st_size,
            "model_content_hash_value": sha256_file(package.path),
        }
    encoder, query = (zipfile.ZipFile(package.path) for package in exported.packages)
    assert encoder.namelist() == ["runs-tiny.pt", "tokenizer.json"]
    assert query.namelist() == ["tokenizer.json", "idf.json"]
    assert json.loads(encoder.read("tokenizer.json"))["truncation"] == {
        "direction": "Right",
        "max_length": 32,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    assert json.loads(query.read("tokenizer.json"))["truncation"] is None
    assert (
        json.loads(query.read("idf.json")).keys().isdisjoint(["[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"])
    )
    assert all(check.passed for check in exported.checks)
    assert [check.what for check in exported.checks] == [
        "document vectors, awkward texts",
        "document vectors, shapes [1, L]",
        "document vectors, padded batches",
        "query weights",
        "queries above 512 tokens, of which some lose tokens",  # that of 5,000 words
        "scores among awkward texts, 9 bits, pruned at 0.1",
    ]
    assert str(exported.folder) not in (exported.folder / "export.json").read_text()


def test_the_servers_cut_at_512_tokens_is_seen(
    exported: Export, doc_only_model: NeuralSparseEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = ServedQueries(exported.packages[1].path)
    long = "fox " * 510
    assert set(queries.weights(long + "dog")) == {"fox"}  # with [CLS] and [SEP] there is room for no more
    assert set(queries.weights("fox " * 509 + "dog")) == {"fox", "dog"}
    names = server_names(doc_only_model.tokenizer)
    short, cut = compare_queries(doc_only_model, queries, names, ["fox", long + "dog", long + "fox"])
    assert (short.difference, short.cases, cut.cases, cut.difference) == (0, 3, 2, 1)
    assert compare_queries(doc_only_model, queries, names, ["fox"])[1:] == []
    monkeypatch.setattr(type(doc_only_model), "max_length", 600)
    with pytest.raises(
        InputError, match=r"reads 600 tokens .* cuts every text at 512: export with --max-length 512"
    ):
        export_model(doc_only_model, tmp_path / "longer")


def test_the_packages_score_as_the_model_does(exported: Export, doc_only_model: NeuralSparseEncoder) -> None:
    documents, queries = (
        ServedDocuments(exported.packages[0].path),
        ServedQueries(exported.packages[1].path),
    )
    for text in ("quick brown fox", "", "Naïve café 한국어 [SEP]", "sorted " * 500):
        expected = dict(doc_only_model.top_terms(doc_only_model.encode_documents([text])))
        assert documents.weights(text) == pytest.approx(expected, abs=1e-5)
        asked = dict(doc_only_model.top_terms(doc_only_model.encode_queries([text])))
        assert queries.weights(text) == asked
    assert len(documents.tokenizer.encode("sorted " * 500).ids) == 32
    assert len(queries.tokenizer.encode("sorted " * 500).ids) == 502


def test_the_same_model_gives_the_same_bytes(
    exported: Export, doc_only_model: NeuralSparseEncoder, tmp_path: Path
) -> None:
    again = export_model(doc_only_model, tmp_path / "again")
    assert [package.sha256 for package in again.packages] == [package.sha256 for package in exported.packages]
    for name in ("deploy.http", "export.json"):
        assert (again.folder / name).read_text() == (exported.folder / name).read_text()


def test_an_export_that_differs_is_refused_and_leaves_nothing(
    doc_only_model: NeuralSparseEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slightly_off(model: NeuralSparseEncoder) -> Any:
        module = _served(model)
        module.ordinary *= 1.001
        return module

    _served = export_module.served_encoder
    monkeypatch.setattr(export_module, "served_encoder", slightly_off)
    with pytest.raises(
        InputError, match=r"does not score as the model does.*document vectors, awkward texts differ by"
    ):
        export_model(doc_only_model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_forgets_the_mask_is_noticed(
    doc_only_model: NeuralSparseEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unmasked(torch.nn.Module):
        def __init__(self, model: NeuralSparseEncoder) -> None:
            super().__init__()
            self.served = _served(model)

        def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            ids = features["input_ids"]
            return self.served({"input_ids": ids, "attention_mask": torch.ones_like(ids)})

    _served = export_module.served_encoder
    monkeypatch.setattr(export_module, "served_encoder", Unmasked)
    with pytest.raises(InputError, match="padded batches differ"):
        export_model(doc_only_model, tmp_path / "out")


def test_a_tokenizer_that_cuts_elsewhere_is_noticed(
    doc_only_model: NeuralSparseEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def longer(tokenizer: Any, max_length: int) -> Tokenizer:
        return _cut(tokenizer, max_length + 1)

    _cut = export_module.document_tokenizer
    monkeypatch.setattr(export_module, "document_tokenizer", longer)
    with pytest.raises(InputError, match="awkward texts differ"):
        export_model(doc_only_model, tmp_path / "out")


def test_query_weights_that_lucene_refuses(doc_only_model: NeuralSparseEncoder, tmp_path: Path) -> None:
    before = dict(doc_only_model.idf_table())
    try:
        doc_only_model.set_query_weights({**before, "fox": 0.0, "dog": 100.0})
        with pytest.raises(InputError, match=r"'dog': 100.*--clip-query-weights"):
            export_model(doc_only_model, tmp_path / "out")
        done = export_model(doc_only_model, tmp_path / "out", options=ExportOptions(clip_query_weights=True))
    finally:
        doc_only_model.set_query_weights(before)
    assert len(done.remarks) == 2
    weights = ServedQueries(done.packages[1].path).weights("fox dog cats")
    assert weights["fox"] == pytest.approx(1e-6)
    assert weights["dog"] == 64
    assert weights["cats"] == pytest.approx(before["cats"])


def test_a_token_that_training_left_without_weight(
    doc_only_model: NeuralSparseEncoder, tmp_path: Path
) -> None:
    """The server takes no 0 and can leave no token out: it gets the least that it takes, and that is said."""
    before = dict(doc_only_model.idf_table())
    try:
        doc_only_model.set_query_weights({**before, "fox": 0.0})
        done = export_model(doc_only_model, tmp_path / "out")
    finally:
        doc_only_model.set_query_weights(before)
    assert done.remarks == ["1 query weights are 0, such as that of 'fox'"]
    (check,) = (check for check in done.checks if check.what == "query weights")
    assert check.passed
    assert check.difference <= 1.1e-6
    assert ServedQueries(done.packages[1].path).weights("fox")["fox"] == pytest.approx(1e-6)


def test_a_folder_that_holds_something_is_left_alone(
    doc_only_model: NeuralSparseEncoder, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(InputError, match="exists; choose another output"):
        export_model(doc_only_model, tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "kept"
    (tmp_path / "empty").mkdir()
    export_model(doc_only_model, tmp_path / "empty")


def test_rankings_and_other_forms_are_compared_on_a_collection(
    doc_only_model: NeuralSparseEncoder, texts: list[str], tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    corpus = {f"d{row}": text for row, text in enumerate(texts)}
    queries = {"q1": "sorted list", "q2": "brown fox", "q3": "json string"}
    collection = Collection.of(corpus, queries, {"q1": {"d0": 1}, "q2": {"d2": 1}, "q3": {"d3": 1}}, "tiny")
    done = export_model(
        doc_only_model, tmp_path / "out", collection, ExportOptions(int8=True, onnx=True, version="2.0.0")
    )
    checks = {check.what: check for check in done.checks}
    assert checks["query weights"].cases > 17
    assert abs(checks["nDCG@10, Lucene's 9 bits against exact"].difference) < 0.5
    assert "tiny: 0." in checks["nDCG@10, Lucene's 9 bits against exact"].note
    for shipped in ("shipped (9 bits, pruned at 0.1)", "two-phase (9 bits, pruned at 0.1)"):
        assert re.search(r"p \S+; \d of 3 queries .* \(\d+%\)", checks[f"nDCG@10, {shipped}"].note)
    assert 0 < checks["int8: document vectors"].difference < 1
    assert checks["ONNX: document vectors"].difference < 1e-4
    assert checks["nDCG@10, ONNX against torch"].difference == pytest.approx(0, abs=1e-6)
    assert "nDCG@10, int8 against float32" in checks
    assert [package.path.parent.name for package in done.packages] == ["encoder", "query", "encoder-int8"]
    assert {path.name for path in (done.folder / "onnx").iterdir()} == {
        "model.onnx",
        "tokenizer.json",
        "idf.json",
    }
    again = export_model(doc_only_model, tmp_path / "again", options=ExportOptions(onnx=True))
    assert sha256_file(again.folder / "onnx" / "model.onnx") == sha256_file(
        done.folder / "onnx" / "model.onnx"
    )


def test_pruned_documents_cut_queries_and_two_phases(
    exported: Export, doc_only_model: NeuralSparseEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    """Each moves a ranking as its definition says."""
    corpus = {"d0": "sorted list", "d1": "a quick brown fox", "d2": "the lazy dog"}
    long = " ".join(["fox"] * 600 + ["dog"])
    collection = Collection.of(corpus, {"q": long}, {"q": {"d2": 1}}, "cut")
    rankings = Rankings(doc_only_model, collection)
    names = server_names(doc_only_model.tokenizer)
    lookup = ServedQueries(exported.packages[1].path)
    assert too_long(lookup, [long, "fox"]) == 1
    kept = served_queries(rankings.queries, [long], lookup, names)
    assert [names[column] for column in kept.indices] == ["fox"]
    assert len(rankings.queries.indices) == 2
    assert rankings.shipped(lookup, names, None, None)[0].what == "nDCG@10, shipped (9 bits, 1 queries cut)"
    assert rankings.shipped(lookup, names, 0.1, None)[0].what.endswith("pruned at 0.1, 1 queries cut)")
    # The light token (1 of 3, below 0.4) is not searched for, but counts where the heavy one was found.
    documents = sp.csr_matrix(np.float32([[1, 0], [0, 9], [1, 2]]))
    hits = two_phase_search(documents, sp.csr_matrix(np.float32([[3, 1]])), 2)
    assert (hits.docs.tolist(), hits.scores.tolist()) == ([[2, 0]], [[5, 3]])
    hits = two_phase_search(documents, sp.csr_matrix(np.float32([[3, 1]])), 3, TwoPhase(expansion_rate=1))
    assert hits.docs.tolist() == [[2, 0, -1]]
    with pytest.raises(InputError, match="gives 2,000 documents at most, not 2,001"):
        two_phase_search(documents, documents, 2001)
    with pytest.raises(InputError, match="prune is a share between 0 and 1"):
        ExportOptions(prune=1)


def test_the_table_tells_failures_from_figures() -> None:
    from rich.console import Console

    shown = io.StringIO()
    Console(width=120, file=shown).print(
        parity_table(
            [
                Check("good", 3, 1e-6),
                Check("bad", 1000, 0.2, note="most: emoji"),
                Check("figure", 2, -0.01, None),
                Check("small figure", 2, -2e-5, None),
                Check("equal", 2, 0.0, 0.0),
            ]
        )
    )
    rows = [re.split(r"\s*│\s*", line)[1:-1] for line in shown.getvalue().splitlines() if "│" in line]
    assert rows == [
        ["good", "3", "1.0e-06", "1e-04", "ok", ""],
        ["bad", "1,000", "0.2000", "1e-04", "FAILED", "most: emoji"],
        ["figure", "2", "-0.0100", "", "", ""],
        ["small figure", "2", "-2.0e-05", "", "", ""],
        ["equal", "2", "0", "0", "ok", ""],
    ]


def test_names_for_the_server() -> None:
    assert served_name("outputs/My Run/final_model") == "my-run-final-model"
    assert served_name("cognition/model") == "cognition-model"
    assert served_name("/a/b/c") == "b-c"
    with pytest.raises(InputError, match="--name"):
        served_name("모델")
