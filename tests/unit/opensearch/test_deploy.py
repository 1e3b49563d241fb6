"""What of a deployment needs no server: bodies, refusals, patience, logins. The rest meets real nodes."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from neural_sparse import NeuralSparseEncoder
from neural_sparse.errors import InputError
from neural_sparse.io.files import write_json
from neural_sparse.model.fingerprint import Fingerprint
from neural_sparse.model.pruning import Pruning
from neural_sparse.opensearch import connect, versions
from neural_sparse.opensearch.deploy import DeployOptions, Patience
from neural_sparse.opensearch.deploy.exported import Exported
from neural_sparse.opensearch.deploy.models import Models
from neural_sparse.opensearch.deploy.plan import Plan
from neural_sparse.opensearch.deploy.proof import covers
from neural_sparse.opensearch.deploy.server import Server
from neural_sparse.opensearch.export import Export
from neural_sparse.opensearch.features import field_types
from neural_sparse.opensearch.packages import Package
from neural_sparse.opensearch.refusals import cured, reason
from neural_sparse.opensearch.searches import About, added_search, sparse_search

exceptions = pytest.importorskip("opensearchpy.exceptions")


# --- the export --------------------------------------------------------------------------------------


def test_an_export_is_read_back(exported: Export) -> None:
    opened = Exported.open(exported.folder)
    assert [opened.encoder, opened.queries] == exported.packages
    assert (opened.name, opened.version, opened.analyzer) == ("runs-tiny", "1.0.0", None)
    assert {token: opened.weights[token] for token in (".", "list")}
    assert list(opened.weights) == [token for token in opened.tokens if token]


def test_folders_that_are_no_export(exported: Export, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"is no export \(it holds no export\.json\): make one with `neural-sparse ex"
    ):
        Exported.open(tmp_path)
    write_json(tmp_path / "export.json", {"format": "rank_features", "documents": 3})
    with pytest.raises(InputError, match="holds no packages for OpenSearch"):
        Exported.open(tmp_path)
    write_json(tmp_path / "export.json", {"name": "a", "version": "1", "packages": []})
    with pytest.raises(InputError, match=r"is not whole \('encoder'\)"):
        Exported.open(tmp_path)
    import shutil

    shutil.copytree(exported.folder, tmp_path / "copy")
    package = tmp_path / "copy" / "encoder" / exported.packages[0].path.name
    package.write_bytes(package.read_bytes()[:-1])
    with pytest.raises(InputError, match="is not the file that was exported"):
        Exported.open(tmp_path / "copy")


# --- bodies ------------------------------------------------------------------------------------------


def plan(exported: Export, **options: Any) -> Plan:
    return Plan(Exported.open(exported.folder), DeployOptions(**options))


def test_what_is_exact_is_the_default(exported: Export) -> None:
    made = plan(exported)
    assert (made.index, made.alias, made.two_phase_pipeline) == ("runs-tiny-1.0.0", "runs-tiny", None)
    assert made.search_body("q")["request_processors"] == [
        {"neural_query_enricher": {"default_model_id": "q"}}
    ]
    (processor,) = made.ingest_body("e")["processors"]
    assert processor["sparse_encoding"] == {
        "model_id": "e", "field_map": {"text": "embedding"}, "prune_type": "max_ratio", "prune_ratio": 0.1,
    }  # fmt: skip
    body = made.index_body()
    assert body["mappings"]["_source"] == {"excludes": ["embedding"]}
    assert body["mappings"]["properties"]["embedding"] == {"type": "rank_features"}
    assert body["settings"] == {
        "index.default_pipeline": "runs-tiny-1.0.0-ingest", "index.search.default_pipeline": "runs-tiny-1.0.0-search",
    }  # fmt: skip
    assert made.query("a", {"a": 1.0})["query"] == {"neural_sparse": {"embedding": {"query_text": "a"}}}


def test_what_can_be_asked_for(exported: Export) -> None:
    made = plan(exported, name="Other/Name", alias="here", prune=None, two_phase=True)
    assert (made.index, made.alias) == ("other-name-1.0.0", "here")
    assert "prune_type" not in json.dumps(made.ingest_body("e"))
    assert [next(iter(one)) for one in made.two_phase_body("q")["request_processors"]] == [
        "neural_query_enricher",
        "neural_sparse_two_phase_processor",
    ]
    brought = plan(exported, ingest=False, query="tokens")
    assert brought.index_settings() == {"index.default_pipeline": None, "index.search.default_pipeline": None}
    assert "_source" not in brought.index_body()["mappings"]  # the vectors are nowhere else
    by_id = plan(exported, field="sparse_vector", query="tokens")
    token = by_id.exported.tokens.index("list")
    how = by_id.query("list", {"list": 2.0})["query"]["neural_sparse"]["embedding"]
    assert how["query_tokens"] == {str(token): 2.0}
    assert how["method_parameters"]["k"] == 10
    for options in ({}, {"passages": 20}):
        fields = [
            plan(exported, text_analyzer=words, **options).index_body()["mappings"]["properties"]
            for words in (None, "english")
        ]
        assert [one["text"].get("analyzer") for one in fields] == [None, "english"]


def test_one_query_of_both(exported: Export, doc_only_model: NeuralSparseEncoder) -> None:
    body = plan(exported).index_body()
    about = About("docs", field_types(body["mappings"]), {}, None)
    sparse = sparse_search(about, 10, model=doc_only_model)
    alone, both = (
        kind.bodies(["sort a list"])[0] for kind in (sparse, added_search(sparse, about, "text", 8.0))
    )
    clauses = both["query"]["bool"]["should"]
    assert clauses == [alone["query"], {"match": {"text": {"query": "sort a list", "boost": 8.0}}}]
    assert {**both, "query": None} == {**alone, "query": None}
    with pytest.raises(InputError, match="above 0, not -1"):
        added_search(sparse, about, "text", -1.0)
    with pytest.raises(InputError, match="BM25 wants text"):
        added_search(sparse, about, "embedding", 8.0)


def test_a_deployed_index_refuses_another_model(
    exported: Export, doc_only_model: NeuralSparseEncoder, tmp_path: Path
) -> None:
    """A model swapped silently behind an index: named, whatever is asked of the index with it."""
    body = plan(exported, prune=0.25).index_body()
    meta = body["mappings"]["_meta"]["neural_sparse"]
    assert Fingerprint.read(meta["fingerprint"]).pruning == Pruning(0.25)
    about = About("docs", field_types(body["mappings"]), meta, None)
    doc_only_model.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    sparse_search(
        about, 10, model=NeuralSparseEncoder(tmp_path / "model", 16)
    )  # read less of: no other model
    other = NeuralSparseEncoder(tmp_path / "model")
    other.set_query_weights(dict.fromkeys(other.tokenizer.get_vocab(), 2.0))
    sparse_search(about, 10, model=other)  # refreshed
    bias = next(value for key, value in other.routes["document"].state_dict().items() if key.endswith("bias"))
    bias += 1
    with pytest.raises(
        InputError, match=r"'docs' holds vectors of 'runs/tiny'.* in the document side's weights: enc"
    ):
        sparse_search(about, 10, model=other)


def test_passages(exported: Export) -> None:
    made = plan(exported, passages=20, overlap=0.25)
    cut, encode = (one for one in made.ingest_body("e")["processors"])
    assert cut["text_chunking"]["algorithm"]["fixed_token_length"]["token_limit"] == 20
    assert cut["text_chunking"]["field_map"] == {"text": "passages"}
    assert encode["sparse_encoding"]["field_map"] == {"passages": "passage_embedding"}
    body = made.index_body()
    assert body["mappings"]["_source"] == {"excludes": ["passage_embedding"]}
    assert field_types(body["mappings"])[made.vector_field] == "rank_features"
    asked = made.query("a", {"a": 1.0})["query"]["nested"]
    assert (asked["score_mode"], list(asked["query"]["neural_sparse"])) == ("max", [made.vector_field])
    assert made.about()["passages"] == {"words": 20, "overlap": 0.25}
    with pytest.raises(
        InputError, match=r"31 words is longer than the 32 tokens .* take --passages 22 or fewer"
    ):
        plan(exported, passages=31).check("3.6.0")


def test_passages_make_up_their_text() -> None:
    assert covers(["a" * 10, "a" * 10], "a" * 15)
    assert covers(["one two ", " two  three"], " one two  three ")
    words = ["cat", "house", "river", "tree", "stone"] * 40
    cut = [" ".join(words[start : start + 60]) for start in range(0, 200, 54)]
    assert covers(cut, " ".join(words))
    assert not covers(cut, " ".join([*words, "cat"]))
    assert not covers(cut[:1] + cut[2:], "one " + " ".join(words))
    assert not covers(["one two "], "one two three")
    assert not covers(["two three"], "one two three")
    assert not covers(["one ", "other"], "one two")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"passages": 20, "overlap": 0.6}, "repeats at most half"),
        ({"passages": 20, "ingest": False}, "leave --no-ingest or --passages out"),
        ({"passages": 20, "two_phase": True}, "leave --two-phase and --field out"),
        ({"query": "magic"}, "query is by model, analyzer, tokens"),
        ({"field": "dense"}, "rank_features or sparse_vector"),
        ({"prune": 1.5}, "a share between 0 and 1"),
        ({"two_phase": True, "field": "sparse_vector"}, "two-phase search is not for sparse_vector"),
        ({"reindex": True, "ingest": False}, "takes the ingest pipeline"),
    ],
)
def test_options_that_do_not_go(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        DeployOptions(**options)


@pytest.mark.parametrize(
    ("version", "options", "said"),
    [
        (
            "2.17.0",
            {},
            r"2\.17\.0 lacks pruning in the ingest pipeline, which came with 2\.19; there is --prune none",
        ),
        ("2.17.0", {"prune": None}, None),
        ("2.14.0", {"prune": None, "two_phase": True}, r"lacks two-phase search, which came with 2\.15"),
        ("2.13.0", {"prune": None}, r"lacks neural_sparse queries by query_tokens"),
        ("2.19.1", {"query": "analyzer"}, r"by analyzer, which came with 3\.1; there is --query model"),
        ("3.1.0", {"query": "analyzer"}, "query weights are its own"),
        ("3.2.0", {"field": "sparse_vector"}, r"which came with 3\.3"),
        ("3.3.0-SNAPSHOT", {"field": "sparse_vector"}, None),
        ("3.6.0", {"alias": "runs-tiny-1.0.0"}, "give another --alias"),
    ],
)
def test_what_a_version_lacks(
    exported: Export, version: str, options: dict[str, Any], said: str | None
) -> None:
    if said is None:
        plan(exported, **options).check(version)
        return
    with pytest.raises(InputError, match=said):
        plan(exported, **options).check(version)


def test_versions() -> None:
    page = (Path(__file__).parents[3] / "docs" / "opensearch.md").read_text()
    for feature in versions.FEATURES:
        assert f"| {feature.what} | {'.'.join(map(str, feature.since))} |" in page
    assert versions.numbers("3.10.2") > versions.numbers("3.6.0")
    with pytest.raises(InputError, match="is no version"):
        versions.numbers("latest")


def test_the_requests_can_be_read_and_hold_no_secret(exported: Export) -> None:
    text = (exported.folder / "deploy.http").read_text()
    for line in (
        "PUT {{url}}/_cluster/settings",
        "POST {{url}}/_plugins/_ml/models/{{encoder_id}}/upload_chunk/0",
        "POST {{url}}/_plugins/_ml/models/{{queries_id}}/_deploy",
        "GET {{url}}/_plugins/_ml/tasks/{{deploy_queries.response.body.task_id}}",
        "PUT {{url}}/_ingest/pipeline/runs-tiny-1.0.0-ingest",
        "PUT {{url}}/_search/pipeline/runs-tiny-1.0.0-two-phase",
        "PUT {{url}}/runs-tiny-1.0.0",
        "POST {{url}}/_aliases",
        '        "query_tokens": {',
    ):
        assert line in text.splitlines(), line
    blocks = re.findall(r"^\{\n.*?^\}$", text, flags=re.M | re.S)
    for block in blocks:
        json.loads(block)
    assert set(re.findall(r"^Content-Type: (.*)$", text, flags=re.M)) == {
        "application/json"
    }  # others are 406
    assert "allow_registering_model_via_url" not in text
    assert len(
        re.findall(r"^Authorization: Basic \{\{user\}\} \{\{password\}\}$", text, flags=re.M)
    ) == text.count("### ")
    for file in re.findall(r"^< (.*)$", text, flags=re.M):
        assert (exported.folder / file).is_file()


def test_a_large_package_goes_up_in_any_order_but_the_last(exported: Export, tmp_path: Path) -> None:
    from neural_sparse.opensearch.deploy.requests_file import requests_file

    opened = Exported.open(exported.folder)
    content = b"x" * 10_040_000
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "big.zip").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    big = Package(
        tmp_path / "encoder" / "big.zip", "big", "1", "SPARSE_ENCODING", "big", len(content), digest
    )
    text = requests_file(replace(opened, encoder=big), "a", "b", {"a": 1.0}, {"b": 1.0})
    assert re.findall(r"^< (.*)$", text, flags=re.M)[:2] == [f"./encoder/chunk-000{n}" for n in range(2)]
    assert "Upload part 1 of 2; the others may come in any order, and again" in text
    assert "Upload part 2 of 2; the last one: the server takes the model for complete now" in text
    assert "split -b 10000000 -d -a 4 encoder/big.zip encoder/chunk-" in text


# --- patience ----------------------------------------------------------------------------------------


class Flaky:
    """Raises what it is told, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def server(waits: list[float], busy: float = 60.0) -> Server:
    patience = Patience(busy=busy, wait=waits.append, clock=lambda: sum(waits))
    return Server(SimpleNamespace(), "here", patience)  # type: ignore[arg-type]


