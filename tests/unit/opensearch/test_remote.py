"""Documents encoded over HTTP: the handler against the export, its server, what is written and told to a cluster."""

from __future__ import annotations

import importlib.util
import json
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neural_sparse.errors import InputError
from neural_sparse.io.files import read_json
from neural_sparse.opensearch.connection import readable_errors
from neural_sparse.opensearch.deploy import DeployOptions
from neural_sparse.opensearch.deploy.exported import Exported
from neural_sparse.opensearch.deploy.plan import Plan
from neural_sparse.opensearch.export import Export
from neural_sparse.opensearch.parity import AWKWARD_TEXTS, ServedDocuments
from neural_sparse.opensearch.remote import inference
from neural_sparse.opensearch.remote.connector import Remote
from neural_sparse.opensearch.remote.inference import DocumentEncoder, make_server
from neural_sparse.opensearch.remote_package import write_remote_package

SAGEMAKER = "https://runtime.sagemaker.eu-west-1.amazonaws.com/endpoints/mine/invocations"
ROLE = "arn:aws:iam::123456789012:role/invoker"


@pytest.fixture(scope="module")
def encoder(exported: Export) -> DocumentEncoder:
    return DocumentEncoder(exported.packages[0].path, "cpu")


def test_vectors_are_those_of_the_export(encoder: DocumentEncoder, exported: Export) -> None:
    """In batches of any size, in the order of the texts, by token and by id."""
    served = ServedDocuments(exported.packages[0].path)
    texts = [*AWKWARD_TEXTS.values(), *AWKWARD_TEXTS.values()]
    for found, text in zip(encoder(texts), texts, strict=True):
        assert found == pytest.approx(served.weights(text), abs=1e-5)
    names = Exported.open(exported.folder).tokens
    by_id = encoder(texts, "TOKEN_ID")
    assert [{names[int(token)]: weight for token, weight in one.items()} for one in by_id] == encoder(texts)
    assert encoder([]) == []
    many = [f"sort a list of {number} files" for number in range(700)]  # more than one batch
    assert encoder(many)[699] == pytest.approx(encoder(many[699:])[0], abs=1e-5)


def test_what_sagemaker_calls(exported: Export, encoder: DocumentEncoder) -> None:
    model = inference.model_fn(str(exported.packages[0].path.parent))
    data = inference.input_fn(b'{"inputs": "sort a \\ud800 list"}', "application/json; charset=utf-8")
    assert data == (["sort a \ufffd list"], "WORD")
    assert json.loads(inference.output_fn(inference.predict_fn(data, model))) == encoder(data[0])
    for body, content_type in ((b"[1]", "application/json"), (b'{"inputs": ["a"]}', "text/csv")):
        with pytest.raises(ValueError, match="please"):
            inference.input_fn(body, content_type)
    with pytest.raises(FileNotFoundError, match="holds 0 packages"):
        inference.model_fn(str(exported.folder))


