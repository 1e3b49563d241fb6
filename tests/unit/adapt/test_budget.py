"""What fits into a budget, the settings, and stages that are whole or absent."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from neural_sparse.adapt.budget import (
    LEAST_DOCUMENTS,
    LEAST_STEPS,
    plan,
    seconds_of_training,
    steps_within,
    too_small,
)
from neural_sparse.adapt.estimate import Estimate
from neural_sparse.adapt.quickstart import quickstart_settings
from neural_sparse.adapt.settings import AdaptSettings, parse_budget
from neural_sparse.adapt.stages import Stages
from neural_sparse.cli.judge_teachers import parse_teacher
from neural_sparse.config import TeacherConfig
from neural_sparse.errors import InputError

MEASURED = Estimate(
    teachers=100.0, training=10.0, evaluating=60.0, once=20.0
)  # of 8,000 documents and 10 steps


def test_steps_fill_the_time_that_is_left() -> None:
    found = plan(900, 30, MEASURED, steps=10, documents=8000)
    assert (found.documents, found.train, found.seconds_per_step) == (8000, True, 1.0)
    steps = steps_within(900 - 150, found, pairs=5000, batch_size=32)
    assert 500 < steps < 600
    assert steps + found.evaluating < 750
    assert steps_within(900 - 150, found, pairs=200, batch_size=32) == 63  # ten times through the pairs
    assert steps_within(60, found, pairs=5000, batch_size=32) == 0


def test_a_large_corpus_is_sampled_and_a_small_budget_trains_nothing() -> None:
    million = plan(900, 100, Estimate(12_500.0, 10.0, 7_500.0), steps=10, documents=1_000_000)
    assert million.train
    assert LEAST_DOCUMENTS < million.documents < 30_000
    short = plan(180, 30, MEASURED, steps=10, documents=8000)
    assert 1000 <= short.documents < 8000
    none = plan(120, 40, Estimate(100.0, 100.0, 60.0), steps=10, documents=8000)
    assert not none.train
    assert none.documents == 8000  # encoded once, they fit
    assert f"{LEAST_STEPS} steps" in none.reason
    tiny = too_small(30, 5)
    assert tiny is not None
    assert not tiny.train
    assert too_small(900, 5) is None


def test_settings_are_checked_before_the_work(tmp_path: Path) -> None:
    assert [parse_budget(text) for text in ("90s", "30m", "1.5h", "20")] == [90, 1800, 5400, 1200]
    for bad in ("soon", "0m", "-3m"):
        with pytest.raises(InputError, match="write a time such as"):
            parse_budget(bad)
    there = tmp_path / "corpus.jsonl"
    there.write_text("{}")
    with pytest.raises(InputError, match="no such file"):
        AdaptSettings(tmp_path / "nowhere")
    with pytest.raises(InputError, match="--qrels is missing"):
        AdaptSettings(there, queries=there)
    with pytest.raises(InputError, match="not cross-encoder"):
        AdaptSettings(there, teachers=(TeacherConfig("cross-encoder", "a/b"),))
    for bad in ({"target_flops": 0.0}, {"times_bm25": -1.0}):
        with pytest.raises(InputError, match="above 0"):
            AdaptSettings(there, **bad)
    with pytest.raises(InputError, match="--queries, which are missing"):
        AdaptSettings(there, train_qrels=there)
    before = AdaptSettings(there).describe()
    there.write_text("{ }")
    assert AdaptSettings(there).describe() != before


def test_teachers_behind_an_endpoint_keep_their_settings(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("{}")
    file = tmp_path / "teacher.yaml"
    file.write_text(
        "kind: endpoint\nname: e5\nurl: https://models.example.org/v1\napi_key_env: MODELS_KEY\n"
        "query_prompt: 'query: '\nprice_per_million_tokens: 0.02\n"
    )
    teacher = parse_teacher(f"endpoint:{file}=0.6")
    assert (teacher.weight, teacher.url, teacher.query_prompt) == (
        0.6, "https://models.example.org/v1", "query: "
    )  # fmt: skip
    settings = AdaptSettings(corpus, teachers=(teacher, TeacherConfig("bm25")))
    kept = json.loads(json.dumps(settings.describe()["teachers"]))
    assert [TeacherConfig(**one) for one in kept] == list(settings.teachers)
    assert "MODELS_KEY" in str(kept)
    other = AdaptSettings(corpus, teachers=(parse_teacher("endpoint:e5@http://127.0.0.1:8080/v1"),))
    assert other.describe()["teachers"][0]["url"] == "http://127.0.0.1:8080/v1"
    with pytest.raises(InputError, match="no such file"):
        AdaptSettings(corpus, query_log=tmp_path / "nowhere.jsonl")


def test_the_start_reads_as_much_where_it_teaches(tmp_path: Path) -> None:
    teachers = (TeacherConfig("sparse", "a/b"), TeacherConfig("sparse", "c/d", max_length=64))
    settings = AdaptSettings(tmp_path, init="a/b", teachers=teachers).reading(200)
    assert settings.max_length == 200
    assert [one.max_length for one in settings.teachers] == [200, 64]


def test_what_the_quickstart_asks_for(tmp_path: Path) -> None:
    embedded = quickstart_settings()
    assert (str(embedded.corpus), embedded.queries_from, embedded.queries) == ("python-docs", "titles", None)
    assert "numpy " in embedded.describe()["corpus_sum"]
    assert all(embedded.is_start(one) == (one.kind == "sparse") for one in embedded.teachers)
    assert embedded.reading(512).teachers == embedded.teachers  # nothing is encoded twice
    with pytest.raises(InputError, match="no such file or folder"):
        quickstart_settings(tmp_path / "nowhere")
    folder = tmp_path / "mine"
    (folder / "qrels").mkdir(parents=True)
    alone = quickstart_settings(folder, 7)
    assert (alone.steps, alone.queries, alone.queries_from) == (7, None, "documents")
    (folder / "qrels" / "test.tsv").touch()
    with pytest.raises(InputError, match=r"queries.jsonl: no such file"):
        quickstart_settings(folder)
    (folder / "queries.jsonl").touch()
    judged = quickstart_settings(folder)
    assert (judged.qrels, judged.train_qrels) == (folder / "qrels" / "test.tsv", None)
    (folder / "qrels" / "train.tsv").touch()
    trained = quickstart_settings(folder)
    assert trained.train_qrels == folder / "qrels" / "train.tsv"
    assert judged.describe() != trained.describe()


def test_training_may_take_what_evaluation_leaves() -> None:
    found = plan(900, 30, MEASURED, steps=10, documents=8000)
    seconds = seconds_of_training(750, found)
    assert steps_within(750, found, pairs=5000, batch_size=32) * found.seconds_per_step < seconds < 750
    assert seconds_of_training(10, found) == 1.0


def test_a_finished_stage_is_not_made_again(tmp_path: Path) -> None:
    console = Console(quiet=True)
    stages = Stages(tmp_path / "out", {"seed": 1}, console, 60.0)
    assert stages("one", "First", lambda: {"found": 1}) == {"found": 1}
    with pytest.raises(RuntimeError):
        stages("two", "Second", _fail)
    again = Stages(tmp_path / "out", {"seed": 1}, console, 60.0)
    assert again("one", "First", _fail) == {"found": 1}
    assert again.spent == stages.spent
    assert again("two", "Second", lambda: 2) == 2
    with pytest.raises(InputError, match="seed: 1 -> 2"):
        Stages(tmp_path / "out", {"seed": 2}, console, 60.0)
    (tmp_path / "other").mkdir()
    np.save(tmp_path / "other" / "something.npy", np.zeros(1))
    with pytest.raises(InputError, match="something else"):
        Stages(tmp_path / "other", {}, console, 60.0)


def test_what_is_left_is_said_only_of_a_budget(tmp_path: Path) -> None:
    for budget, left in ((60.0, True), (None, False)):
        console = Console(file=io.StringIO(), width=100)
        Stages(tmp_path / str(budget), {}, console, budget)("one", "First", lambda: 1)
        assert (" left" in console.file.getvalue()) == left  # type: ignore[attr-defined]


def _fail() -> None:
    raise RuntimeError
