"""What filling the caches takes, before and after, with tiny random teachers."""

from __future__ import annotations

import copy
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from tiny_models import TEXTS

from neural_sparse.cli import main as command_line
from neural_sparse.errors import InputError
from neural_sparse.io.resources import readable
from neural_sparse.teachers import BM25Teacher, SparseTeacher, TeacherCache
from neural_sparse.teachers.cache import EncodingJob
from neural_sparse.teachers.rows import Matrix
from neural_sparse.teachers.teach import check_disk, fill, measured, needs_of

PAIRS = np.array([[0, 0], [1, 1]])


@pytest.fixture
def teacher(tiny_model: Callable[..., Path]) -> SparseTeacher:
    return SparseTeacher(str(tiny_model("bert")), device="cpu", max_length=8)


def test_needs_shrink_to_nothing(teacher: SparseTeacher, tmp_path: Path) -> None:
    cache = TeacherCache(tmp_path)
    queries, documents = ["list", "file", "list"], [*TEXTS, TEXTS[0], "short"]
    needs = needs_of([teacher, BM25Teacher()], queries, documents, PAIRS, cache)
    assert [(need.kind, need.items, need.missing) for need in needs] == [
        ("queries", 3, 2),
        ("documents", 7, 6),
    ]
    assert not list(tmp_path.iterdir())  # the sample is not kept
    for need in needs:
        assert need.rate > 0
        assert need.seconds == need.missing / need.rate
        assert fill(need, cache) > 0
    on_disk = cache.bytes_on_disk(needs[0].job)
    assert sum(need.bytes for need in needs) == pytest.approx(on_disk, rel=0.3)
    again = needs_of([teacher], queries, [*documents, "one more"], PAIRS, cache)
    assert [need.missing for need in again] == [0, 1]
    assert again[0].seconds == again[0].bytes == 0
    assert cache.encoded == {teacher.name: 8}