def test_a_busy_server_is_waited_for() -> None:
    waits: list[float] = []
    busy = [exceptions.TransportError(status, "busy", {}) for status in (429, 503)]
    asked = server(waits)
    away = exceptions.ConnectionError("N/A", "refused", OSError("refused"))
    assert asked.ask(Flaky(*busy, away)) == "answer"
    assert waits == [0.5, 1.0, 2.0]
    assert asked.outages == 1


def test_a_server_that_does_not_recover() -> None:
    waits: list[float] = []
    busy = [exceptions.TransportError(503, "busy", {"error": "Security not initialized"})] * 100
    with pytest.raises(InputError, match="here: answered 503: Security not initialized"):
        server(waits, busy=20).ask(Flaky(*busy))
    assert 15 <= sum(waits) <= 20


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            exceptions.SSLError(
                "N/A", "self-signed certificate", OSError("self-signed certificate in chain")
            ),
            "authority",
        ),
        (exceptions.RequestError(400, "bad", {"error": {"reason": "too odd"}}), "answered 400: too odd"),
        (exceptions.AuthenticationException(401, "no", {}), "OPENSEARCH_PASSWORD"),
        (exceptions.SerializationError("<html>", ValueError()), "does not answer as OpenSearch does"),
    ],
)
def test_what_waiting_does_not_cure_is_told_at_once(error: Exception, said: str) -> None:
    waits: list[float] = []
    with pytest.raises(InputError, match=said):
        server(waits).ask(Flaky(error))
    assert waits == []


