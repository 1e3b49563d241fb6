"""Endpoints that go wrong: a small server on loopback does each thing that real ones do on a bad day."""

from __future__ import annotations

import json
import logging
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import make_tokenizer

from neural_sparse.config import TeacherConfig, recipe_from_dict, recipe_to_dict
from neural_sparse.data.training_set import TrainingSet
from neural_sparse.errors import InputError
from neural_sparse.mining import Sources
from neural_sparse.teachers.builder import TeacherBuilder
from neural_sparse.teachers.cache import TeacherCache
from neural_sparse.teachers.endpoint import PROBE, PROBE_PAIR
from neural_sparse.teachers.teach import needs_of
from neural_sparse.training.inputs import check_endpoints
from neural_sparse.training.train import train

pytest.importorskip("httpx2")
KEY = "sk-never-shown-123"
TEXTS = [f"text number {number} of a small corpus" for number in range(10)]


class Server:
    """An API of embeddings and reranking whose faults are chosen by the test.

    Attributes:
        asked: texts of every request that was answered well, probes left out.
        fault: called with the number of the request and its body; gives (status, headers, body) or None.
        change: changes a good answer.
    """

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.keys: set[str | None] = set()
        self.fault: Callable[[int, dict[str, Any]], Any] = lambda number, body: None
        self.change: Callable[[Any], Any] = lambda answer: answer
        self.salt, self.width, self.requests = 0, 8, 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.keys.add(self.headers.get("Authorization"))
                outer.requests += 1
                found = outer.fault(outer.requests, body)
                if found is None:
                    make = outer.embeddings if self.path.endswith("/embeddings") else outer.scores
                    found = 200, {}, json.dumps(outer.change(make(body)))
                status, headers, text = found
                content = text.encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def vector(self, text: str) -> list[float]:
        drawn = np.random.default_rng([zlib.crc32(text.encode()), self.salt]).standard_normal(self.width)
        return [float(value) for value in drawn]

    def embeddings(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["input"] != [PROBE]:
            self.asked.append(body["input"])
        data = [{"index": at, "embedding": self.vector(text)} for at, text in enumerate(body["input"])]
        usage = {"total_tokens": sum(len(text.split()) for text in body["input"])}
        return {"data": data[::-1], "model": f"served-{self.salt}", "usage": usage}

    def scores(self, body: dict[str, Any]) -> Any:
        texts = body.get("documents") or body["texts"]
        if body["query"] != PROBE_PAIR[0]:
            self.asked.append(texts)
        made = [
            (at, float(zlib.crc32((body["query"] + text).encode()) % 1000)) for at, text in enumerate(texts)
        ]
        if "texts" in body:
            return [{"index": at, "score": score} for at, score in made[::-1]]
        return {"results": [{"index": at, "relevance_score": score} for at, score in made[::-1]]}


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def teacher(server: Server, kind: Any = "endpoint", **values: Any) -> Any:
    values = {"batch_size": 4, "concurrency": 1, "timeout": 5.0, **values}
    return TeacherBuilder().teacher(TeacherConfig(kind, "m", url=server.url, **values))


def prepared(server: Server, cache: TeacherCache | None = None, **values: Any) -> Any:
    return teacher(server, **values).prepare(TEXTS[:2], TEXTS, None, cache or TeacherCache())


def test_vectors_by_place_each_text_once_and_the_cost_first(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    with caplog.at_level(logging.INFO):
        first = prepared(server, TeacherCache(cache), concurrency=3, price_per_million_tokens=20)
    expected = np.array([server.vector(text) for text in TEXTS])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(first.document_vectors(), expected, atol=1e-3)  # float16; answered in reverse order
    assert sorted(chain(*server.asked)) == sorted(TEXTS)  # queries are among the documents: asked once
    assert "2 texts to ask for, about 14 tokens, cost less than 0.01 at 20 per million" in caplog.text
    asked = server.requests
    again = prepared(server, TeacherCache(cache))
    assert server.requests == asked  # not even the probe
    assert (again.document_vectors() == first.document_vectors()).all()


def test_a_run_that_broke_off_asks_only_for_the_rest(server: Server, tmp_path: Path) -> None:
    server.fault = lambda number, body: (500, {}, "gone") if number > 4 else None
    with pytest.raises(InputError, match=r"answered 500 \(gone\), tried once; .*the same command goes on"):
        prepared(server, TeacherCache(tmp_path), retries=0)
    done = len(server.asked)
    assert done == 2  # the queries, and a batch of documents; a probe before each
    server.fault = lambda number, body: None
    prepared(server, TeacherCache(tmp_path))
    assert sorted(chain(*server.asked)) == sorted(TEXTS)


def test_busy_servers_are_tried_again_when_they_say(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.fault = lambda number, body: (
        (429, {"Retry-After": "0.3"}, json.dumps({"error": {"message": f"slow down {KEY}"}}))
        if number == 2
        else None
    )
    started = time.monotonic()
    with caplog.at_level(logging.INFO), pytest.MonkeyPatch.context() as patch:
        patch.setenv("OUR_KEY", KEY)
        prepared(server, api_key_env="OUR_KEY")
        assert time.monotonic() - started >= 0.3
        assert server.keys == {f"Bearer {KEY}"}
        assert "answered 429 (slow down ***); again in 0.3 s" in caplog.text
        assert KEY not in caplog.text
        server.fault = lambda number, body: (429, {"Retry-After": "9999"}, "")
        with pytest.raises(InputError, match=r"429 and asks to wait 9,999 seconds: its quota"):
            prepared(server)


def test_requests_keep_to_the_limit(server: Server) -> None:
    started = time.monotonic()
    prepared(server, requests_per_minute=1200, concurrency=4)
    assert time.monotonic() - started >= (server.requests - 1) * 0.05


def _first(key: str, value: Any) -> Callable[[Any], Any]:
    def change(answer: Any) -> Any:
        answer["data"][0][key] = value
        return answer

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_first("embedding", [1.0] * 7 + [float("nan")]), r"NaN or infinite values came for the text"),
        (_first("embedding", [None] * 8), r"NaN or infinite|no list of numbers"),
        (_first("embedding", [0.0] * 8), r"a vector of zeros came for the text"),
        (_first("embedding", "AAAA!"), r"no list of numbers"),
        (_first("embedding", [1.0] * 5), r"vectors of 5(, 8)? dimensions came, not of \d|vectors of 5"),
        (_first("index", 77), r"places that are none"),
        (lambda answer: {**answer, "data": answer["data"][1:]}, r"0 vectors came for 1 texts"),
        (lambda answer: {"object": "list"}, r"has no list `data`"),
    ],
)
def test_answers_that_are_none(server: Server, change: Callable[[Any], Any], message: str) -> None:
    server.change = change
    with pytest.raises(InputError, match=message):
        prepared(server, dimensions=8)


