"""Bad inputs through the commands themselves: no traceback, the same verdict, and the file and line in each message."""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_readers_agree import GOOD, QRELS, faults, write

from neural_sparse.cli import main as command_line

pytestmark = pytest.mark.integration  # for it takes a minute
Commands = Callable[[Path, Path, str], dict[str, list[Any]]]


def _train(at: Path, work: Path, model: str, *, data: Path | None = None) -> list[Any]:
    settings = ["teachers=[{kind: bm25}]", "num_steps=1", "warmup_steps=0", "batch_size=2", "max_length=16"]
    return ["tiny-cpu", f"init={model}", f"train={data or at}", f"output={work}/run", *settings]


def _collection(at: Path, work: Path, model: str) -> dict[str, list[Any]]:
    """What reads a whole collection."""
    return {
        "train": ["train", *_train(at, work, model)],
        "sweep": ["sweep", *_train(at, work, model), "lambda_flops=0.1,0.2", "-c", at, "--split", "test"],
        "teach": ["teach", "fill", *_train(at, work, model)],
        "plan": ["plan", *_train(at, work, model)],
        "mine": ["mine", at, "-o", work / "mined.jsonl"],
        "data prepare": ["data", "prepare", at, "--output", work / "out"],
    }


def _judged(at: Path, work: Path, model: str) -> dict[str, list[Any]]:
    """What reads the test judgements with it."""
    return {
        "evaluate": ["evaluate", "bm25", "-c", at],
        "judge-teachers": ["judge-teachers", "-c", at, "--split", "test", "-t", "bm25"],
        "quickstart": ["quickstart", "--data", at, "--output", work / "quick", "--steps", 1],
        "export": ["export", model, "-o", work / "export", "-c", at],
    }


def _pairs(name: str) -> Commands:
    return lambda at, work, model: {
        "train": ["train", *_train(at, work, model, data=at / name)],
        "teach": ["teach", "fill", *_train(at, work, model, data=at / name)],
        "plan": ["plan", *_train(at, work, model, data=at / name)],
        "mine": ["mine", at / name, "-o", work / "mined.jsonl"],
        "data prepare": ["data", "prepare", at / name, "--output", work / "out"],
    }


COMMANDS: dict[str, Commands] = {
    "corpus.jsonl": lambda at, work, model: {
        **_collection(at, work, model),
        **_judged(at, work, model),
        "adapt": ["adapt", at, "--init", model, "-t", "bm25", "--output", work / "adapt"],
        "encode": ["encode", model, "--corpus", at, "--output", work / "index"],
        "refresh": ["refresh", model, at, "--corpus", at, "--output", work / "query"],
        "export of vectors": ["export", model, "-f", "rank_features", "--corpus", at, "-o", work / "bulk"],
    },
    "queries.jsonl": lambda at, work, model: {
        **_collection(at, work, model),
        **_judged(at, work, model),
        "adapt": [
            *("adapt", at / "corpus.jsonl", "--init", model, "-t", "bm25", "--output", work / "adapt"),
            *("--queries", at / "queries.jsonl", "--qrels", at / "qrels" / "test.tsv"),
        ],
        "refresh": [
            *(
                "refresh",
                model,
                at / "corpus.jsonl",
                "--corpus",
                at / "corpus.jsonl",
                "--output",
                work / "query",
            ),
            *("--queries", at / "queries.jsonl", "--qrels", at / "qrels" / "test.tsv"),
        ],
    },
    "qrels/train.tsv": _collection,
    "pairs.jsonl": _pairs("pairs.jsonl"),
    "scores.jsonl": lambda at, work, model: {
        "convert": ["teach", "convert", at / "scores.jsonl", work / "scores.json", "--collection", at],
        "data prepare": ["data", "prepare", at / "scores.jsonl", "--output", work / "out"],
        "train": ["train", *_train(at, work, model, data=at / "scores.jsonl")],
    },
    "run.trec": lambda at, work, model: {"evaluate --run": ["evaluate", "--run", at / "run.trec", "-c", at]},
}


@pytest.mark.parametrize("kind", GOOD)
def test_every_command_refuses_it_and_says_where(
    kind: str,
    tiny_model: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, tried = str(tiny_model("bert")), 0
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    for name, content, place in faults(kind, random.Random(len(kind))):
        if place is None:  # accepted: what it means is compared elsewhere
            continue
        folder = tmp_path / f"at-{tried}"
        for good in ("corpus.jsonl", "queries.jsonl", "qrels/train.tsv"):
            write(folder / good, GOOD[good])
        write(folder / "qrels" / "test.tsv", QRELS)
        (folder / kind).write_bytes(content)
        for command in COMMANDS[kind](folder, tmp_path, model):
            tried += 1
            work = tmp_path / f"work-{tried}"
            work.mkdir()
            arguments = COMMANDS[kind](folder, work, model)[command]
            monkeypatch.setattr(sys, "argv", ["neural-sparse", *map(str, arguments)])
            with pytest.raises(SystemExit) as caught:  # anything else would be a traceback
                command_line.main()
            printed = capsys.readouterr()
            told = printed.out + printed.err
            case = (kind, name, command, told)
            # A sweep goes on with its other runs, notes why each failed, and ends with 1.
            assert caught.value.code == 2 or (command == "sweep" and caught.value.code == 1), case
            assert Path(kind).name in told, case
            assert re.search(place, told, re.DOTALL), case
            assert "Traceback" not in told, case
    assert tried >= {"corpus.jsonl": 200, "queries.jsonl": 150}.get(kind, 3)
