"""The server as a process: killed while documents change, ended while a request runs."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from python_processes import CLI, Running, python

from neural_sparse import NeuralSparseEncoder, train
from neural_sparse.config import Recipe
from neural_sparse.search.doc_ids import DocumentIds
from neural_sparse.search.encode_corpus import encode_corpus
from neural_sparse.search.encoded import EncodedCollection
from neural_sparse.search.snapshot import PackedTexts

pytestmark = pytest.mark.integration
pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
KILLS = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tiny_models import make_masked_lm, make_tokenizer

    folder = tmp_path_factory.mktemp("bert")
    tokenizer = make_tokenizer("bert")
    make_masked_lm("bert", tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def encoded(model: str, tmp_path: Path) -> Path:
    corpus = tmp_path / "corpus.jsonl"
    rows = [{"_id": f"old{n}", "text": f"open a file and return a stream {n}"} for n in range(50)]
    corpus.write_text("\n".join(map(json.dumps, rows)))
    encode_corpus(model, corpus, tmp_path / "index", show_progress=False)
    return tmp_path / "index"


@contextmanager
def server(*arguments: str) -> Iterator[tuple[Running, int]]:
    """A process and the port that it has said."""
    process = Running(["-c", CLI, "serve", *arguments, "--port", "0"])
    try:
        while not (said := re.search(r"127\.0\.0\.1:(\d+)/ serves", process.stdout.read_text())):
            assert process.poll() is None, process.stderr.read_text()
            time.sleep(0.02)
        yield process, int(said[1])
    finally:
        process.kill()


def ask(port: int, how: str, path: str, body: Any) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request(how, path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer


@pytest.mark.parametrize("kills", [KILLS, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_while_documents_change_nothing_acknowledged_is_lost(
    model: str, encoded: Path, kills: int
) -> None:
    """Batches are whole or absent, and what was answered is there, over kills at moments of no choosing."""
    expected = {f"old{n}": f"open a file and return a stream {n}" for n in range(50)}
    sent = 0
    for kill in range(kills):
        unsure: tuple[dict[str, str], list[str]] | None = None
        with server(str(encoded), "--model", model) as (process, port):
            killer: threading.Timer | None = None
            begun = time.perf_counter()
            try:
                while True:
                    sent += 1
                    if (
                        sent % 3 == 0
                    ):  # somewhere in the next two changes, which take about as long as those before
                        killer = threading.Timer(
                            (kill + 1) / kills * (time.perf_counter() - begun), process.kill
                        )
                        killer.start()
                    begun = time.perf_counter()
                    new = {f"new{sent}-{n}": f"sorted items {sent} {n}" for n in range(3)}
                    new[f"old{sent % 50}"] = f"changed {sent}"
                    gone = [f"new{sent - 1}-1"]
                    unsure = (new, [])
                    rows = [{"id": key, "text": text} for key, text in new.items()]
                    assert ask(port, "POST", "/documents", {"documents": rows})[0] == 200
                    expected |= new
                    unsure = ({}, gone)
                    assert ask(port, "DELETE", "/documents", {"ids": gone})[0] == 200
                    expected = {key: text for key, text in expected.items() if key not in gone}
                    unsure = None
            except (OSError, http.client.HTTPException):
                pass  # killed
            assert killer is not None
            killer.join()
        snapshot = EncodedCollection(encoded).snapshot
        found = {snapshot.doc_id(row): snapshot.text(row) for row in snapshot.rows().tolist()}
        assert len(found) == len(snapshot)
        if unsure is not None and found != expected:
            expected = {key: text for key, text in (expected | unsure[0]).items() if key not in unsure[1]}
        assert found == expected
    assert len(found) > 50


def test_sigterm_finishes_what_runs(model: str, encoded: Path) -> None:
    with server(str(encoded), "--model", model) as (process, port):
        texts = [" ".join(["open", "a", "file", "and", "sort", "items"] * 2000)] * 60
        answers: list[tuple[int, Any]] = []
        asking = threading.Thread(
            target=lambda: answers.append(ask(port, "POST", "/encode/documents", {"texts": texts}))
        )
        asking.start()
        running = 'neural_sparse_running{pool="encode"} 1.0'
        while running not in metrics(port) and not answers:
            pass

        os.kill(process.pid, signal.SIGTERM)
        asking.join()
        assert answers[0][0] == 200
        assert len(answers[0][1]["documents"]) == 60
        assert process.wait(60) == 0
        assert "Traceback" not in process.stderr.read_text()


def test_a_siamese_student_is_trained_encoded_searched_and_served(model: str, tmp_path: Path) -> None:
    pairs = [
        {
            "query": f"sort items {n}",
            "pos": f"return a new list of items sorted {n}",
            "negs": [f"open a file {n}"],
        }
        for n in range(8)
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    rows = [{"_id": f"d{n}", "text": pair["pos"]} for n, pair in enumerate(pairs)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = Recipe(
        init=model,
        train=(str(tmp_path / "pairs.jsonl"),),
        output=str(tmp_path / "run"),
        query_encoder="own",
        ranking={"info_nce": 1.0},
        num_steps=3,
        warmup_steps=1,
        batch_size=4,
        num_hard_negatives=1,
        max_length=24,
        collapse_guard=False,
        bf16=False,
    )
    student = NeuralSparseEncoder(train(recipe), device="cpu")
    command = ["encode", student.name, "--corpus", str(tmp_path / "corpus.jsonl")]
    done = python("-c", CLI, *command, "--output", str(tmp_path / "index"))
    assert done.returncode == 0, done.stderr
    shutil.rmtree(tmp_path / "run")  # the index is all that a search needs
    vectors = student.encode_documents([row["text"] for row in rows])
    scores = (vectors @ student.encode_queries(["sort items 3"]).T).toarray().ravel()
    best = f"d{scores.argmax()}"
    done = python("-c", CLI, "search", str(tmp_path / "index"), "sort items 3", "-k", "1")
    assert done.stdout.startswith(f"1. {best}  {scores.max():.2f}"), done.stdout + done.stderr
    with server(str(tmp_path / "index")) as (_, port):
        status, found = ask(port, "POST", "/search", {"query": "sort items 3", "k": 1})
    assert (status, found["hits"][0]["id"]) == (200, best)
    assert found["hits"][0]["score"] == pytest.approx(scores.max(), rel=1e-5)


def test_a_recall_is_measured_and_searched_with(model: str, tmp_path: Path) -> None:
    """What the server finds and says is what the collection itself does, where approximate search pays."""
    encoder = NeuralSparseEncoder(model, 24, device="cpu")
    rng = np.random.default_rng(0)
    words = [token for token, _ in encoder.top_terms(encoder.encode_documents(["open a file"]), 200)]
    words = [word for word in words if word.isalpha()]
    columns = np.array(encoder.tokenizer.convert_tokens_to_ids(words))
    documents, size = 150_000, 8
    shape = (documents, len(encoder.tokenizer))
    rows = np.repeat(np.arange(documents), size)
    vectors = sp.csr_matrix((rng.lognormal(0, 1.5, len(rows)), (rows, rng.choice(columns, len(rows)))), shape)
    vectors = vectors.astype(np.float32)
    ids = DocumentIds.numbers(documents)
    texts = [PackedTexts.of(["a"] * documents)]
    EncodedCollection.write(tmp_path / "index", encoder, [vectors], ids, texts, {"max_length": 24})
    asked = [" ".join(rng.choice(words, 3)) for _ in range(60)]
    (tmp_path / "queries.jsonl").write_text(
        "\n".join(json.dumps({"_id": str(n), "text": text}) for n, text in enumerate(asked[:50]))
    )
    collection = EncodedCollection(tmp_path / "index")
    collection.approximate(0.9, asked[:50])
    of_sample = ("--recall", "0.9", "--sample", str(tmp_path / "queries.jsonl"))
    with server(str(tmp_path / "index"), *of_sample) as (_, port):
        for k in (50, 100):
            expected = collection.search_texts(asked[50:], k)
            mode = collection.mode(k)
            assert re.match(r"approximate, [\d.]+ blocks a hit: recall 0\.9\d\d of", mode)
            for query, best, scores in zip(asked[50:], expected.ids(), expected.scores, strict=True):
                status, found = ask(port, "POST", "/search", {"query": query, "k": k})
                assert (status, found["mode"]) == (200, mode)
                assert [hit["id"] for hit in found["hits"]] == best
                assert [hit["score"] for hit in found["hits"]] == pytest.approx(scores.tolist())
        found = ask(port, "POST", "/search", {"query": asked[0], "k": 10})[1]
        assert found["mode"] == "exact: block maxima"
    done = python("-c", CLI, "serve", str(tmp_path / "index"), "--recall", "2")
    assert done.returncode == 2
    assert "a recall above 0 and below 1" in done.stderr


def metrics(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return text
