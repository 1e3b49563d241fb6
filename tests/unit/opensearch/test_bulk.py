"""Sending documents to a server that misbehaves on cue, over real HTTP."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from neural_sparse import InputError
from neural_sparse.io.files import read_json
from neural_sparse.opensearch.bulk import BulkSettings, FailedDocument, Progress, _sorted_out, delete, send
from neural_sparse.opensearch.connection import connect, readable_errors

opensearchpy = pytest.importorskip("opensearchpy")
IDS = [f"d{row}" for row in range(20)]


class Server:
    """Keeps documents by id; `behave(n, ids)` may answer the n-th bulk request otherwise."""

    def __init__(self, behave: Callable[[int, list[str]], Any] = lambda number, ids: None) -> None:
        self.behave = behave
        self.documents: dict[str, Any] = {}
        self.requests: list[list[str]] = []
        self.authorizations: set[str | None] = set()
        self.queries: list[dict[str, list[str]]] = []

    def bulk(self, body: bytes) -> tuple[int, dict[str, Any]] | None:
        lines = [json.loads(line) for line in body.splitlines()]
        if "delete" in lines[0]:
            return self.deleting([line["delete"]["_id"] for line in lines])
        pairs = [(head["index"]["_id"], source) for head, source in zip(lines[::2], lines[1::2], strict=True)]
        ids = [doc_id for doc_id, _ in pairs]
        self.requests.append(ids)
        otherwise = self.behave(len(self.requests) - 1, ids)
        if isinstance(otherwise, int):
            if otherwise == 0:  # accepted, but the answer never comes
                self.documents.update(pairs)
                return None
            return otherwise, {"error": {"type": "busy", "reason": "as told"}, "status": otherwise}
        statuses = otherwise or {}
        items = []
        for doc_id, source in pairs:
            status = statuses.get(doc_id, 201)
            error = {
                "type": "mapper_parsing_exception",
                "reason": "failed to parse",
                "caused_by": {"reason": "too odd"},
            }
            items.append(
                {"index": {"_id": doc_id, "status": status, **({"error": error} if status >= 300 else {})}}
            )
            if status < 300:
                self.documents[doc_id] = source
        return 200, {"errors": bool(statuses), "items": items}

    def deleting(self, ids: list[str]) -> tuple[int, dict[str, Any]]:
        self.requests.append(ids)
        otherwise = self.behave(len(self.requests) - 1, ids) or {}
        if isinstance(otherwise, int):
            return otherwise, {"error": {"type": "busy", "reason": "as told"}, "status": otherwise}
        items: list[dict[str, Any]] = []
        for doc_id in ids:
            if doc_id in otherwise:
                items.append({"_id": doc_id, "status": otherwise[doc_id], "error": {"reason": "as told"}})
            elif self.documents.pop(doc_id, None) is None:
                items.append({"_id": doc_id, "status": 404, "result": "not_found"})
            else:
                items.append({"_id": doc_id, "status": 200, "result": "deleted"})
        return 200, {"errors": bool(otherwise), "items": [{"delete": item} for item in items]}


@contextmanager
def serving(server: Server) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            server.authorizations.add(self.headers.get("Authorization"))
            answer: tuple[int, dict[str, Any]] | None
            address = urlsplit(self.path)
            match self.command, address.path:
                case "POST", "/i/_bulk":
                    server.queries.append(parse_qs(address.query))
                    answer = server.bulk(body)
                case "GET", "/":
                    answer = 200, {"version": {"number": "3.0.0", "distribution": "opensearch"}}
                case _:
                    answer = (
                        404,
                        {"error": {"type": "nothing", "reason": f"no {self.command} {self.path} here"}},
                    )
            if answer is None:
                self.close_connection = True
                return
            data = json.dumps(answer[1]).encode()
            self.send_response(answer[0])
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_HEAD = _any

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def sources(start: int) -> Iterator[str]:
    return (json.dumps({"row": row}) for row in range(start, len(IDS)))


def about(**changes: Any) -> dict[str, Any]:
    return {"index": "i", "documents": len(IDS), "content": "abc", "uuid": "one", **changes}


def run(server: Server, resume: Path | None = None, **settings: Any) -> tuple[Any, list[float]]:
    waits: list[float] = []
    chosen = BulkSettings(**{"documents": 4, "retries": 3, "wait": waits.append, **settings})
    with serving(server) as url:
        report = send(connect(url), "i", IDS, sources, Progress(resume, about()), chosen, show_progress=False)
    return report, waits


def test_all_documents_in_order() -> None:
    server = Server()
    report, waits = run(server)
    assert server.requests == [IDS[start : start + 4] for start in range(0, 20, 4)]
    assert server.documents == {doc_id: {"row": row} for row, doc_id in enumerate(IDS)}
    assert (report.indexed, report.resumed, report.failed, report.retries) == (20, 0, [], 0)
    assert waits == []


def test_how_many_copies_have_to_be_in_place() -> None:
    server = Server()
    run(server, copies=2, shard_wait=1.5)
    run(server, copies="all", documents=20)
    run(server, documents=20)
    asked = [{key: values[0] for key, values in query.items()} for query in server.queries]
    common = {"pipeline": "_none", "timeout": "20000ms"}
    assert asked == [
        *[{**common, "timeout": "1500ms", "wait_for_active_shards": "2"}] * 5,
        {**common, "wait_for_active_shards": "all"},
        common,
    ]
    with pytest.raises(InputError, match=r"copies is .all. or at least 1, not 0"):
        BulkSettings(copies=0)


@pytest.mark.parametrize("listed", [True, False])
def test_a_node_that_is_not_there_is_passed_by(listed: bool) -> None:
    gone, server = Server(), Server()
    with serving(gone) as away:
        pass
    with serving(server) as url:
        client = connect([away, url, away] if listed else f"{away}, {url},{away}")
        settings = BulkSettings(documents=4, wait=lambda seconds: pytest.fail("waited"))
        report = send(client, "i", IDS, sources, Progress(None, about()), settings, show_progress=False)
    assert (report.indexed, report.retries) == (20, 0)
    assert server.documents == {doc_id: {"row": row} for row, doc_id in enumerate(IDS)}
    with pytest.raises(InputError, match=r"'nowhere' is no address"):
        connect(f"{url},nowhere")


def test_requests_stay_within_bytes() -> None:
    server = Server()
    run(server, documents=500, bytes=100)
    assert sum(map(len, server.requests)) == 20
    assert 2 <= max(map(len, server.requests)) <= 4
    alone = Server()
    run(alone, bytes=1)  # a document larger than the limit goes alone
    assert alone.requests == [[doc_id] for doc_id in IDS]


@pytest.mark.parametrize("trouble", [429, 502, 503, 504, 0])
def test_a_busy_server_is_waited_for_longer_each_time_and_asked_for_less(trouble: int) -> None:
    server = Server(lambda number, ids: trouble if number in (1, 2, 3) else None)
    report, waits = run(server)
    assert waits == [1.0, 2.0, 4.0]
    assert report.retries == 3
    assert report.indexed == 20
    assert set(server.documents) == set(IDS)
    assert server.requests[1:5] == [IDS[4:8]] * 4
    assert len(server.requests[5]) == 1  # back-pressure
    assert len(server.requests[-1]) > 1  # and up again


def test_only_the_documents_that_were_too_much_are_sent_again() -> None:
    server = Server(lambda number, ids: {"d1": 429, "d3": 503} if number == 0 else None)
    report, _ = run(server)
    assert server.requests[:2] == [IDS[:4], ["d1", "d3"]]
    assert report.indexed == 20
    assert set(server.documents) == set(IDS)


def test_refused_documents_are_listed_and_the_rest_goes_on() -> None:
    server = Server(lambda number, ids: {name: 400 for name in ids if name in ("d2", "d17")})
    report, waits = run(server)
    assert report.failed == [
        FailedDocument("d2", 400, "failed to parse: too odd"),
        FailedDocument("d17", 400, "failed to parse: too odd"),
    ]
    assert report.indexed == 18
    assert set(server.documents) == set(IDS) - {"d2", "d17"}
    assert waits == []


def test_a_request_that_is_too_large_is_halved() -> None:
    server = Server(lambda number, ids: 413 if len(ids) > 2 or "d7" in ids else None)
    report, waits = run(server, documents=8)
    assert report.failed == [FailedDocument("d7", 413, "larger than a request may be")]
    assert set(server.documents) == set(IDS) - {"d7"}
    assert waits == []


def test_documents_that_stay_busy_are_told_with_the_servers_reason() -> None:
    with pytest.raises(InputError, match=r"status 429 for some documents: .*failed to parse.*too odd"):
        run(Server(lambda number, ids: {"d1": 429}))


def test_a_run_that_gave_up_goes_on_from_its_resume_file(tmp_path: Path) -> None:
    resume = tmp_path / "resume.json"
    ill = Server(lambda number, ids: {"d1": 400} if number == 0 else 503 if number >= 2 else None)
    with pytest.raises(InputError, match=r"did not take 4 documents in 4 attempts \(HTTP 503\).*resume"):
        run(ill, resume)
    assert set(ill.documents) == set(IDS[:8]) - {"d1"}
    assert read_json(resume)["done"] == 8
    well = Server()
    report, _ = run(well, resume)
    assert well.requests[0] == IDS[8:12]
    assert set(well.documents) == set(IDS[8:])
    assert (report.resumed, report.indexed) == (8, 12)
    assert report.failed == [FailedDocument("d1", 400, "failed to parse: too odd")]
    idle = Server()
    report, _ = run(idle, resume)
    assert idle.requests == []
    assert (report.resumed, report.indexed) == (20, 0)


def test_a_resume_file_of_other_work(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    resume = tmp_path / "resume.json"
    run(Server(), resume)
    with pytest.raises(InputError, match="resume file of other work \\(content differ\\)"):
        Progress(resume, about(content="other"))
    with caplog.at_level(logging.WARNING):
        assert Progress(resume, about(uuid="two")).done == 0
    assert "made anew" in caplog.text
    assert Progress(resume, about()).done == 20


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "OPENSEARCH_PASSWORD"), (403, "may not do this.*as told"), (404, "not found.*as told")],
)
def test_a_refusal_of_the_whole_request_is_told_at_once(status: int, said: str) -> None:
    server = Server(lambda number, ids: status)
    with pytest.raises(InputError, match=said):
        run(server)
    assert len(server.requests) == 1


def test_passwords_come_from_the_environment_and_are_never_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENSEARCH_USER", "admin")
    monkeypatch.delenv("OPENSEARCH_PASSWORD", raising=False)
    server = Server(lambda number, ids: 503 if number == 0 else None)
    with serving(server) as url:
        with pytest.raises(InputError, match="no password for admin: set OPENSEARCH_PASSWORD"):
            connect(url)
        monkeypatch.setenv("OPENSEARCH_PASSWORD", "geheim123")
        with caplog.at_level(logging.DEBUG):
            client = connect(url)
            send(client, "i", IDS, sources, Progress(None, about()), BulkSettings(wait=lambda _: None), False)
    assert len(server.authorizations) == 1
    captured = capsys.readouterr()
    shown = caplog.text + captured.out + captured.err + repr(client)
    assert "geheim123" not in shown
    for url in ("https://admin:geheim123@host:9200", "admin:geheim123@host"):
        with pytest.raises(InputError) as refused:
            connect(url)
        assert "geheim123" not in str(refused.value)


def test_servers_that_are_not_there_or_do_not_answer() -> None:
    with serving(Server()) as url:
        pass
    with pytest.raises(InputError, match=r"cannot be reached.*is OpenSearch running there"):
        connect(url)
    with pytest.raises(InputError, match=r"is no address; give one such as https://"):
        connect("search.example.org")
    with pytest.raises(InputError, match=r"did not answer within 3 s.*timeout"), readable_errors("here", 3):
        raise opensearchpy.exceptions.ConnectionTimeout("TIMEOUT", "", Exception())
    with pytest.raises(InputError, match="ca_certs"), readable_errors("here"):
        raise opensearchpy.exceptions.SSLError("N/A", "", Exception())


def test_a_server_that_takes_the_connection_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(InputError, match=r"did not answer within 0\.05 s"):
            connect(url, timeout=0.05)


def test_deletes_go_again_to_a_busy_server() -> None:
    behaviour: list[Any] = [429, {"d1": 429, "d2": 503}, 503, {}, {}, {}]
    server = Server(lambda number, ids: behaviour[number] if number < len(behaviour) else None)
    server.documents = {doc_id: {} for doc_id in IDS[:6]}
    waits: list[float] = []
    with serving(server) as url:
        client = connect(url)
        chosen = BulkSettings(documents=4, retries=3, wait=waits.append)
        assert delete(client, "i", [*IDS[:5], "none"], chosen) == 5
        assert server.documents == {"d5": {}}
        assert waits == [1, 2, 4]
        behaviour[:] = [{"d5": 400}] * 9
        with pytest.raises(InputError, match=r"index 'i': 'd5' was not deleted: as told"):
            delete(client, "i", ["d5"], chosen)
        behaviour[:] = [503] * 99
        with pytest.raises(InputError, match=r"did not take 1 documents in 4 attempts .*the same call"):
            delete(client, "i", ["d5"], chosen)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(InputError, match="at least one document"):
        BulkSettings(documents=0)


def test_documents_whose_node_was_lost_are_sent_again() -> None:
    error = {
        "type": "node_disconnected_exception",
        "reason": "[node-2][indices:data/write/bulk[s]] disconnected",
    }
    batch = [("a", "A"), ("b", "B")]
    items = [
        {"index": {"_id": "a", "status": 500, "error": error}},
        {"index": {"_id": "b", "status": 500, "error": {"type": "other", "reason": "broken"}}},
    ]
    again, refused, cause = _sorted_out(batch, items)
    assert (again, refused) == ([("a", "A")], [FailedDocument("b", 500, "broken")])
    assert "disconnected" in cause


def test_documents_that_an_endpoint_did_not_encode_say_why() -> None:
    words = 'Error from remote service: {"error": "another key is wanted"}'
    items = [{"index": {"_id": "a", "status": 401, "error": {"type": "status_exception", "reason": words}}}]
    _, (refused,), _ = _sorted_out([("a", "A")], items)
    assert "another key is wanted" in refused.reason
    assert "it wants another key (NEURAL_SPARSE_ENDPOINT_KEY)" in refused.reason
