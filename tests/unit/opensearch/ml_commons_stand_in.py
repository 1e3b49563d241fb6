"""A stand-in for ML Commons' API, as far as deploy.sh uses it: what it was sent can be looked at afterwards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from neural_sparse.opensearch.deployment import Deployment


class MlCommonsStandIn:
    """Models by id, and every request in order.

    Attributes:
        requests: (method, path, body, authorization).
        task_states: what a task says, look by look; the last one stays.
    """

    def __init__(
        self, answers: dict[str, dict[str, float]], task_states: tuple[str, ...] = ("COMPLETED",)
    ) -> None:
        self.answers = answers
        self.task_states = task_states
        self.models: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, bytes, str | None]] = []
        self.looks: dict[str, int] = {}

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        parts = path.split("?")[0].strip("/").split("/")
        if parts[:2] != ["_plugins", "_ml"]:
            return 200, {"acknowledged": True}
        match method, parts[2:]:
            case "POST", ["models", "_register_meta"]:
                model_id = f"id-{len(self.models)}"
                self.models[model_id] = {**json.loads(body), "content": b"", "chunks": 0}
                return 200, {"model_id": model_id, "status": "CREATED"}
            case "POST", ["models", model_id, "upload_chunk", number]:
                model = self.models[model_id]
                if int(number) != model["chunks"] or len(body) > 10_000_000:
                    return 400, {"error": "out of order, or too much"}
                model["content"] += body
                model["chunks"] += 1
                return 200, {"status": "Uploaded"}
            case "POST", ["models", model_id, "_deploy"]:
                return 200, {"task_id": f"task-{model_id}", "status": "CREATED"}
            case "GET", ["tasks", task]:
                model = self.models[task.removeprefix("task-")]
                look = self.looks[task] = self.looks.get(task, 0) + 1
                state = self.task_states[min(look, len(self.task_states)) - 1]
                whole = hashlib.sha256(model["content"]).hexdigest() == model["model_content_hash_value"]
                if state == "COMPLETED" and not (whole and model["chunks"] == model["total_chunks"]):
                    state = "FAILED"
                return 200, {"state": state, "error": "a reason" if state == "FAILED" else None}
            case "POST", ["_predict", function, _]:
                map_ = {"dataAsMap": {"response": [self.answers[function]]}}
                return 200, {"inference_results": [{"output": [map_]}]}
        return 404, {"error": f"no handler for {method} {path}"}


def of_deployment(deployment: Deployment, **kwargs: Any) -> MlCommonsStandIn:
    answers = {
        "sparse_encoding": dict(deployment.expected_text),
        "sparse_tokenize": dict(deployment.expected_query),
    }
    return MlCommonsStandIn(answers, **kwargs)


@contextmanager
def serving(stand_in: MlCommonsStandIn) -> Iterator[str]:
    """The address it is served at."""

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            stand_in.requests.append((self.command, self.path, body, self.headers.get("Authorization")))
            status, answer = stand_in.answer(self.command, self.path, body)
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = _any

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