@pytest.mark.parametrize(
    ("fault", "values", "message"),
    [
        (
            (200, {"Content-Type": "text/html"}, "<html>Log in</html>"),
            {},
            r"text/html .* \(<html>Log in</html>\)",
        ),
        ((401, {}, '{"error": {"message": "bad key"}}'), {}, r"401 \(bad key\); is the key"),
        ((404, {}, '{"detail": "Not Found"}'), {}, r"404 .*base of an API"),
        ((400, {}, '{"message": "input is too long"}'), {}, r"400 \(input is too long\); .*max_characters"),
        ((302, {"Location": "http://other/"}, ""), {}, r"answered 302"),
    ],
)
def test_refusals(server: Server, fault: Any, values: dict[str, Any], message: str) -> None:
    server.fault = lambda number, body: fault
    with pytest.raises(InputError, match=message):
        prepared(server, **values)
    assert server.requests == 1  # not tried again


def test_slow_down_and_away(server: Server) -> None:
    server.fault = lambda number, body: time.sleep(0.5)
    with pytest.raises(InputError, match=r"no answer within 0.1 seconds, tried once; raise timeout"):
        prepared(server, timeout=0.1, retries=0)
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(InputError, match=r"nothing answers at .*is the server running"):
        prepared(server)


def test_a_missing_key_is_told_before_a_request(server: Server) -> None:
    with pytest.raises(InputError, match=r"variable NO_SUCH_KEY \(api_key_env\) is not set"):
        prepared(server, api_key_env="NO_SUCH_KEY")
    keyless = teacher(server, api_key_env="NO_SUCH_KEY")
    with pytest.raises(InputError, match="NO_SUCH_KEY"):
        needs_of([keyless], TEXTS[:1], TEXTS, pairs=np.empty((0, 2), np.int64), cache=TeacherCache())
    assert server.requests == 0