@pytest.fixture
def address(encoder: DocumentEncoder) -> Iterator[str]:
    server = make_server(encoder, key="a-key")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def ask(url: str, body: bytes | None = None, key: str = "a-key") -> tuple[int, Any]:
    request = urllib.request.Request(url, body, {"Authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["error"]


def test_the_server(address: str, encoder: DocumentEncoder) -> None:
    assert ask(f"{address}/ping") == (200, {})
    body = json.dumps({"inputs": ["sort a list", "\x00"], "sparse_embedding_format": "WORD"}).encode()
    assert ask(f"{address}/invocations", body) == (200, encoder(["sort a list", "\x00"]))
    for path, sent, key, status, words in (
        ("/invocations", body, "another", 401, "another key is wanted"),
        ("/invocations", b"{", "a-key", 400, "a JSON object, please"),
        ("/invocations", b"[" * 100_000, "a-key", 400, "a JSON object, please"),
        ("/invocations", b'{"inputs": [1]}', "a-key", 400, "inputs is a list of texts"),
        ("/invocations", b'{"inputs": [], "sparse_embedding_format": "X"}', "a-key", 400, "WORD or TOKEN_ID"),
        ("/else", body, "a-key", 404, "POST /invocations"),
    ):
        got = ask(f"{address}{path}", sent, key)
        assert got[0] == status, got
        assert words in got[1]
    assert ask(f"{address}/invocations", b'{"inputs": []}') == (200, [])


def test_the_package_runs_alone(exported: Export, encoder: DocumentEncoder, tmp_path: Path) -> None:
    about = write_remote_package(exported.folder, tmp_path / "remote")
    assert about["encoder"] == exported.packages[0].sha256
    with tarfile.open(tmp_path / "remote" / "model.tar.gz") as archive:
        archive.extractall(tmp_path / "model", filter="data")
    assert {path.name for path in (tmp_path / "model" / "code").iterdir()} == {
        "inference.py",
        "requirements.txt",
    }
    source = tmp_path / "model" / "code" / "inference.py"
    assert "neural_sparse." not in source.read_text()
    found = importlib.util.spec_from_file_location("alone", source)
    assert found is not None
    assert found.loader is not None
    alone = importlib.util.module_from_spec(found)
    found.loader.exec_module(alone)
    assert alone.model_fn(str(tmp_path / "model"))(["sort a list"]) == encoder(["sort a list"])
    connector = read_json(tmp_path / "remote" / "connector.json")
    assert (connector["protocol"], connector["parameters"]["service_name"]) == ("aws_sigv4", "sagemaker")
    assert read_json(tmp_path / "remote" / "register.json")["function_name"] == "remote"
    assert "Bearer ${credential.key}" in (tmp_path / "remote" / "connector-http.json").read_text()
    again = write_remote_package(exported.folder, tmp_path / "again")
    assert again == about
    for name in ("model.tar.gz", "connector.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "remote" / name).read_bytes()
    with pytest.raises(InputError, match="is no export"):
        write_remote_package(tmp_path, tmp_path / "new")


def test_what_a_cluster_is_told(exported: Export) -> None:
    package = Exported.open(exported.folder).encoder
    plain = Remote("https://encoder.example.org/invocations", key="sesame")
    body = plain.connector(package)
    assert (body["protocol"], body["credential"]) == ("http", {"key": "sesame"})
    assert "sesame" not in repr(plain)
    assert "sesame" not in json.dumps({**body, "credential": None})
    assert "credential" not in Remote("https://encoder.example.org/").connector(package)
    signed = Remote(SAGEMAKER, ROLE).connector(package)
    assert signed["credential"] == {"roleArn": ROLE}
    assert signed["parameters"] | {"sparse_embedding_format": ""} == {
        "region": "eu-west-1", "service_name": "sagemaker", "sparse_embedding_format": "",
    }  # fmt: skip
    descriptions = {
        remote.description(package)
        for remote in (plain, Remote(plain.url), Remote(SAGEMAKER, ROLE), Remote(SAGEMAKER, ROLE + "-2"))
    }
    assert len(descriptions) == 4
    plan = Plan(Exported.open(exported.folder), DeployOptions(remote=Remote(plain.url, batch=7)))
    (processor,) = plan.ingest_body("m")["processors"]
    assert processor["sparse_encoding"]["batch_size"] == 7


@pytest.mark.parametrize(
    ("url", "more", "words"),
    [
        ("encoder.example.org", {}, "is no address"),
        ("https://me:secret@example.org/", {}, "holds a login or a query"),
        ("https://example.org/?key=1", {}, "the key goes into NEURAL_SPARSE_ENDPOINT_KEY"),
        (SAGEMAKER, {}, "want signed requests: give the role"),
        (SAGEMAKER, {"role": "invoker"}, "not invoker"),
        (SAGEMAKER, {"role": ROLE, "key": "a"}, "take no key"),
        ("https://example.org/", {"role": ROLE}, "a role is for SageMaker's"),
        ("https://example.org/", {"batch": 0}, "at least one text"),
    ],
)
def test_endpoints_that_are_none(url: str, more: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as refused:
        Remote(url, **more)
    assert "secret" not in str(refused.value)


def test_an_endpoint_is_for_the_ingest_pipeline() -> None:
    with pytest.raises(InputError, match="leave --no-ingest or --remote out"):
        DeployOptions(remote=Remote("https://example.org/"), ingest=False)


@pytest.mark.parametrize("status", [401, 403])
def test_an_endpoint_that_refuses_is_not_the_cluster(status: int) -> None:
    exceptions = pytest.importorskip("opensearchpy.exceptions")
    kind = exceptions.HTTP_EXCEPTIONS[status]
    info = {"error": {"type": "status_exception", "reason": "Error from remote service: {}"}}
    with (
        pytest.raises(
            InputError, match=r"the endpoint of the remote model refused .*NEURAL_SPARSE_ENDPOINT_KEY"
        ),
        readable_errors("here"),
    ):
        raise kind(status, "status_exception", info)