def test_elasticsearch_is_told_from_opensearch() -> None:
    asked = server([])
    asked.client = SimpleNamespace(info=lambda: {"version": {"number": "8.15.0"}})  # type: ignore[assignment]
    with pytest.raises(InputError, match=r"is Elasticsearch 8\.15\.0.*--format rank_features"):
        asked.version()


def test_a_cluster_without_the_plugins() -> None:
    asked = server([])
    rows = [{"component": "opensearch-ml"}]
    asked.client = SimpleNamespace(cat=SimpleNamespace(plugins=lambda format: rows))  # type: ignore[assignment]
    with pytest.raises(InputError, match="lacks the plugin opensearch-neural-search"):
        asked.check_plugins()


# --- refusals, as real servers worded them -----------------------------------------------------------


def test_the_root_cause_is_told() -> None:
    shard = {
        "type": "query_shard_exception",
        "reason": "failed to create query: weight must be in (0, 64.0], got: 100.0",
    }
    whole = {
        "root_cause": [shard],
        "type": "search_phase_execution_exception",
        "reason": "all shards failed",
        "failed_shards": [
            {
                "shard": 0,
                "reason": {**shard, "caused_by": {"reason": "weight must be in (0, 64.0], got: 100.0"}},
            }
        ],
    }
    assert reason(whole) == "failed to create query: weight must be in (0, 64.0], got: 100.0"
    parsing = {
        "type": "mapper_parsing_exception",
        "reason": "failed to parse",
        "caused_by": {"reason": "too odd"},
    }
    assert reason(parsing) == "failed to parse: too odd"
    deeper = {
        **whole,
        "failed_shards": [{"reason": {"reason": "boom", "caused_by": {"caused_by": {"reason": "fuse"}}}}],
    }
    assert reason(deeper).endswith(": fuse")
    assert reason("just words") == "just words"
    assert reason({"type": "only_a_type"}) == "only_a_type"


