"""An HTTP endpoint that shows two systems' results as one list, and keeps who placed what to itself.

GET /search?q=TEXT&session=ID[&user=ID][&size=10][&from=0] answers {"query_id", "session_id", "hits": [{"id", ...}]};
POST /click with {"query_id", "doc_id"} answers 204; GET /health answers {"test": NAME}. Teams go into the log alone
(`click_log` reads it). It knows no engine: it is given a function that asks both systems.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from neural_sparse.errors import InputError
from neural_sparse.evaluation.interleaving import seed_of, team_draft
from neural_sparse.io.lines import read_jsonl

logger = logging.getLogger(__name__)

# A hit is shown as it is, without its team; it has an "id". A text in place of hits says why there are none.
Hits = list[dict[str, Any]]
Ask = Callable[[str, int], tuple[Hits | str, Hits | str]]
LONGEST_QUERY = 2000
LONGEST_ID = 512
DEEPEST = 100  # results of one query, over all pages
_REMEMBERED = 1_000_000
_LARGEST_BODY = 10_000


class Refused(Exception):
    """A request that is no good, with its status."""

    def __init__(self, status: HTTPStatus, words: str) -> None:
        super().__init__(words)
        self.status = status


class ExperimentLog:
    """The file of an experiment: a first line that says what it is, then impressions and clicks, appended one by one.

    Args:
        path: continued, if it is there and of the same test.
        about: of the test: its name and what a and b are.

    Raises:
        InputError: a file of another test, or of something else.
    """

    def __init__(self, path: str | Path, about: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        first = next(read_jsonl(self.path), None) if self.path.is_file() else None
        if first is None:
            self.secret = secrets.token_hex(16)
            self._open()
            self.write({"type": "test", **about, "secret": self.secret})
            return
        known = {key: value for key, value in first.items() if key not in ("type", "secret", "time")}
        if first.get("type") != "test" or known != dict(about) or not isinstance(first.get("secret"), str):
            raise InputError(
                f"{self.path}, line 1: the log is of another experiment ({json.dumps(known, ensure_ascii=False)}); "
                "take another --log, for results of two experiments cannot be told apart in one"
            )
        self.secret = str(first["secret"])
        self._open()

    def _open(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.is_file():
                _drop_unfinished(self.path)
            self._file = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror or error}") from error

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row with its time; it is on its way to the disk when this returns."""
        time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = json.dumps({**row, "time": time}, ensure_ascii=False)
        with self._lock:
            self._file.write(line.encode("utf-8", "replace").decode() + "\n")
            self._file.flush()

    def close(self) -> None:
        with self._lock:
            self._file.close()


def _drop_unfinished(path: Path) -> None:
    """Cut off a last line that has no end: a crash left it."""
    with path.open("r+b") as file:
        end = file.seek(0, 2)
        start = max(0, end - 1_000_000)
        file.seek(start)
        tail = file.read()
        if tail and not tail.endswith(b"\n"):
            file.truncate(start + tail.rfind(b"\n") + 1)
            logger.warning("%s: the last line was unfinished and has been cut off", path)


