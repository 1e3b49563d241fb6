"""The endpoint: pages without teams, a log with them, bad requests, a system that fails."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neural_sparse import InputError
from neural_sparse.evaluation.ab_analysis import analyse_clicks
from neural_sparse.evaluation.click_log import read_click_log
from neural_sparse.evaluation.interleaving_server import ExperimentLog, Hits, Interleaver, make_server
from neural_sparse.io.lines import read_jsonl

ABOUT = {"name": "test", "a": {"index": "x"}, "b": {"index": "y"}}


def ask(text: str, depth: int) -> tuple[Hits | str, Hits | str]:
    if text == "broken":
        return "all shards failed", "all shards failed"
    a: Hits = [{"id": f"{text}-{place}", "fields": {"text": "…"}} for place in range(depth)]
    b: Hits = [{"id": f"{text}-{2 * place}"} for place in range(depth)]
    return a, ("no such index" if text == "half" else b)


class Client:
    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def send(self, path: str, body: bytes | None = None) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(self.url + path, body, timeout=10) as answer:
                content = answer.read()
                return answer.status, json.loads(content) if content else None
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def search(self, text: str, session: str = "s", **more: Any) -> tuple[int, Any]:
        return self.send("/search?" + urllib.parse.urlencode({"q": text, "session": session, **more}))

    def click(self, query_id: Any, doc_id: Any) -> tuple[int, Any]:
        return self.send("/click", json.dumps({"query_id": query_id, "doc_id": doc_id}).encode())


@pytest.fixture
def log(tmp_path: Path) -> Iterator[ExperimentLog]:
    made = ExperimentLog(tmp_path / "log.jsonl", ABOUT)
    yield made
    made.close()


@pytest.fixture
def client(log: ExperimentLog) -> Iterator[Client]:
    server = make_server(Interleaver(ask, log), "test")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield Client(server.server_address[1])
    server.shutdown()
    server.server_close()


def test_users_see_no_teams_and_the_log_does(client: Client, log: ExperimentLog) -> None:
    status, page = client.search("shoes", size=4)
    assert status == 200
    assert set(page) == {"query_id", "session_id", "hits"}
    assert len(page["hits"]) == 4
    assert all(set(hit) <= {"id", "fields"} for hit in page["hits"])
    _, again = client.search("shoes", size=4)
    assert again == page
    _, following = client.search("shoes", size=4, **{"from": 4})
    assert following["query_id"] == page["query_id"]
    assert not {hit["id"] for hit in following["hits"]} & {hit["id"] for hit in page["hits"]}
    assert client.click(page["query_id"], page["hits"][1]["id"]) == (204, None)
    rows = list(read_jsonl(log.path))
    assert [row["type"] for row in rows] == ["test", "impression", "impression", "click"]
    assert {hit["team"] for hit in rows[1]["hits"]} == {"a", "b"}
    assert rows[1]["query"] == "shoes"
    found = read_click_log(log.path)
    assert len(found.impressions) == 1
    assert len(found.impressions[page["query_id"]].teams) == 8
    assert analyse_clicks(found, until=found.last + 7200).ties == 0


def test_other_sessions_get_other_coins(client: Client) -> None:
    pages = [client.search("shoes", f"s{number}")[1] for number in range(12)]
    assert len({tuple(hit["id"] for hit in page["hits"]) for page in pages}) > 1
    assert len({page["query_id"] for page in pages}) == 12
    assert len({client.search("shoes", "")[1]["session_id"] for _ in range(2)}) == 2


def test_a_system_that_fails_leaves_the_page_to_the_other(client: Client, log: ExperimentLog) -> None:
    status, page = client.search("half", size=3)
    assert (status, len(page["hits"])) == (200, 3)
    rows = list(read_jsonl(log.path))
    assert rows[1] == {"type": "failure", "side": "b", "reason": "no such index", "time": rows[1]["time"]}
    assert {hit["team"] for hit in rows[2]["hits"]} == {None}
    assert client.search("broken") == (502, {"error": "both systems failed"})
    assert read_click_log(log.path).impressions


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/search?session=s", None, 400, "q holds"),
        ("/search?q=a&size=0", None, 400, "size is"),
        ("/search?q=a&size=x", None, 400, "whole number"),
        ("/search?q=a&from=100", None, 400, "at most"),
        ("/search?q=" + "a" * 3000, None, 400, "q holds"),
        ("/search?q=a&session=" + "s" * 600, None, 400, "session"),
        ("/elsewhere", None, 404, "GET /search"),
        ("/elsewhere", b"{}", 404, "POST /click"),
        ("/click", b"[]", 400, "JSON object"),
        ("/click", b"{", 400, "JSON object"),
        ("/click", b'{"query_id": "q"}', 400, "doc_id"),
        ("/click", b'{"query_id": 3, "doc_id": "d"}', 400, "query_id"),
        ("/click", b" " * 20_000, 400, "at most"),
    ],
)
def test_bad_requests_are_refused(
    client: Client, log: ExperimentLog, path: str, body: bytes | None, status: int, words: str
) -> None:
    found, answer = client.send(path, body)
    assert found == status
    assert words in answer["error"]
    assert [row["type"] for row in read_jsonl(log.path)] == ["test"]


def test_many_at_once_leave_whole_lines(client: Client, log: ExperimentLog) -> None:
    def user(number: int) -> None:
        for text in ("a", "b", "c"):
            page = client.search(text, f"s{number}")[1]
            client.click(page["query_id"], page["hits"][0]["id"])

    threads = [threading.Thread(target=user, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read_click_log(log.path)
    assert len(found.impressions) == 48
    assert all(one.clicks for one in found.impressions.values())


def test_health(client: Client) -> None:
    assert client.send("/health") == (200, {"test": "test"})


def test_a_log_is_continued_and_another_experiments_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    first = ExperimentLog(path, ABOUT)
    first.close()
    path.write_text(path.read_text() + '{"type": "click", "que')  # a crash
    again = ExperimentLog(path, ABOUT)
    again.write({"type": "failure"})
    again.close()
    assert again.secret == first.secret
    assert [row["type"] for row in read_jsonl(path)] == ["test", "failure"]
    with pytest.raises(InputError, match="another experiment"):
        ExperimentLog(path, {**ABOUT, "name": "other"})


def test_a_port_that_is_taken(log: ExperimentLog) -> None:
    server = make_server(Interleaver(ask, log), "test")
    with pytest.raises(InputError, match="--port"):
        make_server(Interleaver(ask, log), "test", port=server.server_address[1])
    server.server_close()
