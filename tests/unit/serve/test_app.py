"""What the server answers, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served import Client, running

from neural_sparse import InputError, NeuralSparseEncoder
from neural_sparse.corpora.collection import Collection
from neural_sparse.search import changes
from neural_sparse.search.changes import changing
from neural_sparse.search.encode_corpus import encode_corpus
from neural_sparse.search.encoded import EncodedCollection
from neural_sparse.search.fusion import fused
from neural_sparse.search.updating import DocumentModel
from neural_sparse.serve import Judgements, System, bm25_system, changing_system, encoded_system, make_app
from neural_sparse.serve.requests import Search, answer
from neural_sparse.serve.run import _is_loopback, _listen, _named, serve

QUERY = "sorted list of files"


@pytest.fixture(scope="module")
def systems(encoded: Path) -> list[System]:
    student = encoded_system("student", encoded)
    return [student, bm25_system(student)]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("judged") / "mine"


@pytest.fixture(scope="module")
def ask(systems: list[System], judged: Path, documents: list[dict[str, Any]]) -> Iterator[Client]:
    texts = [(row["_id"], row["text"]) for row in documents]
    kept = Judgements(judged, lambda: texts)
    with running(make_app(systems, judgements=kept, hosts=["127.0.0.1"])) as client:
        yield client


def test_hits_are_those_of_the_index(ask: Client, encoded: Path) -> None:
    collection = EncodedCollection(encoded)
    hits = collection.search_texts([QUERY], 7)
    status, found = ask.post("/search", query=QUERY, k=7)
    assert status == 200
    assert [hit["id"] for hit in found["hits"]] == hits.ids()[0]
    np.testing.assert_allclose([hit["score"] for hit in found["hits"]], hits.scores[0], rtol=1e-6)
    vector = collection.encode_queries([QUERY])
    assert found["postings"] == collection.index.posting_lengths[vector.indices].sum()
    tokens = {one["token"]: one["weight"] for one in found["query_tokens"]}
    again = ask.post("/search", query_tokens=tokens, k=7)[1]
    assert [hit["id"] for hit in again["hits"]] == hits.ids()[0]
    assert ask.post("/encode/query", query=QUERY)[1]["tokens"] == found["query_tokens"]
    unlike = {token: 1.5 + place % 3 for place, token in enumerate(tokens)}
    shown = [one["weight"] for one in ask.post("/search", query_tokens=unlike)[1]["query_tokens"]]
    assert shown == sorted(unlike.values(), reverse=True)
    assert len({*shown}) > 1
    first = hits.ids()[0][0]
    assert first not in [
        hit["id"] for hit in ask.post("/search", query=QUERY, without=[first, "?"])[1]["hits"]
    ]


def test_a_document_in_passages_is_a_hit_with_the_snippet_of_its_best(model: str, tmp_path: Path) -> None:
    words = ["open a file", "sorted list of items", "watch the lazy dog"]
    long = " ".join(f"{words[n % 3]} {n}." for n in range(40))
    rows = [{"_id": "long", "text": long}, {"_id": "short", "text": "a list"}]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    encode_corpus(model, tmp_path / "corpus.jsonl", tmp_path / "index", passages=24, show_progress=False)
    system = encoded_system("passages", tmp_path / "index")
    found = system.search(Search(query="sorted list", explain=True, texts=True))
    assert sorted(hit["id"] for hit in found["hits"]) == ["long", "short"]
    for hit in found["hits"]:
        snippet = "".join(part for part, _ in hit["snippet"]["pieces"])
        assert hit["text"] == {row["_id"]: row["text"] for row in rows}[hit["id"]]
        assert snippet in hit["text"]
        assert sum(one["contribution"] for one in hit["matched"]) == pytest.approx(hit["score"], rel=1e-3)
        if hit["id"] == "long":
            assert len(snippet) < 200
            assert "sorted list" in snippet
            assert hit["snippet"]["before"] or hit["snippet"]["after"]
    shown = system.document("long", "sorted list")
    assert "".join(part for part, _ in shown["text"]) == rows[0]["text"]
    assert system.describe()["documents"] == 2


@pytest.mark.parametrize("index", ["student", "bm25"])
def test_what_matched_adds_up_to_the_score_and_pieces_to_the_text(
    ask: Client, documents: list[dict[str, Any]], index: str
) -> None:
    _, found = ask.post("/search", query=QUERY, index=index, explain=True, texts=True)
    by_id = {row["_id"]: row["text"] for row in documents}
    assert found["hits"]
    for hit in found["hits"]:
        assert hit["text"] == by_id[hit["id"]]
        assert sum(one["contribution"] for one in hit["matched"]) == pytest.approx(hit["score"], rel=1e-3)
        assert (
            "".join(part for part, _ in hit["snippet"]["pieces"]) == hit["text"]
        )  # short ones are shown whole
        highlighted = [part for part, weight in hit["snippet"]["pieces"] if weight]
        assert bool(highlighted) == any(one["in_text"] for one in hit["matched"])
        if index == "bm25":
            assert hit["expansion"] == []
        status, whole = ask("GET", f"/document?index={index}&id={hit['id']}&query=sorted%20list%20of%20files")
        assert status == 200
        assert "".join(part for part, _ in whole["text"]) == hit["text"]
        assert {one["token"] for one in whole["vector"] if one["matched"]} == {
            one["token"] for one in hit["matched"]
        }


@pytest.mark.parametrize("index", ["student", "bm25"])
def test_filters(ask: Client, documents: list[dict[str, Any]], index: str) -> None:
    metadata = {row["_id"]: row["metadata"] for row in documents}
    everything = [hit["id"] for hit in ask.post("/search", query=QUERY, k=60, index=index)[1]["hits"]]
    filters = {"year": {"gte": 2003, "lt": 2008}, "tags": ["even", "other"]}
    found = ask.post("/search", query=QUERY, k=60, index=index, filters=filters, texts=True)[1]["hits"]
    assert [hit["id"] for hit in found] == [
        one for one in everything if 2003 <= metadata[one]["year"] < 2008 and "even" in metadata[one]["tags"]
    ]
    assert found
    assert all(hit["metadata"] == metadata[hit["id"]] for hit in found)


@pytest.mark.parametrize("method", ["rrf", "minmax", "sum"])
def test_fused_hits(ask: Client, method: str) -> None:
    rankings = []
    for index in ("student", "bm25"):
        hits = ask.post("/search", query=QUERY, k=100, index=index)[1]["hits"]
        rankings.append({hit["id"]: hit["score"] for hit in hits})
    how = {"index": "bm25", "method": method, "weight": 0.3}
    found = ask.post("/search", query=QUERY, k=12, fuse=how, explain=True)[1]["hits"]
    expected = list(fused(rankings, method, [0.3, 0.7]).items())[:12]
    assert [(hit["id"], hit["score"]) for hit in found] == [
        (one, pytest.approx(score)) for one, score in expected
    ]
    assert all(hit["scores"] == [ranking.get(hit["id"]) for ranking in rankings] for hit in found)
    assert all("snippet" in hit for hit in found)


def test_documents_under_any_id_and_of_any_text(ask: Client) -> None:
    assert ask("GET", "/document?id=../../etc/passwd")[0] == 200
    assert ask("GET", "/document?id=../../etc/shadow")[0] == 404
    assert ask("GET", "/static/../app.py")[0] == 404
    assert "<script>" in json.dumps(
        ask("GET", "/document?id=d3")[1]["text"]
    )  # text in JSON: the page makes no markup
    assert ask.headers["content-type"] == "application/json"


REFUSED: Sequence[tuple[str, Any, int, str]] = [
    ("/search", b'{"query": ', 422, "Invalid JSON"),
    ("/search", b"\xff\xfe", 422, ""),
    ("/search", b"[" * 100_000, 422, ""),
    ("/search", {"query": "a", "depth": 3}, 422, "depth: .*there are query, query_tokens, index, k"),
    ("/search", {"query": "a", "k": 0}, 422, "k: .*greater than or equal to 1"),
    ("/search", {"query": "a", "k": 1_000_000}, 422, "k: .*less than or equal to 1000"),
    ("/search", {"query": "a", "k": "10"}, 422, "k: "),
    ("/search", {}, 422, "give either query or query_tokens"),
    ("/search", {"query": "a", "query_tokens": {"sort": 1}}, 422, "give either query or query_tokens"),
    ("/search", {"query_tokens": {"no such token": 1}}, 422, "'no such token' is no token of student"),
    ("/search", {"query_tokens": {"sort": -1}}, 422, "query_tokens.sort: "),
    ("/search", {"query_tokens": {"sort": 1e9}}, 422, "query_tokens.sort: "),
    ("/search", {"query": "x" * 20_000}, 422, "query: .*at most 10000 characters"),
    ("/search", {"query": "x" * 10_000_000}, 413, "at most 262,144 bytes"),
    ("/search", {"query": "a", "filters": {"size": 1}}, 422, "no field 'size'; there are year, tags"),
    ("/search", {"query": "a", "filters": {"year": "2000"}}, 422, "year is a number"),
    ("/search", {"query": "a", "filters": {"year": {"from": 1}}}, 422, "a range is an object with gte"),
    ("/search", {"query": "a", "fuse": {"index": "nobody"}}, 404, "there are student, bm25"),
    ("/search", {"query": "a", "fuse": {"index": "bm25", "method": "product"}}, 422, "fuse.method: "),
    ("/search", {"query_tokens": {"sort": 1}, "fuse": {"index": "bm25"}}, 422, "cannot be fused"),
    ("/search", {"query": "a", "index": "nobody"}, 404, "there are student, bm25"),
    ("/encode/documents", {"texts": ["a"]}, 422, "start it with --model"),
    ("/documents", {"documents": [{"id": "a", "text": "b"}]}, 422, "student does not change; .*--model MODEL"),
    ("/documents", {"documents": [{"id": "", "text": "b"}]}, 422, r"documents\.0\.id: "),
    ("/documents", {"documents": [{"id": "a"}]}, 422, r"documents\.0\.text: "),
    ("/documents", {"documents": []}, 422, "documents: "),
    ("/judgements", {"query": "a", "id": "nobody", "relevant": True}, 404, "no document with this id"),
    ("/judgements", {"query": "a", "id": "d1"}, 422, "relevant: "),
    ("/judgements", {"query": "  ", "id": "d1", "relevant": True}, 422, "an empty query"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "status", "reason"), REFUSED)
def test_refused_with_a_reason(ask: Client, path: str, body: Any, status: int, reason: str) -> None:
    answer = ask("POST", path, body)
    assert answer[0] == status, answer
    assert re.search(reason, answer[1]["error"]), answer
    assert len(answer[1]["error"]) < 500
    assert ask("GET", "/healthz") == (200, {"status": "ok"})


def test_what_other_sites_send_is_refused(ask: Client) -> None:
    body = json.dumps({"query": "a"}).encode()
    assert ask("POST", "/search", body, {"Content-Type": "text/plain"})[0] == 415
    assert ask("POST", "/search", body, {"Origin": "https://elsewhere.example"})[0] == 403
    assert ask("GET", "/indexes", headers={"Host": "elsewhere.example"})[0] == 403
    assert ask("POST", "/search", body, {"Origin": f"http://127.0.0.1:{ask.port}"})[0] == 200
    for header in ("Host", "Origin"):
        for value in ("[::1", "http://[", "null"):
            assert ask("POST", "/search", body, {header: value})[0] == 403
    assert ask("GET", "/nowhere")[0] == 404
    assert ask("DELETE", "/search")[0] == 405


def test_pages_come_without_anything_from_elsewhere(ask: Client) -> None:
    for path in ("/", "/docs", "/static/page.js", "/static/page.css", "/static/docs.js"):
        status, content = ask("GET", path)
        assert status == 200
        assert b"://" not in content
        assert "default-src 'self'" in ask.headers["content-security-policy"]


def test_described(ask: Client, encoded: Path) -> None:
    _, about = ask("GET", "/indexes")
    student, bm25 = about["indexes"]
    assert (student["name"], student["documents"], student["kind"]) == ("student", 60, "model")
    assert (bm25["name"], bm25["documents"], bm25["kind"]) == ("bm25", 60, "bm25")
    _, openapi = ask("GET", "/openapi.json")
    assert {"/search", "/encode/query", "/document", "/metrics"} <= set(openapi["paths"])
    assert openapi["components"]["schemas"]["Search"]["properties"]["k"]["maximum"] == 1000


def test_metrics(ask: Client) -> None:
    ask.post("/search", query=QUERY)
    ask.post("/search", query=QUERY, k=0)
    text = ask("GET", "/metrics")[1].decode()
    assert 'neural_sparse_request_seconds_bucket{le="0.005",path="/search"}' in text
    assert 'neural_sparse_answers_total{path="/search",status="422"}' in text
    assert 'neural_sparse_documents{index="student"} 60.0' in text
    assert 'neural_sparse_search_seconds_count{index="student"}' in text


def test_judgements_are_a_collection(ask: Client, judged: Path, documents: list[dict[str, Any]]) -> None:
    assert ask.post("/judgements", query=QUERY, id="d1", relevant=True)[1]["judgements"] == {"d1": 1}
    assert ask.post("/judgements", query=QUERY, id="d2", relevant=True)[0] == 200
    assert ask.post("/judgements", query=QUERY, id="d2", relevant=False)[0] == 200
    assert ask.post("/judgements", query="naïve café", id="../../etc/passwd", relevant=True)[0] == 200
    assert ask.post("/judgements", query="another", id="d5", relevant=True)[0] == 200
    assert ask.post("/judgements", query="another", id="d5", relevant=None)[1]["judgements"] == {}
    assert ask("GET", "/judgements?query=sorted%20list%20of%20files")[1]["judgements"] == {"d1": 1, "d2": 0}
    collection = Collection.load(judged)
    assert collection.doc_ids == [row["_id"] for row in documents]
    assert {collection.queries[key]: grades for key, grades in collection.qrels.items()} == {
        QUERY: {"d1": 1, "d2": 0},
        "naïve café": {"../../etc/passwd": 1},
    }
    again = Judgements(judged, lambda: [])
    assert again.of(QUERY) == {"d1": 1, "d2": 0}
    assert again.count() == (2, 3)


def test_with_a_key(systems: list[System]) -> None:
    with running(make_app(systems, key="geheim")) as ask:
        body = json.dumps({"query": "a"}).encode()
        for headers in (
            {},
            {"Authorization": "Bearer nein"},
            {"X-API-Key": "geheim "},
            {"Authorization": "Basic geheim"},
        ):
            status, answer = ask("POST", "/search", body, headers)
            assert (status, answer["error"][:20]) == (401, "an API key is needed")
        assert (
            ask("GET", "/indexes")[0] == ask("GET", "/metrics")[0] == ask("GET", "/document?id=d1")[0] == 401
        )
        assert ask("POST", "/search", body, {"Authorization": "Bearer geheim"})[0] == 200
        assert ask("POST", "/search", body, {"X-API-Key": "geheim"})[0] == 200
        assert ask("GET", "/")[0] == ask("GET", "/healthz")[0] == 200


def test_a_key_of_any_letters_is_taken_as_clients_send_it(systems: list[System]) -> None:
    """curl sends UTF-8, browsers and Python's http.client Latin-1."""
    with running(make_app(systems, key="schlüssel")) as ask:
        for sent, status in ((b"schl\xc3\xbcssel", 200), (b"schl\xfcssel", 200), (b"schl\xffssel", 401)):
            as_text = sent.decode("latin-1")
            assert ask("GET", "/indexes", headers={"X-API-Key": as_text})[0] == status
            assert ask("GET", "/indexes", headers={"Authorization": f"Bearer {as_text}"})[0] == status


