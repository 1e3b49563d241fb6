from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from neural_sparse.cli.compare import compare
from neural_sparse.cli.evaluate import evaluate
from neural_sparse.corpora.collection import Collection

CORPUS = {"a": "the red fox", "b": "a red hen", "c": "a blue whale sings", "d": "red fox and red hen"}
QUERIES = {"q1": "red fox", "q2": "whale song", "q3": "hen"}
QRELS = {"q1": {"a": 2, "d": 1}, "q2": {"c": 1}, "q3": {"b": 1}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Collection.of(CORPUS, QUERIES, QRELS).save(tmp_path / "animals")
    Collection.of(CORPUS, {"q1": "blue"}, {"q1": {"c": 1}}).save(tmp_path / "colours")
    return tmp_path


def call(command: object, *arguments: object) -> Result:
    app = typer.Typer()
    app.command()(command)  # type: ignore[type-var]
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_bm25_is_evaluated_kept_and_reported(folder: Path) -> None:
    done = call(evaluate, "bm25", "-c", folder / "animals", "-o", folder / "out")
    assert done.exit_code == 0, done.output
    assert "4 documents, 3 queries" in done.output
    metrics = json.loads((folder / "out" / "metrics.json").read_text())
    assert metrics["name"] == "BM25"
    assert set(metrics["means"]) == {"nDCG@10", "R@1000", "RR@10"}
    assert metrics["details"]["checks"]["soundness"]["documents"] == 4
    for file in ("per_query.json", "run.trec", "report.md", "report.html", "report.json"):
        assert (folder / "out" / file).stat().st_size > 0


def test_a_run_from_elsewhere_beside_bm25_and_their_comparison(folder: Path) -> None:
    (folder / "theirs.trec").write_text("q1 Q0 b 1 3 x\nq1 Q0 a 2 2 x\nq3 Q0 unknown 1 1 x\n")
    done = call(
        evaluate,
        "--run",
        folder / "theirs.trec",
        "-c",
        folder / "animals",
        "-o",
        folder / "theirs",
        "-m",
        "RR@10",
    )
    assert done.exit_code == 0, done.output
    metrics = json.loads((folder / "theirs" / "metrics.json").read_text())
    assert metrics["means"] == {"RR@10": pytest.approx(0.5 / 3)}
    assert metrics["details"]["unknown_documents"] == 1
    assert metrics["details"]["unanswered_queries"] == 1
    done = call(compare, folder / "theirs" / "bm25" / "animals", folder / "theirs", "-o", folder / "set")
    assert done.exit_code == 0, done.output
    assert "theirs against BM25" in done.output
    assert "whale song" in (folder / "set" / "report.html").read_text()


def test_several_collections_make_a_folder_each(folder: Path) -> None:
    done = call(
        evaluate,
        "bm25",
        "-c",
        folder / "animals",
        "-c",
        folder / "colours",
        "-o",
        folder / "out",
        "--name",
        "x",
    )
    assert done.exit_code == 0, done.output
    assert (folder / "out" / "colours" / "run.trec").is_file()
    assert json.loads((folder / "out" / "metrics.json").read_text())["mean"]["R@1000"] == 1.0
    again = call(compare, folder / "out", folder / "out", "--name", "one", "--name", "two")
    assert again.exit_code == 0, again.output
    assert "two against one" in again.output


def test_run_files_are_compared_on_a_collection(folder: Path) -> None:
    for name, doc in (("good", "a"), ("bad", "b")):
        (folder / f"{name}.trec").write_text(f"q1 Q0 {doc} 1 1 x\n")
    done = call(compare, folder / "good.trec", folder / "bad.trec", "-c", folder / "animals")
    assert done.exit_code == 0, done.output
    assert "bad against good" in done.output


def test_leaked_test_queries_are_said(folder: Path) -> None:
    (folder / "pairs.jsonl").write_text(json.dumps({"query": "Red fox!", "pos": "nothing"}) + "\n")
    done = call(evaluate, "bm25", "-c", folder / "animals", "--training", folder / "pairs.jsonl")
    assert "1 of 3 test queries are in the training texts" in done.output


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (evaluate, ["-c", "animals"], "either a model"),
        (evaluate, ["bm25", "-c", "animals", "-m", "nDGC@10"], "unknown measure"),
        (evaluate, ["bm25", "-c", "nothing-here"], "no such folder"),
        (evaluate, ["bm25", "-c", "animals", "--split", "dev"], "splits found: test"),
        (evaluate, ["--run", "r", "-c", "animals", "-c", "colours"], "one collection"),
        (compare, ["one"], "at least two"),
        (compare, ["animals", "colours"], "holds no evaluation"),
        (compare, ["none.trec", "other.trec"], "no such file"),
    ],
)
def test_bad_input_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: object, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(folder)
    done = call(command, *arguments)
    assert message in str(done.exception)
