"""`neural-sparse data`: what it prints and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neural_sparse.cli.main import app
from neural_sparse.data.registry import public_sets
from neural_sparse.errors import InputError


def run(*arguments: object) -> str:
    done = CliRunner().invoke(
        app, ["data", *map(str, arguments)], catch_exceptions=False, env={"COLUMNS": "200"}
    )
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    rows = [[f"question {n}", f"an answer of number {n}"] for n in range(20)] + [["?", "x"], ["same", "same"]]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_list_shows_every_set_and_its_licence() -> None:
    output = run("list")
    for name, entry in public_sets().items():
        assert name in output
        assert entry.licence in output


def test_prepare_and_stats(pairs: Path, tmp_path: Path) -> None:
    output = run("prepare", pairs, "--output", tmp_path / "out", "--near-duplicates", 0, "--sample", 15)
    assert "dropped 1: query or relevant document without a letter or digit (empty)" in output
    assert "dropped 1: the query is the relevant document (same_text)" in output
    assert "dropped 5: left out by --sample (not_sampled)" in output
    assert "15 examples, 15 queries, 15 documents" in output
    assert f"train={tmp_path / 'out'}" in output
    assert run("stats", tmp_path / "out").splitlines() == output.splitlines()[:-1]
    found = json.loads(run("stats", tmp_path / "out", "--json"))
    assert (found["examples"], found["sources"][0]["share"]) == (15, 1.0)
    assert found["query_words"] == {"mean": 2.0, "median": 2.0, "p95": 2.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--weights", "1,x"], "--weights 1,x: expected numbers"),
        (["--fields", "query"], "--fields query: written query=NAME"),
        (["--languages", "en,xx"], "unknown language xx"),
        (["--queries-from", "nothing"], "choose auto, title"),
        (["--decontaminate", "no-such-collection"], "no-such-collection: no such folder"),
    ],
)
def test_refuses(pairs: Path, tmp_path: Path, options: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run("prepare", pairs, "--output", tmp_path / "out", *options)


def test_stats_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no prepared data; make them with"):
        run("stats", tmp_path)