def test_more_than_can_wait_are_refused_and_those_that_wait_are_answered(encoded: Path) -> None:
    system = encoded_system("student", encoded)
    begun, go = threading.Semaphore(0), threading.Event()
    whole = system.encode

    def slow(texts: Sequence[str]) -> Any:
        begun.release()
        go.wait(60)
        return whole(texts)

    system.encode = slow
    with running(make_app([system], workers=1, queue=1)) as ask:
        answers: list[int] = []
        threads = [
            threading.Thread(target=lambda: answers.append(ask.post("/search", query=QUERY)[0]))
            for _ in range(2)
        ]
        threads[0].start()
        begun.acquire()  # it runs; the next one waits
        threads[1].start()
        while b'neural_sparse_waiting{pool="search"} 1.0' not in ask("GET", "/metrics")[1]:
            pass
        status, answer = ask.post("/search", query=QUERY)
        assert (status, answer["error"]) == (429, "1 requests are waiting already; ask again later")
        assert ask("GET", "/healthz")[0] == 200  # the loop goes on
        go.set()
        for thread in threads:
            thread.join()
        assert answers == [200, 200]


def test_searches_that_wait_are_answered_together_and_each_as_if_alone(
    encoded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neural_sparse.serve.pool.SECONDS", 60.0)  # the first loads what is compiled
    system = encoded_system("student", encoded)
    begun, go = threading.Semaphore(0), threading.Event()
    whole, together = system.encode, []

    def slow(texts: Sequence[str]) -> Any:
        together.append(list(texts))
        begun.release()
        go.wait(60)
        return whole(texts)

    tokens = [one["token"] for one in system.tokens(system.query(QUERY))]
    asked: list[dict[str, Any]] = [
        {"query": QUERY},
        {"query": "naïve café", "k": 3},
        {"query_tokens": {tokens[0]: 1.5, tokens[1]: 0.5}},
        {"query": "open a file"},
        {"query_tokens": {tokens[2]: 2, tokens[0]: 0}},
        {"query_tokens": {"no such token": 1}},
        {"query": ""},
        {"query": QUERY, "explain": True},
    ]
    with running(make_app([system], workers=1)) as ask:
        system.encode = slow
        answers: dict[int, tuple[int, Any]] = {}
        threads = [threading.Thread(target=ask.post, args=("/search",), kwargs={"query": "first"})]
        threads[0].start()
        begun.acquire()  # it runs; the others wait

        def one(number: int) -> None:
            answers[number] = ask.post("/search", **asked[number])

        for number in range(len(asked)):
            threads.append(threading.Thread(target=one, args=(number,)))
            threads[-1].start()
            waiting = f'neural_sparse_waiting{{pool="search"}} {number + 1}.0'.encode()
            while waiting not in ask("GET", "/metrics")[1]:
                pass
        go.set()
        for thread in threads:
            thread.join()
        assert [QUERY, "open a file", ""] in together
        system.encode = whole
        for number, request in enumerate(asked):
            status, alone = ask.post("/search", **request)
            assert status == (422 if number == 5 else 200)
            assert answers[number][0] == status
            assert answers[number][1] | {"milliseconds": 0} == alone | {"milliseconds": 0}
        postings = [answers[number][1]["postings"] for number in (0, 3, 4)]
        assert len(set(postings)) == 3


def test_answers_are_sent_at_once() -> None:
    """Not kept back until the client acknowledges what came before, which takes it 40 ms."""

    class Connection(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            options = transport.get_extra_info("socket")
            no_delay.set_result(options.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            transport.close()

    async def connect() -> int:
        server = await asyncio.get_running_loop().create_server(Connection, sock=listening)
        _, writer = await asyncio.open_connection(*listening.getsockname())
        found = await no_delay
        writer.close()
        server.close()
        return found

    with _listen("127.0.0.1", 0) as listening, asyncio.Runner() as runner:
        no_delay: asyncio.Future[int] = runner.get_loop().create_future()
        assert runner.run(connect())


def test_half_a_surrogate_pair_is_answered() -> None:
    assert json.loads(answer({"text": "a\ud83d", "big": 1 << 70})) == {"text": "a?", "big": 1 << 70}


def test_encodes_documents(systems: list[System], model: str) -> None:
    from neural_sparse.serve.run import _documents

    with running(make_app(systems, encode=_documents(DocumentModel(model)))) as ask:
        status, found = ask.post("/encode/documents", texts=["sort a list", ""])
        assert status == 200
        encoder = NeuralSparseEncoder(model)
        expected = dict(encoder.top_terms(encoder.encode_documents(["sort a list"])))
        assert {one["token"]: one["weight"] for one in found["documents"][0]} == pytest.approx(
            expected, rel=1e-3
        )
        assert ask.post("/encode/documents", texts=[])[0] == 422
        assert ask.post("/encode/documents", texts=["a"] * 65)[0] == 422


def test_documents_come_and_go(
    encoded: Path,
    model: str,
    tmp_path: Path,
    documents: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(encoded, tmp_path / "student")
    with changing(tmp_path / "student") as collection:
        encode = DocumentModel(model).encode_for(collection.collection.about, tmp_path)
        with running(make_app([changing_system("student", collection, encode)])) as ask:
            new = [
                {"id": "n1", "text": "a stream of cats", "title": "Cats"},
                {"id": "d1", "text": "quick foxes"},
                {"id": "d2", "text": documents[2]["text"], "metadata": documents[2]["metadata"]},
            ]
            status, answer = ask.post(
                "/documents", documents=[{"id": "n0", "text": "a", "metadata": {"size": 1}}]
            )
            assert (status, "no field 'size'" in answer["error"]) == (422, True)
            status, done = ask.post("/documents", documents=new)
            assert (status, done["added"], done["replaced"], done["unchanged"]) == (200, 1, 1, 1)
            assert done["documents"] == 61
            assert ask("DELETE", "/documents", {"ids": ["d3", "d3", "?"]})[1] | {"generation": 0} == {
                "added": 0, "replaced": 0, "unchanged": 0, "deleted": 1, "missing": 1, "generation": 0, "documents": 60
            }  # fmt: skip
            assert ask("GET", "/document?id=n1")[1]["text"] == [["Cats a stream of cats", 0.0]]
            assert ask("GET", "/document?id=d3")[0] == 404
            status, answer = ask.post("/documents", documents=[*new, new[0]])
            assert (status, answer["error"]) == (422, "document id 'n1' occurs twice, in rows 0 and 3")

            def full(*_: object, **__: object) -> None:
                raise OSError(28, "No space left on device")

            with monkeypatch.context() as patch:
                patch.setattr(changes, "write_texts", full)
                status, answer = ask.post("/documents", documents=[{"id": "n2", "text": "never"}])
            assert (status, "No space left" in answer["error"]) == (507, True)
            assert ask("GET", "/document?id=n2")[0] == 404
            after = [hit["id"] for hit in ask.post("/search", query=QUERY, k=60)[1]["hits"]]
    fresh = EncodedCollection(tmp_path / "student")
    assert after == fresh.snapshot.search(fresh.encode_queries([QUERY]), 60).ids()[0]
    texts = {row["_id"]: row["text"] for row in documents}
    texts |= {"n1": "Cats a stream of cats", "d1": "quick foxes"}
    del texts["d3"]
    rows = fresh.snapshot.rows().tolist()
    assert {fresh.snapshot.doc_id(row): fresh.snapshot.text(row) for row in rows} == texts
    expected = NeuralSparseEncoder(model).encode_documents([fresh.snapshot.text(row) for row in rows])
    np.testing.assert_allclose(fresh.snapshot.vectors(rows).toarray(), expected.toarray(), atol=2e-5)


WITHOUT_A_MODEL = """
import sys
from contextlib import ExitStack
from pathlib import Path
from neural_sparse.serve.app import make_app
from neural_sparse.serve.requests import Search, answer
from neural_sparse.serve.run import _systems
with ExitStack() as stack:
    system = _systems({"x": Path(sys.argv[1])}, None, True, stack)[0]
    make_app([system])
    hits = system.search(Search(query="sorted list of files", explain=True))["hits"]
print(len(hits), *(name for name in ("torch", "transformers", "bm25s") if name in sys.modules))
"""


def test_a_server_without_a_model_takes_no_torch(encoded: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_A_MODEL, str(encoded)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["10"]


def test_started_badly(
    encoded: Path,
    model: str,
    tiny_model: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other_model = tiny_model("distilbert")
    monkeypatch.delenv("NEURAL_SPARSE_API_KEY", raising=False)
    with pytest.raises(InputError, match="put a key into the environment variable NEURAL_SPARSE_API_KEY"):
        serve([str(encoded)], host="0.0.0.0")
    with pytest.raises(InputError, match="two indexes are called student"):
        serve([str(encoded), str(encoded)], port=0)
    with pytest.raises(InputError, match="no encoded collection"):
        serve([str(tmp_path)], port=0)
    with pytest.raises(InputError, match=r"another model than|holds vectors of"):
        serve([str(encoded)], port=0, model=str(other_model))
    damaged = tmp_path / "damaged"
    shutil.copytree(encoded, damaged)
    texts = damaged / "texts.bin"
    texts.write_bytes(texts.read_bytes()[::-1])
    with pytest.raises(InputError, match=r"texts\.bin is damaged"):
        serve([str(encoded), str(damaged)], port=0)
    tokenizer = damaged / "tokenizer.json"
    content = tokenizer.read_text()
    tokenizer.write_text(content.replace('"list"', '"tsil"', 1))
    with pytest.raises(InputError, match="count in another vocabulary than the tokenizer"):
        serve([str(damaged)], port=0, verify=False)
    with changing(encoded), pytest.raises(InputError, match="another process is at work"):
        serve([str(encoded)], port=0, model=model)
    with pytest.raises(InputError, match="name it otherwise"):
        serve([f"bm25={encoded}"], port=0, bm25=True)
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\thalf\n")
    with pytest.raises(InputError, match=r"test\.tsv, line 2"):
        serve([str(encoded)], port=0, judgements=tmp_path)
    with pytest.raises(InputError, match="is no name of a file"):
        serve([str(encoded)], port=0, judgements=tmp_path, split="../test")
    assert _named([f"a={encoded}", str(encoded)]) == {"a": encoded, "student": encoded}
    assert [_is_loopback(host) for host in ("localhost", "127.9.9.9", "::1", "0.0.0.0", "example.org")] == [
        True, True, True, False, False
    ]  # fmt: skip


def test_a_siamese_models_queries_are_encoded(
    model: str, documents: list[dict[str, Any]], tmp_path: Path
) -> None:
    siamese = NeuralSparseEncoder(model, 32, query_encoder="shared", device="cpu")
    siamese.save_pretrained(str(tmp_path / "model"))
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, documents)))
    encode_corpus(str(tmp_path / "model"), tmp_path / "corpus.jsonl", tmp_path / "index", show_progress=False)
    scores = (
        siamese.encode_documents([row["text"] for row in documents]) @ siamese.encode_queries([QUERY]).T
    ).toarray()
    changer = DocumentModel(str(tmp_path / "model"))
    with changing(tmp_path / "index") as collection:
        encode = changer.encode_for(collection.collection.about, tmp_path / "index")
        system = changing_system("siamese", collection, encode)
        assert system.describe()["query_encoder"] == "shared"
        with running(make_app([system])) as ask:
            status, found = ask.post("/search", query=QUERY, k=3)
            assert status == 200
            best = np.argsort(-scores[:, 0], kind="stable")[:3]
            assert [hit["id"] for hit in found["hits"]] == [documents[row]["_id"] for row in best]
            np.testing.assert_allclose([hit["score"] for hit in found["hits"]], scores[best, 0], rtol=1e-5)
            assert len(found["query_tokens"]) == siamese.encode_queries([QUERY]).nnz
            status, answered = ask.post("/documents", documents=[{"id": "new", "text": QUERY}])
            assert (status, answered["added"]) == (200, 1)
            _, again = ask.post("/search", query=QUERY, k=61, explain=True)
            assert "new" in [hit["id"] for hit in again["hits"]]