def test_a_teacher_that_cuts_most_texts_is_warned_about(
    teacher: SparseTeacher, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (_, documents) = needs_of([teacher], ["list"], [*TEXTS, "short"], PAIRS, TeacherCache(tmp_path))
    assert documents.truncated == pytest.approx(5 / 6)
    assert "cuts 83 % of the documents at its limit of 8 tokens" in caplog.text


def test_rate_and_size_by_hand() -> None:
    seen: list[str] = []

    def encode(texts: list[str]) -> Matrix:
        seen.extend(texts)
        return np.zeros((len(texts), 10), np.float16)

    ticks = iter(range(1000))
    texts = [str(i).ljust(2000) for i in range(1000)]
    work = EncodingJob("t", {}, texts, encode, 16)
    rate, size = measured(work, np.arange(0, 1000, 2), clock=lambda: next(ticks))
    assert rate == 16  # a batch of 16 in each second, until three are spent
    assert size == 10 * 2 + 16
    assert len(seen) == 2 + 48
    assert all(int(text) % 2 == 0 for text in seen)


def test_short_items_are_timed_as_many_at_once_and_more_while_there_is_time() -> None:
    calls: list[list[str]] = []

    def encode(texts: list[str]) -> Matrix:
        calls.append(texts)
        return np.zeros((len(texts), 4), np.float16)

    def job(length: int) -> EncodingJob[str]:
        calls.clear()
        return EncodingJob("t", {}, [str(i).ljust(length + i % 7) for i in range(1000)], encode, 1000)

    ticks = iter(np.arange(0, 100, 0.05))
    measured(job(1000), np.arange(1000), clock=lambda: next(ticks), seconds=3)
    assert [len(texts) for texts in calls] == [
        2,
        32,
        64,
        128,
        32,
    ]  # doubled while a quarter of the time is not spent
    for texts in calls[1:]:
        assert [len(text) for text in texts] == sorted((len(text) for text in texts), reverse=True)
    measured(job(20), np.arange(1000), clock=lambda: next(ticks), seconds=3)
    assert [len(texts) for texts in calls] == [2, 256]


def test_a_teacher_travels_without_its_model(teacher: SparseTeacher) -> None:
    vectors = teacher.encode(TEXTS, "document")
    fresh = copy.copy(teacher)  # what another process is sent
    assert vars(fresh).keys() == vars(SparseTeacher("a", device="cpu")).keys() < vars(teacher).keys()
    assert abs(fresh.encode(TEXTS, "document") - vectors).max() < 1e-3


class Usage(NamedTuple):
    free: int


def test_too_small_a_disk_is_refused_before_the_start(
    teacher: SparseTeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = TeacherCache(tmp_path / "not" / "yet")
    needs = needs_of([teacher], ["list"], TEXTS, PAIRS, cache)
    needed = check_disk(cache.folder, needs)
    assert needed >= sum(need.bytes for need in needs)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(needed - 1))
    with pytest.raises(InputError, match=rf"needs about {readable(needed)} at .*not/yet, but .* are free"):
        check_disk(cache.folder, needs)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(needed))
    assert check_disk(cache.folder, needs) == needed
    assert check_disk(None, needs) == needed
    assert check_disk(tmp_path, []) == 0


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def call(*arguments: Any) -> str:
        monkeypatch.setattr(sys, "argv", ["neural-sparse", "teach", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit):
            command_line.main()
        return "".join(capsys.readouterr())

    return call


@pytest.fixture
def recipe(tiny_model: Callable[..., Path], tmp_path: Path) -> list[Any]:
    """Arguments: a recipe with a tiny sparse teacher and BM25."""
    model = tiny_model("bert")
    pairs = [{"query": text.split()[2], "pos": text} for text in TEXTS]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    file = tmp_path / "recipe.yaml"
    file.write_text(
        f"init: {model}\ntrain: [{tmp_path}/pairs.jsonl]\nteacher_cache: {tmp_path}/cache\nbf16: false\n"
        f"teachers: [{{kind: sparse, name: {model}, max_length: 64}}, {{kind: bm25}}]\n"
    )
    return [file]


def test_command(run: Callable[..., str], recipe: list[Any], tmp_path: Path) -> None:
    said = run(*recipe, "--plan")
    assert "10 to encode: about" in said
    assert not (tmp_path / "cache").exists()
    said = run(*recipe)
    assert said.count("queries") == said.count("documents") == 2  # before and after
    assert "train with teacher_cache=" in said
    files = {path: path.read_bytes() for path in (tmp_path / "cache").rglob("*.safetensors")}
    assert len(files) == 1
    assert "to encode: about" not in run(*recipe)
    more = tmp_path / "more.jsonl"
    more.write_text(json.dumps({"query": "another", "pos": TEXTS[0]}))
    assert "1 to encode: about" in run("fill", *recipe, "--data", more)
    assert "names no teachers" in run(*recipe, "teachers=[]", "ranking=info_nce")


def test_a_cluster_is_looked_for_before_anything_is_read(run: Callable[..., str], recipe: list[Any]) -> None:
    """Mining negatives and measuring teachers can take hours."""
    said = run(*recipe, "train=nowhere.jsonl", "--address", "10.0.0.1:6379")
    assert "say --engine ray, too" in said
    assert "nowhere.jsonl" in run(*recipe, "train=nowhere.jsonl")


def test_export_and_convert(run: Callable[..., str], recipe: list[Any], tmp_path: Path) -> None:
    out = tmp_path / "scores.jsonl"
    assert "no cross-encoder; choose with --teacher: " in run("export", *recipe, "--output", out)
    assert "has no teacher 'other'" in run("export", *recipe, "--output", out, "--teacher", "other")
    assert "scores of bm25 written" in run("export", *recipe, "--output", out, "--teacher", "bm25")
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["query"] for line in lines] == [text.split()[2] for text in TEXTS]
    for line, text in zip(lines, TEXTS, strict=True):
        assert text in line["docs"]
        assert len(line["scores"]) == len(line["docs"])
    (tmp_path / "queries.jsonl").write_text(
        "".join(json.dumps({"_id": f"q{i}", "text": text.split()[2]}) + "\n" for i, text in enumerate(TEXTS))
    )
    (tmp_path / "corpus.jsonl").write_text(
        "".join(json.dumps({"_id": f"d{i}", "text": text}) + "\n" for i, text in enumerate(TEXTS))
    )
    by_id = tmp_path / "scores.json.gz"
    count = sum(len(line["docs"]) for line in lines)
    assert f"{count} scores written" in run("convert", out, by_id, "--collection", tmp_path)
    run("convert", by_id, tmp_path / "again.jsonl", "--collection", tmp_path)
    assert (tmp_path / "again.jsonl").read_bytes() == out.read_bytes()
    assert "there are only texts" in run("convert", out, tmp_path / "ids.parquet")
    run("convert", by_id, tmp_path / "ids.jsonl", "--collection", tmp_path, "--ids")
    assert json.loads((tmp_path / "ids.jsonl").read_text().splitlines()[0])["query_id"] == "q0"