def test_another_model_behind_the_name(server: Server, tmp_path: Path) -> None:
    prepared(server, TeacherCache(tmp_path))
    server.salt = 1
    with pytest.raises(InputError, match=r"another model .*cosine .*Before: served-0 at .*now: served-1 at"):
        teacher(server).prepare(["new"], TEXTS, None, TeacherCache(tmp_path))
    server.salt, server.width = 0, 9
    with pytest.raises(InputError, match=r"its vectors have 9 dimensions, and had 8"):
        teacher(server).prepare(["new"], TEXTS, None, TeacherCache(tmp_path))
    assert KEY not in (next(tmp_path.iterdir()) / "probe.json").read_text()


def test_long_texts_are_cut_and_counted(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    cut = teacher(server, max_characters=6, query_prompt="query: ", query_input_type="query")
    cut.prepare(["a longer query"], ["short", "much too long"], None, TeacherCache())
    assert server.asked[1:] == [["query: a long"], ["much t", "short"]]  # after the probe with its prompt
    assert "1 of 2 texts are beyond max_characters=6 and are cut there" in caplog.text


def test_texts_are_cut_at_tokens_of_the_models_own_tokenizer(server: Server, tmp_path: Path) -> None:
    make_tokenizer("bert").save_pretrained(tmp_path / "tokenizer")
    limits = {"max_tokens": 6, "tokenizer": str(tmp_path / "tokenizer"), "document_prompt": "read "}
    documents = ["list list list", "list list list list", "café x " * 3]
    cut = teacher(server, **limits)
    cut.prepare(["list"], documents, None, TeacherCache())
    # [CLS] read + three words [SEP]; "read" and "é" are letters of their own.
    tokenizer = make_tokenizer("bert")
    sent = server.asked[-1]
    assert all(len(tokenizer(text)["input_ids"]) <= 6 for text in sent)
    assert len(tokenizer(sent[0] + " list")["input_ids"]) > 6
    server.asked.clear()
    refusing = teacher(server, **limits, too_long="refuse")
    with pytest.raises(
        InputError, match=r"1 of 4 texts are beyond max_tokens=6, .*'list list list list.*nothing"
    ):
        refusing.prepare(["list"], ["a", *documents[1:2], "a", "b"], None, TeacherCache())
    assert not server.asked
    with pytest.raises(InputError, match="prompt alone"):
        teacher(server, **{**limits, "document_prompt": "list " * 9}).prepare([], ["x"], None, TeacherCache())


def test_a_run_tells_what_will_end_it_before_it_mines(server: Server, tmp_path: Path) -> None:
    data = TrainingSet(TEXTS[:2], TEXTS, np.array([0, 1]))
    keys = {"kind": "endpoint", "name": "m", "url": server.url, "api_key_env": "NO_SUCH_KEY"}
    values = {"init": "m", "train": ["t"], "teachers": [keys], "teacher_cache": str(tmp_path / "cache")}
    recipe = recipe_from_dict(values)
    with pytest.raises(InputError, match=r"NO_SUCH_KEY .*not set"):
        check_endpoints(recipe, data)
    with pytest.raises(InputError, match=r"NO_SUCH_KEY .*not set"):
        train(replace(recipe, output=str(tmp_path / "run")), data=data)
    prepared(server, TeacherCache(tmp_path / "cache"))
    check_endpoints(recipe, data)  # all is there: nobody is asked
    other = {**keys, "kind": "rerank-endpoint"}
    with pytest.raises(InputError, match="NO_SUCH_KEY"):
        check_endpoints(recipe_from_dict({**values, "teachers": [other]}), data)
    mined = {**values, "teachers": [{"kind": "bm25"}], "negatives": [f"endpoint:m@{server.url}"]}
    check_endpoints(recipe_from_dict(mined), data)
    short = {**keys, "api_key_env": None, "max_characters": 9, "too_long": "refuse"}
    with pytest.raises(InputError, match=r"2 of 2 texts are beyond max_characters=9"):
        check_endpoints(recipe_from_dict({**values, "teachers": [short]}), data)


@pytest.mark.parametrize("form", ["cohere", "tei"])
def test_rerankers(server: Server, form: str, tmp_path: Path) -> None:
    pairs = np.array([[0, 1], [0, 2], [1, 1], [1, 3]])
    asked = teacher(server, "rerank-endpoint", form=form)
    found = asked.prepare(TEXTS[:2], TEXTS, pairs, TeacherCache(tmp_path))
    scores, known = found.scores(np.array([0, 1]), np.arange(4), np.ones((2, 4), np.bool_))
    assert known.tolist() == [[False, True, True, False], [False, True, False, True]]
    expected = zlib.crc32((TEXTS[1] + TEXTS[3]).encode()) % 1000
    assert scores[1, 3] == expected
    requests = server.requests
    asked.prepare(TEXTS[:2], TEXTS, pairs, TeacherCache(tmp_path))
    assert server.requests == requests
    server.change = lambda answer: {"results": []} if form == "cohere" else []
    with pytest.raises(InputError, match=r"0 scores came for 1 documents"):
        asked.prepare(TEXTS[:2], TEXTS, pairs[:1], TeacherCache())


def test_named_on_a_command_line_and_as_a_source(server: Server, tmp_path: Path) -> None:
    data = TrainingSet(TEXTS[:2], TEXTS, np.array([0, 1]))
    source = Sources(data, TeacherCache(tmp_path)).source(f"endpoint:m@{server.url}")
    assert source.search(np.array([0, 1]), 1).tolist() == [[0], [1]]
    (queries, documents) = needs_of(
        [teacher(server)], ["new query"], TEXTS, np.empty((0, 2), np.int64), TeacherCache(tmp_path)
    )
    assert (queries.missing, documents.missing, queries.seconds) == (
        1,
        0,
        0.0,
    )  # nothing is asked to estimate
    assert "1 texts to ask for" in queries.cost


def test_settings(tmp_path: Path) -> None:
    keys = {"kind": "endpoint", "name": "m", "url": "http://localhost:1/v1", "api_key_env": "K"}
    recipe = recipe_from_dict({"init": "m", "train": ["t"], "teachers": [keys]})
    assert recipe_from_dict(recipe_to_dict(recipe)) == recipe
    named = TeacherConfig("endpoint", "org/m@https://host/v1")
    assert (named.name, named.url) == ("org/m", "https://host/v1")
    for values, message in (
        ({"url": None}, "url must be the base"),
        ({"url": "http://me:secret@host/v1"}, "put the key into an environment variable"),
        ({"url": "http://host/v1?key=x"}, "put the key into an environment variable"),
        ({"api_key_env": "sk-123"}, "name of an environment variable, not a key"),
        ({"max_length": 8}, "max_characters, or max_tokens"),
        ({"kind": "rerank-endpoint", "query_prompt": "q"}, "takes no query_prompt"),
        ({"kind": "rerank-endpoint", "form": "other"}, "form is cohere or tei"),
        ({"kind": "dense"}, "behind no endpoint, and takes no url, api_key_env"),
        ({"max_tokens": 8}, "max_tokens and tokenizer go together"),
        ({"too_long": "refuse"}, "too_long needs a limit"),
        ({"too_long": "drop", "max_characters": 9}, "too_long is cut or refuse"),
        ({"concurrency": 0}, "concurrency must be at least 1"),
        ({"retries": -1}, "retries must not be negative"),
    ):
        with pytest.raises(InputError, match=message):
            recipe_from_dict({"init": "m", "train": ["t"], "teachers": [{**keys, **values}]})
