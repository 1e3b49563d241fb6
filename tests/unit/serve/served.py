"""A server in a thread of this process, asked over the loopback."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Client:
    """One request per connection; answers (status, JSON or bytes)."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __call__(
        self, how: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        content = None
        given = dict(headers or {})
        if body is not None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            given.setdefault("Content-Type", "application/json")
        connection.request(how, path, content, given)
        response = connection.getresponse()
        answer = response.read()
        self.headers = dict(response.getheaders())
        connection.close()
        if response.getheader("content-type", "").startswith("application/json"):
            return response.status, json.loads(answer)
        return response.status, answer

    def post(self, path: str, **body: Any) -> tuple[int, Any]:
        return self("POST", path, body)


@contextmanager
def running(app: Any) -> Iterator[Client]:
    """The app on a real server, for as long as the block lasts."""
    import uvicorn

    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield Client(listening.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
