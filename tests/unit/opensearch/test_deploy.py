"""deploy.sh against a stand-in of the server's API, and deploy.http as a text."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from ml_commons_stand_in import MlCommonsStandIn, of_deployment, serving

from neural_sparse.opensearch.deployment import Deployment
from neural_sparse.opensearch.export import SAMPLE_QUERY, SAMPLE_TEXT, Export
from neural_sparse.opensearch.http_file import http_file
from neural_sparse.opensearch.packages import Package
from neural_sparse.opensearch.parity import ServedDocuments, ServedQueries
from neural_sparse.opensearch.shell_script import shell_script

pytestmark = pytest.mark.integration  # takes seconds

PASSWORD = 'p"a\\ss$word`'


@pytest.fixture
def deployment(exported: Export) -> Deployment:
    encoder, queries = exported.packages
    return Deployment(
        encoder, queries, "runs-tiny", SAMPLE_TEXT, SAMPLE_QUERY,
        ServedDocuments(encoder.path).weights(SAMPLE_TEXT), ServedQueries(queries.path).weights(SAMPLE_QUERY),
    )  # fmt: skip


def run(script: Path, url: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {**os.environ, "OPENSEARCH_URL": url, "POLL_SECONDS": "0", **environment}
    return subprocess.run(
        ["bash", str(script)],
        capture_output=True,
        text=True,
        check=False,
        env=settings,
        stdin=subprocess.DEVNULL,
    )


def test_the_script_puts_the_models_on_the_server(exported: Export, deployment: Deployment) -> None:
    server = of_deployment(deployment, task_states=("CREATED", "RUNNING", "COMPLETED"))
    with serving(server) as url:
        done = run(
            exported.folder / "deploy.sh",
            url + "/",
            OPENSEARCH_USER="admin",
            OPENSEARCH_PASSWORD=PASSWORD,
            TEST_NODE="1",
        )
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    expected = "Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
    assert {authorization for *_, authorization in server.requests} == {expected}
    for package, model in zip(exported.packages, server.models.values(), strict=True):
        assert model["content"] == package.path.read_bytes()
        assert {key: model[key] for key in package.registration()} == package.registration()
    sent = [(method, path) for method, path, *_ in server.requests]
    assert sent == [
        ("PUT", "/_cluster/settings"),
        ("POST", "/_plugins/_ml/models/_register_meta"),
        ("POST", "/_plugins/_ml/models/id-0/upload_chunk/0"),
        ("POST", "/_plugins/_ml/models/id-0/_deploy"),
        *[("GET", "/_plugins/_ml/tasks/task-id-0")] * 3,
        ("POST", "/_plugins/_ml/_predict/sparse_encoding/id-0"),
        ("POST", "/_plugins/_ml/models/_register_meta"),
        ("POST", "/_plugins/_ml/models/id-1/upload_chunk/0"),
        ("POST", "/_plugins/_ml/models/id-1/_deploy"),
        *[("GET", "/_plugins/_ml/tasks/task-id-1")] * 3,
        ("POST", "/_plugins/_ml/_predict/sparse_tokenize/id-1"),
        ("PUT", "/_ingest/pipeline/runs-tiny-ingest"),
        ("PUT", "/_search/pipeline/runs-tiny-search"),
        ("PUT", "/runs-tiny"),
        ("PUT", "/runs-tiny/_doc/sample?refresh=true"),
        ("POST", "/runs-tiny/_search"),
        ("POST", "/runs-tiny/_search"),
    ]
    bodies = {path: json.loads(body) for method, path, body, _ in server.requests if method == "PUT"}
    (processor,) = bodies["/_ingest/pipeline/runs-tiny-ingest"]["processors"]
    assert processor["sparse_encoding"]["model_id"] == "id-0"
    first, second = bodies["/_search/pipeline/runs-tiny-search"]["request_processors"]
    assert first == {"neural_query_enricher": {"default_model_id": "id-1"}}
    assert list(second) == ["neural_sparse_two_phase_processor"]
    properties = bodies["/runs-tiny"]["mappings"]["properties"]
    assert properties["embedding"] == {"type": "rank_features"}
    by_model, by_tokens = (
        json.loads(body)["query"]["neural_sparse"]["embedding"] for _, _, body, _ in server.requests[-2:]
    )
    assert by_model == {"query_text": SAMPLE_QUERY, "model_id": "id-1"}
    assert by_tokens == {"query_tokens": deployment.expected_query}


def test_a_large_package_goes_up_in_chunks_in_order(deployment: Deployment, tmp_path: Path) -> None:
    (tmp_path / "encoder").mkdir()
    content = os.urandom(1024) * 9_800  # 10.04 MB
    (tmp_path / "encoder" / "big.zip").write_bytes(content)
    import hashlib

    big = Package(
        tmp_path / "encoder" / "big.zip", "big", "1", "SPARSE_ENCODING", "it's $HOME `big`", len(content),
        hashlib.sha256(content).hexdigest(),
    )  # fmt: skip
    assert big.total_chunks == 2
    (tmp_path / "query").mkdir()
    shutil.copy(deployment.queries.path, tmp_path / "query")
    changed = replace(deployment, encoder=big)
    (tmp_path / "deploy.sh").write_text(shell_script(changed))
    server = of_deployment(changed)
    with serving(server) as url:
        done = run(tmp_path / "deploy.sh", url)
    assert done.returncode == 0, done.stderr
    assert server.models["id-0"]["content"] == content
    assert server.models["id-0"]["description"] == "it's $HOME `big`"
    assert server.requests[0][3] is None  # no user, no authorization
    text = http_file(changed)
    assert re.findall(r"^< (.*)$", text, flags=re.M)[:2] == [f"./encoder/chunk-000{n}" for n in range(2)]


@pytest.mark.parametrize(
    ("states", "said"),
    [
        (("RUNNING", "FAILED"), "task task-id-0 ended as FAILED"),
        (("COMPLETED_WITH_ERROR",), "ended as COMPLETED_WITH_ERROR"),
        (("RUNNING",), "task task-id-0 is still RUNNING"),
    ],
)
def test_the_script_stops_at_a_task_that_does_not_end_well(
    exported: Export, deployment: Deployment, states: tuple[str, ...], said: str
) -> None:
    server = of_deployment(deployment, task_states=states)
    with serving(server) as url:
        done = run(exported.folder / "deploy.sh", url, POLL_LIMIT="4")
    assert done.returncode == 1
    assert said in done.stderr
    assert len(server.models) == 1


def test_the_script_stops_where_the_deployed_model_answers_otherwise(
    exported: Export, deployment: Deployment
) -> None:
    server = of_deployment(deployment)
    token = next(iter(server.answers["sparse_encoding"]))
    server.answers["sparse_encoding"][token] += 0.01
    with serving(server) as url:
        done = run(exported.folder / "deploy.sh", url)
    assert done.returncode == 1
    assert "differs from the export by 1.0e-02" in done.stdout
    assert "that is too much" in done.stderr


def test_the_script_refuses_a_changed_file_and_a_missing_server(
    exported: Export, deployment: Deployment, tmp_path: Path
) -> None:
    shutil.copytree(exported.folder, tmp_path / "copy")
    package = tmp_path / "copy" / "encoder" / exported.packages[0].path.name
    package.write_bytes(package.read_bytes()[:-1])
    server = of_deployment(deployment)
    with serving(server) as url:
        done = run(tmp_path / "copy" / "deploy.sh", url)
        assert done.returncode == 1
        assert "its sha256 differs" in done.stderr
        assert server.requests == []
    done = run(exported.folder / "deploy.sh", url)  # nobody listens any more
    assert done.returncode == 1
    assert "no answer from" in done.stderr
    done = run(exported.folder / "deploy.sh", url, OPENSEARCH_USER="admin", OPENSEARCH_PASSWORD="")
    assert done.returncode == 1
    assert "set OPENSEARCH_PASSWORD" in done.stderr  # nobody is there to be asked
    done = run(exported.folder / "deploy.sh", "")
    assert done.returncode != 0
    assert "set OPENSEARCH_URL" in done.stderr


def test_the_script_shows_what_the_server_says_against_it(exported: Export) -> None:
    class Refuses(MlCommonsStandIn):
        def answer(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, object]]:
            return 403, {"error": "no permissions for [cluster:admin/opensearch/ml/register_model_meta]"}

    with serving(Refuses({})) as url:
        done = run(exported.folder / "deploy.sh", url)
    assert done.returncode == 1
    assert "HTTP 403" in done.stderr
    assert "no permissions" in done.stderr


def test_the_http_file_holds_every_request_and_no_secret(deployment: Deployment) -> None:
    text = http_file(replace(deployment, analyzer="bert-uncased"))
    assert "@" + "ENCODER_ID" not in text
    for line in (
        "PUT {{url}}/_cluster/settings",
        "POST {{url}}/_plugins/_ml/models/{{encoder_id}}/upload_chunk/0",
        "POST {{url}}/_plugins/_ml/models/{{query_id}}/_deploy",
        "GET {{url}}/_plugins/_ml/tasks/{{deploy_query.response.body.task_id}}",
        "PUT {{url}}/_ingest/pipeline/runs-tiny-ingest",
        "PUT {{url}}/_search/pipeline/runs-tiny-search",
        "PUT {{url}}/runs-tiny",
        '        "analyzer": "bert-uncased"',
        '        "model_id": "{{query_id}}"',
        '        "query_tokens": {',
    ):
        assert line in text.splitlines(), line
    for block in re.findall(r"^\{\n.*?^\}$", text, flags=re.M | re.S):
        json.loads(block)
    assert "analyzer" not in http_file(deployment)
