"""Load and an experiment against a real node: a few seconds each, on a small index of hand-made weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from python_processes import CLI, Done, python

from neural_sparse import InputError
from neural_sparse.io.files import read_json
from neural_sparse.io.lines import read_jsonl

pytestmark = pytest.mark.integration
pytest.importorskip("opensearchpy")
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "190", "TERM": "dumb"}
WORDS = ["red", "shoes", "blue", "list", "sort", "file", "open", "dog", "lazy", "quick"]
SPARSE: dict[str, Any] = {
    "size": 5,
    "_source": False,
    "query": {"match": {"text": {"query": "$query", "operator": "and"}}},
}


def run(*arguments: str | Path) -> Done:
    return python("-c", CLI, *arguments, environment=ENVIRONMENT)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    from neural_sparse.opensearch import connect
    from neural_sparse.opensearch.node import Node

    try:
        node = Node("2.19.6", heap="512m", patience=300)
    except InputError as error:
        pytest.skip(f"no node: {error}")
    with node:
        client = connect(node.url)
        fields = {"text": {"type": "text"}, "embedding": {"type": "rank_features"}}
        client.indices.create(index="docs", body={"mappings": {"properties": fields}})
        lines: list[dict[str, Any]] = []
        for number in range(300):
            text = [WORDS[(number * step) % len(WORDS)] for step in (1, 3, 7)]
            weights = dict.fromkeys(text, 1.0 + number % 5)
            lines += [{"index": {"_id": f"d{number}"}}, {"text": " ".join(text), "embedding": weights}]
        assert not client.bulk(body=lines, index="docs", params={"refresh": "true"})["errors"]
        yield node.url


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    rows = [{"_id": str(place), "text": f"{word} {WORDS[place - 3]}"} for place, word in enumerate(WORDS)]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "both.json").write_text(json.dumps(SPARSE))
    return folder


def test_load_on_a_node(url: str, files: Path, tmp_path: Path) -> None:
    done = run(
        "load-test", "--url", url, "--index", "docs", "--queries", files / "queries.jsonl", "--body",
        files / "both.json", "--rate", "30", "--clients", "2", "--duration", "3", "--warmup", "0.5",
        "--lag-limit", "1000", "-o", tmp_path / "load",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "search / match" in done.stdout
    (cell,) = read_json(tmp_path / "load" / "load.json")["cells"]
    for one in cell["loads"]:
        assert one["errors"] == {}
        assert one["requests"] > 40
        assert not one["saturated"]
        assert one["latency"]["p50"]["value"] >= one["took"]["p50"]["value"]
    assert set(cell["ratios"]) == {"match"}
    assert (tmp_path / "load" / "load.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "load" / "workload" / "workload.py").is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--index", "missing"], "missing"),
        (["--index", "docs"], "no search pipeline"),
        (["--index", "docs", "--body", "both.json", "--text-field", "title"], "text fields: text"),
        (["--index", "docs", "--field", "text"], "is text, not"),
        (["--index", "docs", "--body", "both.json", "--rate", "0"], "above 0"),
        (["--index", "docs", "--body", "both.json", "--arrivals", "bursts"], "poisson or fixed"),
    ],
)
def test_what_is_wrong_is_said_before_the_load(url: str, files: Path, options: list[str], words: str) -> None:
    options = [str(files / one) if one.endswith(".json") else one for one in options]
    done = run("load-test", "--url", url, "--queries", files / "queries.jsonl", *options)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_an_experiment_on_a_node(url: str, files: Path, tmp_path: Path) -> None:
    log = tmp_path / "clicks.jsonl"
    command = [
        sys.executable, "-m", "neural_sparse", "ab-test", "serve", "--url", url, "--index", "docs", "--log", str(log),
        "--b", str(files / "both.json"), "--port", "0",
    ]  # fmt: skip
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**ENVIRONMENT, "PYTHONUNBUFFERED": "1"}
    )
    try:
        assert server.stdout is not None
        while "listening on" not in (line := server.stdout.readline()):
            assert server.poll() is None
        address = line.split("listening on ")[1].split(";")[0]
        for number in range(6):
            with urllib.request.urlopen(
                f"{address}/search?q=red+shoes&session=s{number}", timeout=20
            ) as answer:
                page = json.load(answer)
            assert page["hits"]
            assert set(page["hits"][0]) == {"id", "fields"}
            click = json.dumps({"query_id": page["query_id"], "doc_id": page["hits"][0]["id"]}).encode()
            with urllib.request.urlopen(f"{address}/click", click, timeout=20) as answer:
                assert answer.status == 204
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
    rows = list(read_jsonl(log))
    assert [row["type"] for row in rows].count("impression") == 6
    time.sleep(0.1)
    done = run("ab-test", "analyse", log, "--window", "0.0001")
    assert done.returncode == 0, done.stderr
    assert "undecided" in done.stdout
