"""Corpus work through an engine: whatever the order in which pieces are done, the bytes are the same."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

WORDS = [
    "sort",
    "list",
    "return",
    "file",
    "open",
    "raise",
    "error",
    "value",
    "string",
    "parse",
    "json",
    "path",
]


class Shuffled:
    """An engine that does pieces in random order."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.order: list[int] = []

    def __call__(
        self,
        start: Callable[..., Any],
        arguments: tuple[Any, ...],
        pieces: Any,
        workers: int | None = None,
        advance: Callable[[int], object] = lambda items: None,
    ) -> Iterator[tuple[Any, Any]]:
        numbered = list(enumerate(pieces))
        self.rng.shuffle(numbered)
        at_work = [start(*arguments, number) for number in range(workers or 3)]
        for number, piece in numbered:
            self.order.append(number)
            yield piece, self.rng.choice(at_work)(piece, advance)


@pytest.fixture
def engine() -> Iterator[Shuffled]:
    engine = Shuffled(7)
    yield engine
    assert engine.order != sorted(engine.order), "the test means nothing"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rng = random.Random(0)
    file = tmp_path / "corpus.jsonl"
    rows = [{"_id": f"d{n}", "text": " ".join(rng.choices(WORDS, k=rng.randint(1, 20)))} for n in range(120)]
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.suffix != ".lock"
    }


def test_encoding(engine: Shuffled, corpus: Path, tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    from neural_sparse.search.encode_corpus import encode_corpus

    settings: dict[str, Any] = {"part_bytes": 1000, "threads": 1, "show_progress": False}
    encode_corpus(str(tiny_model("bert")), corpus, tmp_path / "here", **settings)
    encode_corpus(str(tiny_model("bert")), corpus, tmp_path / "there", engine=engine, **settings)
    assert content(tmp_path / "here") == content(tmp_path / "there")


def test_counting(engine: Shuffled, corpus: Path, bert_tokenizer: Any, tmp_path: Path) -> None:
    from neural_sparse.idf.corpus import count_corpus

    settings: dict[str, Any] = {"part_bytes": 1000, "show_progress": False}
    here = count_corpus(corpus, bert_tokenizer, tmp_path / "a", workers=1, **settings)
    there = count_corpus(corpus, bert_tokenizer, tmp_path / "b", engine=engine, **settings)
    here.save(tmp_path / "here")
    there.save(tmp_path / "there")
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()


def test_teaching(engine: Shuffled, tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    from neural_sparse.config import TeacherConfig
    from neural_sparse.teachers.builder import TeacherBuilder
    from neural_sparse.teachers.cache import TeacherCache

    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(1, 20))) for _ in range(100)]
    for folder, chosen in (("here", None), ("there", engine)):
        teacher: Any = TeacherBuilder(bf16=False).teacher(
            TeacherConfig("sparse", str(tiny_model("bert")), max_length=32)
        )
        cache = TeacherCache(tmp_path / folder, block=16, engine=chosen)
        teacher.prepare(texts[:20], texts[20:], None, cache)
    assert content(tmp_path / "here") == content(tmp_path / "there")


def test_mining(engine: Shuffled, tmp_path: Path) -> None:
    from neural_sparse.data.training_set import load_training_set
    from neural_sparse.mining.miner import Miner, MiningOptions
    from neural_sparse.mining.run import mine_to_file
    from neural_sparse.mining.sources import Sources
    from neural_sparse.teachers.cache import TeacherCache

    rng = np.random.default_rng(0)
    pairs = tmp_path / "pairs.jsonl"
    rows = [
        {"query": " ".join(rng.choice(WORDS, 4)), "pos": f"{' '.join(rng.choice(WORDS, 12))} {n}"}
        for n in range(5200)
    ]
    pairs.write_text("\n".join(map(json.dumps, rows)))
    data = load_training_set([pairs], None)
    found = []
    for name, chosen in (("here.jsonl", None), ("there.jsonl", engine)):
        sources = Sources(data, TeacherCache(tmp_path / "cache"))
        options = MiningOptions(num_negatives=3, last_rank=10)
        miner = Miner(data, [sources.source("bm25")], options, None)
        found.append((mine_to_file(miner, tmp_path / name, engine=chosen), (tmp_path / name).read_bytes()))
    assert found[0] == found[1]