class Interleaver:
    """Searches and clicks of one experiment, without HTTP.

    Args:
        ask: both systems' best hits for a text.
    """

    def __init__(self, ask: Ask, log: ExperimentLog) -> None:
        self.ask = ask
        self.log = log
        self._shown: set[tuple[str, int, int]] = set()

    def search(
        self, query: str, session: str, user: str = "", size: int = 10, start: int = 0
    ) -> dict[str, Any]:
        """A page of interleaved hits, the same for the same session and query as long as the systems answer the same.

        Raises:
            Refused: a bad argument; both systems failed.
        """
        if not query.strip() or len(query) > LONGEST_QUERY:
            raise Refused(HTTPStatus.BAD_REQUEST, f"q holds 1 to {LONGEST_QUERY} characters")
        if max(len(session), len(user)) > LONGEST_ID:
            raise Refused(HTTPStatus.BAD_REQUEST, f"session and user hold at most {LONGEST_ID} characters")
        if size < 1 or start < 0 or start + size > DEEPEST:
            raise Refused(
                HTTPStatus.BAD_REQUEST, f"size is at least 1, from at least 0, both at most {DEEPEST}"
            )
        session = session or secrets.token_hex(12)
        a, b = self.ask(query, start + size)  # no more can be among the first so many
        for side, answer in (("a", a), ("b", b)):
            if isinstance(answer, str):
                logger.warning("%s failed: %s", side, answer)
                self.log.write({"type": "failure", "side": side, "reason": answer[:500]})
        if isinstance(a, str) and isinstance(b, str):
            raise Refused(HTTPStatus.BAD_GATEWAY, "both systems failed")
        hits_a, hits_b = ([] if isinstance(one, str) else one for one in (a, b))
        by_id = {str(hit["id"]): hit for hit in (*hits_b, *hits_a)}
        seed = seed_of(self.log.secret, session, query)
        ids_a, ids_b = ([str(hit["id"]) for hit in hits] for hits in (hits_a, hits_b))
        placed = team_draft(ids_a, ids_b, start + size, seed)[start:]
        query_id = f"{seed_of(self.log.secret, session, query, 'id'):016x}"
        key = (query_id, start, size)
        if key not in self._shown:  # a page that is loaded again is one impression
            if len(self._shown) >= _REMEMBERED:
                self._shown.clear()
            self._shown.add(key)
            self.log.write(
                {
                    "type": "impression",
                    "query_id": query_id,
                    "session_id": session,
                    "user_id": user or None,
                    "query": query,
                    "hits": [{"id": one.doc_id, "team": one.team} for one in placed],
                }
            )
        return {
            "query_id": query_id,
            "session_id": session,
            "hits": [by_id[one.doc_id] for one in placed],
        }

    def click(self, query_id: Any, doc_id: Any) -> None:
        """Raises Refused: what is no text, or too long."""
        for name, value in (("query_id", query_id), ("doc_id", doc_id)):
            if not isinstance(value, str) or not 0 < len(value) <= LONGEST_ID:
                raise Refused(HTTPStatus.BAD_REQUEST, f"{name} is a text of 1 to {LONGEST_ID} characters")
        self.log.write({"type": "click", "query_id": query_id, "doc_id": doc_id})


def make_server(
    interleaver: Interleaver, name: str, host: str = "127.0.0.1", port: int = 0
) -> ThreadingHTTPServer:
    """A server that is not running yet; `server_address[1]` is its port.

    Raises:
        InputError: a port that is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_GET(self) -> None:
            self._answer(self._get)

        def do_POST(self) -> None:
            self._answer(self._post)

        def _get(self) -> Any:
            address = urlsplit(self.path)
            if address.path == "/health":
                return {"test": name}
            if address.path != "/search":
                raise Refused(HTTPStatus.NOT_FOUND, "GET /search?q=TEXT&session=ID, GET /health, POST /click")
            given = {key: values[-1] for key, values in parse_qs(address.query).items()}
            numbers = {}
            for key, usual in (("size", 10), ("from", 0)):
                try:
                    numbers[key] = int(given.get(key, usual))
                except ValueError:
                    raise Refused(HTTPStatus.BAD_REQUEST, f"{key} is a whole number") from None
            return interleaver.search(
                given.get("q", ""), given.get("session", ""), given.get("user", ""), numbers["size"], numbers["from"]
            )  # fmt: skip

        def _post(self) -> Any:
            length = self.headers.get("Content-Length", "")
            if not length.isdigit() or int(length) > _LARGEST_BODY:
                self.close_connection = True  # what was sent stays unread
                raise Refused(HTTPStatus.BAD_REQUEST, f"a body of at most {_LARGEST_BODY} bytes, please")
            body = self.rfile.read(int(length))
            if urlsplit(self.path).path != "/click":
                raise Refused(HTTPStatus.NOT_FOUND, "POST /click")
            try:
                click = json.loads(body)
            except (ValueError, RecursionError):
                click = None
            if not isinstance(click, dict):
                raise Refused(
                    HTTPStatus.BAD_REQUEST, 'a JSON object, please: {"query_id": ..., "doc_id": ...}'
                )
            interleaver.click(click.get("query_id"), click.get("doc_id"))
            return None

        def _answer(self, work: Callable[[], Any]) -> None:
            try:
                value, status = work(), HTTPStatus.OK
            except Refused as error:
                value, status = {"error": str(error)}, error.status
            except Exception:  # one request must not end the experiment
                logger.exception("%s failed", self.path)
                value, status = {"error": "internal error"}, HTTPStatus.INTERNAL_SERVER_ERROR
            content = b"" if value is None else json.dumps(value).encode()
            self.send_response(status if content else HTTPStatus.NO_CONTENT)
            if content:
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            logger.debug(format, *args)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    try:
        return Server((host, port), Handler)
    except OSError as error:
        raise InputError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; give another --port"
        ) from error