def test_permissions_and_settings_are_named() -> None:
    words = (
        "no permissions for [cluster:admin/opensearch/ml/register_model_meta] and User [name=reader, "
        "backend_roles=[], requestedTenant=null]"
    )
    assert cured(words) == (
        "the user reader lacks the permission cluster:admin/opensearch/ml/register_model_meta; an administrator gives "
        "it by a role (ml_full_access holds all of ML Commons)"
    )
    assert "max_model_on_node" in cured("Exceed max local model per node limit")
    assert cured("something new") == "something new"


# --- logins ------------------------------------------------------------------------------------------


@contextmanager
def recording() -> Iterator[tuple[str, list[tuple[str, str, dict[str, str], bytes]]]]:
    """A server that says it is OpenSearch, and what it was sent."""
    seen: list[tuple[str, str, dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            seen.append((self.command, self.path, headers, body))
            data = json.dumps({"version": {"number": "3.6.0", "distribution": "opensearch"}}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_HEAD = _any

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}", seen
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def test_requests_are_signed_for_amazon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("boto3")
    for name in (
        "AWS_PROFILE",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with recording() as (url, seen):
        with pytest.raises(InputError, match="boto3 finds no credentials"):
            connect(url, auth="sigv4", region="eu-west-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
        with pytest.raises(InputError, match="needs a region"):
            connect(url, auth="sigv4")
        client = connect(url, auth="sigv4", region="eu-west-1")
        chunk = b"PK\x03\x04\x00\xff raw"
        client.plugins.ml.upload_chunk(model_id="m", chunk_number=0, body=chunk)
    for _, _, headers, body in seen:
        assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
        assert "/eu-west-1/es/aws4_request" in headers["authorization"]
        assert headers["x-amz-content-sha256"] == hashlib.sha256(body).hexdigest()
        assert "wJalrXUtnFEMI" not in str(headers)
    assert seen[-1][3] == chunk
    assert seen[-1][2]["content-type"] == "application/json"


def test_logins_that_lack_something(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OPENSEARCH_USER", raising=False)
    for arguments, said in (
        ({"auth": "kerberos"}, "auth is one of basic, sigv4, cert, none"),
        ({"auth": "basic"}, "needs a user: give one, or set OPENSEARCH_USER"),
        ({"auth": "cert"}, "needs a certificate"),
        ({"ca_certs": str(tmp_path / "none")}, "ca_certs: .*none cannot be read"),
        ({"client_cert": str(tmp_path / "none")}, "client_cert: .*none cannot be read"),
    ):
        with pytest.raises(InputError, match=said):
            connect("https://localhost:1", **arguments)


# --- the command -------------------------------------------------------------------------------------


def test_the_command_refuses_before_it_asks_anyone(exported: Export, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from neural_sparse.cli.main import app

    def refusal(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["deploy", *arguments, "--url", "http://localhost:1"])
        assert isinstance(result.exception, InputError), result.output
        return str(result.exception)

    export = str(exported.folder)
    assert "is no export" in refusal(str(tmp_path))
    assert "--prune 'much': a share such as 0.1, or none" in refusal(export, "--prune", "much")
    assert "--with-documents is for --remove" in refusal(export, "--with-documents")
    assert "query is by model, analyzer, tokens" in refusal(export, "--query", "magic")
    assert "time limits are seconds above 0" in refusal(export, "--time-limit", "0")
    assert "cannot be reached" in refusal(export, "--auth", "none")


# --- models ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heeded", [1, 3, None])
def test_a_model_that_stays_deployed_is_undeployed_again(heeded: int | None) -> None:
    """Seen once on a node: its model was put back by the server; a server does not do so on demand."""
    time, asked, deleted = [0.0], [0], []

    def undeploy(body: Any) -> None:
        asked[0] += 1

    def wait(seconds: float) -> None:
        time[0] += seconds

    def get(model_id: str) -> dict[str, str]:
        return {"model_state": "UNDEPLOYED" if heeded is not None and asked[0] >= heeded else "DEPLOYED"}

    api = SimpleNamespace(
        get_model=get, undeploy_model=undeploy, delete_model=lambda model_id: deleted.append(model_id)
    )
    client: Any = SimpleNamespace(plugins=SimpleNamespace(ml=api))
    models = Models(Server(client, "here", Patience(task=60, wait=wait, clock=lambda: time[0])))
    if heeded is None:
        with pytest.raises(InputError, match="here: the model one is still DEPLOYED after 60 s"):
            models.delete("one")
        assert not deleted
        return
    models.delete("one")
    assert (asked[0], deleted) == (heeded, ["one"])
