"""Three real nodes: the rankings of one, and what is left when one of them is killed.

They come from Maven Central; where that is out of reach, the tests say so and are skipped.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from neural_sparse import InputError
from neural_sparse.opensearch import BulkSettings, VectorIndex, connect, neural_sparse_query, stored
from neural_sparse.opensearch.features import query_tokens
from neural_sparse.opensearch.load import match_body
from neural_sparse.opensearch.node import Cluster
from neural_sparse.opensearch.node.assembly import install
from neural_sparse.opensearch.seismic import Seismic, SeismicSearch

pytestmark = pytest.mark.integration
pytest.importorskip("opensearchpy")

Rankings = list[list[tuple[str, float]]]
VERSION = "3.6.0"
TOKENS = ["", "", *(f"w{number}" for number in range(2, 1200))]
DOCUMENTS, QUERIES = 600, 20
IDS = [f"d{row}" for row in range(DOCUMENTS)]
QUICK = BulkSettings(documents=60, retries=20, first_wait=0.2, longest_wait=1.0, shard_wait=2.0)


@dataclass
class Data:
    """Documents and queries of words as frequent as in a language, weighed at random."""

    vectors: sp.csr_matrix
    texts: list[str]
    queries: sp.csr_matrix
    asks: list[str]

    @classmethod
    def made(cls) -> Data:
        rng = np.random.default_rng(0)
        share = 1 / np.arange(1, len(TOKENS) - 1)

        def words(count: int, of_each: int) -> list[np.ndarray]:
            drawn = (rng.choice(len(share), of_each, False, share / share.sum()) for _ in range(count))
            return [one + 2 for one in drawn]

        def matrix(rows: Sequence[np.ndarray], most: float) -> sp.csr_matrix:
            made = sp.lil_matrix((len(rows), len(TOKENS)), dtype=np.float32)
            for row, columns in enumerate(rows):
                made[row, columns] = rng.uniform(0.05, most, len(columns))
            return made.tocsr()

        documents, queries = words(DOCUMENTS, 40), words(QUERIES, 6)
        texts = [" ".join(TOKENS[c] for c in one for _ in range(rng.integers(1, 4))) for one in documents]
        asks = [" ".join(TOKENS[c] for c in one) for one in queries]
        return cls(matrix(documents, 2.9), texts, matrix(queries, 9.0), asks)


@pytest.fixture(scope="module")
def data() -> Data:
    return Data.made()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    try:
        install(VERSION)
    except InputError as error:
        pytest.skip(f"no node of OpenSearch {VERSION}: {error}")
    with Cluster(3, VERSION) as started:
        yield started


@pytest.fixture(scope="module")
def client(cluster: Cluster) -> Any:
    return connect(cluster.urls)


@pytest.fixture(scope="module")
def indexes(cluster: Cluster, client: Any, data: Data) -> dict[str, VectorIndex]:
    """On one shard, which is what one node would do; and on three of two copies each."""
    made = {}
    for name, shards, replicas in (("one", 1, 0), ("three", 3, 1)):
        for kind, more in (
            ("", {"names": "plain"}),
            ("-clusters", {"seismic": Seismic(approximate_threshold=100, n_postings=100)}),
        ):
            index = VectorIndex.create(
                client, f"{name}{kind}", TOKENS, shards=shards, replicas=replicas, **more
            )
            assert index.add(data.vectors, IDS, data.texts, show_progress=False).failed == []
            made[f"{name}{kind}"] = index
    cluster.wait("green")
    return made


def scores(rankings: Rankings) -> list[list[float]]:
    return [[score for _, score in ranking] for ranking in rankings]


def assert_same(one: Rankings, other: Rankings) -> None:
    """Up to the order of documents that score the same."""
    for first, second in zip(one, other, strict=True):
        assert [score for _, score in first] == pytest.approx([score for _, score in second], rel=1e-5)
        least = min(score for _, score in first) * (1 + 1e-5)
        assert {doc for doc, score in first if score > least} == {
            doc for doc, score in second if score > least
        }


def searched(client: Any, index: str, bodies: Sequence[Mapping[str, Any]], **params: str) -> Rankings:
    answers = [client.search(index=index, body=body, params=params) for body in bodies]
    return [[(hit["_id"], hit["_score"]) for hit in answer["hits"]["hits"]] for answer in answers]


def test_three_shards_rank_as_one(client: Any, indexes: dict[str, VectorIndex], data: Data) -> None:
    one, three = indexes["one"], indexes["three"]
    kinds: tuple[Any, ...] = ("rank_feature", "neural_sparse")
    exact = (data.queries @ stored(data.vectors).T).toarray()
    for kind in kinds:
        found = three.search(data.queries, 10, kind=kind)
        assert_same(one.search(data.queries, 10, kind=kind), found)
        assert scores(found) == [pytest.approx(np.sort(row)[::-1][:10], rel=1e-5) for row in exact]
    filter = {"match": {"text": "w2"}}
    assert_same(*(index.search(data.queries, 10, filter=filter) for index in (one, three)))
    for depth in (10, 100):
        both = [index.search_with_bm25(data.queries, data.asks, 10, depth=depth) for index in (one, three)]
        assert_same(*both)
    # BM25 counts documents shard by shard, unless it is asked to add them up.
    bodies = [match_body(ask, "text", 10) for ask in data.asks]
    alone = searched(client, "one", bodies)
    assert scores(searched(client, "three", bodies)) != scores(alone)
    assert_same(searched(client, "three", bodies, search_type="dfs_query_then_fetch"), alone)
    # And the server's own hybrid query forgets to normalize when it is asked so.
    tokens = query_tokens(data.queries[:1], TOKENS)[0]
    sides = [neural_sparse_query(tokens, "embedding"), bodies[0]["query"]]
    processors = [{"normalization-processor": {"normalization": {"technique": "min_max"}}}]
    hybrid = {
        "query": {"hybrid": {"queries": sides}},
        "search_pipeline": {"phase_results_processors": processors},
    }
    ((_, first), *_), *_ = searched(client, "three", [hybrid], search_type="dfs_query_then_fetch")
    assert not 0 <= first <= 1


def test_approximate_search_finds_more_on_more_shards(indexes: dict[str, VectorIndex], data: Data) -> None:
    """Every shard has clusters of its own and looks into as many as one shard would; likewise two-phase search."""
    exact = [set(np.argsort(-row)[:10].tolist()) for row in (data.queries @ stored(data.vectors).T).toarray()]

    def recall(rankings: Rankings) -> float:
        pairs = zip(rankings, exact, strict=True)
        return float(np.mean([len({int(doc[1:]) for doc, _ in row} & best) for row, best in pairs]) / 10)

    few = SeismicSearch(top_n=3, heap_factor=0.5)
    found = {
        name: recall(indexes[f"{name}-clusters"].search(data.queries, 10, seismic=few))
        for name in ("one", "three")
    }
    assert found["one"] < found["three"] <= 1.0
    pipeline = {"enabled": True, "two_phase_parameter": {"prune_ratio": 0.4, "expansion_rate": 1.0}}
    client = indexes["one"].client
    processors = [{"neural_sparse_two_phase_processor": pipeline}]
    client.search_pipeline.put(id="narrow", body={"request_processors": processors})
    bodies = [
        {"size": 10, "_source": False, "query": neural_sparse_query(tokens, "embedding")}
        for tokens in query_tokens(data.queries, TOKENS)
    ]
    for name in ("one", "three"):
        found[name] = recall(searched(client, name, bodies, search_pipeline="narrow"))
    assert found["one"] < found["three"] < 1.0


# --- from here on, nodes are killed --------------------------------------------------------------------


@dataclass
class Killer:
    """Runs `kill` beside a client's bulk request of that number; keeps what the server acknowledged."""

    client: Any
    kill: Callable[[], object]
    at: int
    requests: int = 0
    acknowledged: set[str] = field(default_factory=set)
    threads: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.real = self.client.bulk

    def __call__(self, **arguments: Any) -> Any:
        self.requests += 1
        if self.requests == self.at:
            self.threads.append(threading.Thread(target=self.kill))
            self.threads[0].start()
        answer = self.real(**arguments)
        for item in answer["items"]:
            if item["index"]["status"] < 300:
                self.acknowledged.add(item["index"]["_id"])
        return answer

    def join(self) -> None:
        for thread in self.threads:
            thread.join()


