"""Training on several gloo processes of this machine equals training on one."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from python_processes import Done, Running
from safetensors.torch import load_file

from neural_sparse.corpora.python_docs import python_docs
from neural_sparse.io.files import read_json
from neural_sparse.model.location import resolve_model

pytestmark = pytest.mark.integration
STEPS = 20


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 4.4M model without dropout, whose random numbers would depend on the number of ranks."""
    folder = tmp_path_factory.mktemp("start") / "model"
    shutil.copytree(resolve_model("cognition/model"), folder)
    config = read_json(folder / "config.json")
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    docs = python_docs()
    lines = [
        json.dumps({"query": query, "pos": docs.collection.texts[row]}) for query, row in docs.train[:200]
    ]
    (folder.parent / "train.jsonl").write_text("\n".join(lines))
    return folder


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def launch(start: Path, output: Path, ranks: int, **changes: object) -> Done:
    """What rank 0 leaves; the ranks are started as torchrun starts them."""
    recipe = {
        "init": str(start),
        "train": str(start.parent / "train.jsonl"),
        "output": str(output),
        "teachers": [{"kind": "bm25"}],
        "teacher_cache": str(start.parent / "cache"),
        "ranking": {"kl": 1.0, "info_nce": 0.1},
        "term_targets": {"bm25": 2.0},
        "num_steps": STEPS,
        "batch_size": 5,
        "num_hard_negatives": 2,
        "max_length": 48,
        "warmup_steps": 2,
        "learning_rate": 1e-5,
        "flops_ramp_steps": 5,
        "save_steps": 10,
        "logging_steps": 1,
        "bf16": False,
        **changes,
    }
    file = output.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(recipe))
    place = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    processes = [
        Running(
            ["-m", "neural_sparse", "train", str(file)],
            {**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
        )
        for rank in range(ranks)
    ]
    first, *others = [process.done(timeout=600) for process in processes]
    for done in others:
        assert done.returncode == first.returncode, done.stderr
        assert done.stdout == ""
    return first


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(largest_weights(run / "final_model"))


def largest_weights(model: Path) -> Path:
    """The transformer's; the other file is the query table."""
    return max(model.rglob("model.safetensors"), key=lambda file: file.stat().st_size)


def differences(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Of all weights but the keys' biases: softmax ignores those, so that their gradient is rounding alone, which
    Adam scales up to whole steps."""
    assert ours.keys() == theirs.keys()
    compared = [name for name in ours if not name.endswith("key.bias")]
    return torch.cat([(ours[name] - theirs[name]).abs().flatten() for name in compared])


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    """After steps that move weights by 1e-4; one in a million may have a gradient that is mostly rounding, too."""
    found = differences(ours, theirs)
    assert float((found > 2e-6).float().mean()) < 1e-6
    assert float(found.max()) < 1e-5


@pytest.fixture(scope="module")
def alone(start: Path) -> Path:
    output = start.parent / "alone"
    done = launch(start, output, 1)
    assert done.returncode == 0, done.stderr
    return output


@pytest.mark.parametrize("count", [2, 3])
def test_same_losses_and_weights(start: Path, alone: Path, count: int) -> None:
    output = start.parent / f"on-{count}"
    done = launch(start, output, count)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the model is") == 1
    history, expected = (read_json(run / "metrics.json")["history"] for run in (output, alone))
    assert len(history) == STEPS
    for ours, theirs in zip(history, expected, strict=True):
        # Float32 sums in another order, which grow apart over the steps.
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-6 if ours["step"] == 1 else 1e-5)
        for key in ("ranking", "flops", "terms", "nonzero_terms"):  # logged with four decimals
            assert ours[key] == pytest.approx(theirs[key], rel=1e-5, abs=1e-4)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4)
    assert_same(weights(output), weights(alone))
    early = load_file(largest_weights(alone / "checkpoint-10"))
    assert float(differences(weights(alone), early).max()) > 1e-5  # so that being equal means something


def test_accumulation_and_gradient_cache_on_ranks(start: Path) -> None:
    runs = []
    for count in (1, 2):
        runs.append(start.parent / f"accumulated-{count}")
        done = launch(start, runs[-1], count, num_steps=3, gradient_accumulation_steps=2, cache_tokens=100)
        assert done.returncode == 0, done.stderr
    assert_same(*map(weights, runs))


def test_ranks_look_at_the_same_sample_of_the_vocabulary(start: Path) -> None:
    runs = []
    for count in (1, 2):
        runs.append(start.parent / f"sampled-{count}")
        settings = {"vocabulary_sample": 600, "gradient_accumulation_steps": 2, "num_steps": 13}
        done = launch(start, runs[-1], count, **settings)
        assert done.returncode == 0, done.stderr
    assert_same(*map(weights, runs))
    figures = [read_json(run / "metrics.json")["history"][-1] for run in runs]
    for name in ("flops", "terms", "nonzero_terms", "saturation"):
        assert figures[0][name] == pytest.approx(figures[1][name], rel=1e-4, abs=1e-4)


def test_resumes_on_another_number_of_ranks(start: Path, alone: Path) -> None:
    output = start.parent / "resumed"
    shutil.copytree(alone, output)
    shutil.rmtree(output / "final_model")
    shutil.rmtree(output / f"checkpoint-{STEPS}")
    done = launch(start, output, 2)
    assert done.returncode == 0, done.stderr
    assert "checkpoint-10" in done.stderr
    assert read_json(output / "metrics.json")["history"][10]["step"] == 11
    assert_same(weights(output), weights(alone))


def test_different_recipes_on_the_ranks(start: Path, tmp_path: Path) -> None:
    port = free_port()
    processes = []
    for rank in range(2):
        recipe = {
            "init": str(start),
            "train": str(start.parent / "train.jsonl"),
            "output": str(tmp_path / "run"),
            "ranking": {"info_nce": 1.0},
            "lambda_flops": 0.01 * (rank + 1),
        }
        file = tmp_path / f"{rank}.yaml"
        file.write_text(yaml.safe_dump(recipe))
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        environment = {**os.environ, **place, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        processes.append(Running(["-m", "neural_sparse", "train", str(file)], environment))
    for process in processes:
        done = process.done(timeout=300)
        assert done.returncode == 2
        assert "different recipes (lambda_flops: [0.01, 0.02])" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("how", "told"), [("fails", "error: the disk of this rank is gone"), ("killed", "SIGKILL")]
)
def test_the_others_stop_when_a_rank_fails(start: Path, tmp_path: Path, how: str, told: str) -> None:
    recipe = {
        "init": str(start),
        "train": str(start.parent / "train.jsonl"),
        "output": str(tmp_path / "run"),
        "ranking": {"info_nce": 1.0},
        "num_steps": 100_000,
        "batch_size": 4,
        "num_hard_negatives": 1,
        "max_length": 32,
    }
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe))
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(  # the timeout is the test: a rank that waits for the other would wait for days
        [sys.executable, *command, str(Path(__file__).parent / "failing_rank.py"), how, "train", str(file)],
        capture_output=True,
        text=True,
        timeout=150,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode != 0
    assert told in done.stderr
    assert "rank      : 1" in done.stderr  # torchrun's report of who was first