def manager(cluster: Cluster, client: Any) -> Any:
    (row,) = client.cat.cluster_manager(format="json")
    return next(node for node in cluster.nodes if node.settings["node.name"] == row["node"])


def held(client: Any, index: str) -> set[str]:
    client.indices.refresh(index=index)
    hits = client.search(index=index, body={"size": DOCUMENTS, "_source": False})["hits"]["hits"]
    return {hit["_id"] for hit in hits}


@pytest.mark.slow
def test_a_node_is_killed_while_documents_are_loaded_and_searched(
    cluster: Cluster,
    client: Any,
    indexes: dict[str, VectorIndex],
    data: Data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The one that leads, too."""
    three, expected = indexes["three"], indexes["three"].search(data.queries, 10)
    loaded = VectorIndex.create(client, "loaded", TOKENS, names="plain", shards=3, replicas=1)
    # However long this takes, no copy moves to the nodes that are left.
    stay = {"index.unassigned.node_left.delayed_timeout": "1h"}
    client.indices.put_settings(index="loaded", body=stay)
    bare = VectorIndex.create(client, "bare", TOKENS, names="plain", shards=3)
    bare.add(data.vectors, IDS, show_progress=False)
    cluster.wait("green")
    done = threading.Event()
    answers: list[Any] = []

    def search() -> None:
        while not done.is_set():
            try:
                answers.append(three.search(data.queries, 10) == expected)
            except InputError as error:
                answers.append(error)

    searching = threading.Thread(target=search)
    searching.start()
    try:
        leader = manager(cluster, client)
        on_it = [
            row
            for row in client.cat.shards(index="bare", format="json")
            if row["node"] == leader.settings["node.name"]
        ]
        killer = Killer(client, leader.kill, at=3)
        monkeypatch.setattr(client, "bulk", killer)
        report = loaded.add(data.vectors, IDS, data.texts, settings=QUICK, show_progress=False)
        killer.join()
    finally:
        done.set()
        searching.join()
    assert (report.indexed, report.failed) == (DOCUMENTS, [])
    assert killer.acknowledged == held(client, "loaded") == set(IDS)
    assert_same(loaded.search(data.queries, 10), expected)
    # No search found less than there is without a word.
    assert [one for one in answers if one is not True and not isinstance(one, InputError)] == []
    assert answers.count(True) > 2
    assert three.search(data.queries, 10) == expected
    # Without copies, what the node held is missing until it comes back, and that is said.
    assert client.count(index="bare")["_shards"]["failed"] == 0
    said = f"{len(on_it)} of 3 shards did not answer, so what they hold is missing"
    for ask in (
        lambda: bare.search(data.queries, 10),
        lambda: bare.search_with_bm25(data.queries[:1], data.asks[:1]),
        lambda: len(bare),
    ):
        with pytest.raises(InputError, match=said):
            ask()
    with pytest.raises(InputError, match=r"document 'd\d+': No shard available"):
        bare.documents(IDS)
    # Loading into it stops where it has to, and goes on from there.
    once = BulkSettings(documents=60, retries=0, shard_wait=0.5)
    resume = tmp_path / "resume.json"
    with pytest.raises(InputError, match=r"primary shard is not active.*Nothing is lost"):
        bare.add(data.vectors, IDS, settings=once, show_progress=False)
    both = BulkSettings(documents=60, retries=0, shard_wait=0.5, copies=2)
    with pytest.raises(InputError, match=r"Not enough active copies to meet shard count of \[2\]"):
        loaded.add(data.vectors, IDS, resume=resume, settings=both, show_progress=False)
    assert loaded.add(data.vectors, IDS, resume=resume, settings=QUICK, show_progress=False).failed == []
    assert json.loads(resume.read_text())["done"] == DOCUMENTS


@pytest.mark.slow
def test_the_cluster_restarts_in_the_middle_of_loading(
    cluster: Cluster, client: Any, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All nodes are killed and started again; the index without copies is whole again, too."""
    cluster.start()  # those that were killed
    for name, replicas in (("restarted", 1), ("restarted-bare", 0)):
        index = VectorIndex.create(client, name, TOKENS, names="plain", shards=3, replicas=replicas)
        cluster.wait("green")

        def again() -> None:
            cluster.kill()
            cluster.start()

        killer = Killer(client, again, at=4)
        monkeypatch.setattr(client, "bulk", killer)
        patient = BulkSettings(documents=60, retries=200, first_wait=0.5, longest_wait=2.0, shard_wait=2.0)
        report = index.add(data.vectors, IDS, data.texts, settings=patient, show_progress=False)
        killer.join()
        monkeypatch.undo()
        cluster.wait("green")
        assert (report.indexed, report.failed) == (DOCUMENTS, [])
        assert report.retries > 0
        assert killer.acknowledged == held(client, name) == set(IDS)
