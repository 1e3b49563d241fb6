"""`search --recall` and `evaluate --recall`: what was measured is said, and what cannot be approximate is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neural_sparse.cli.main import app
from neural_sparse.corpora.collection import Collection
from neural_sparse.errors import InputError
from neural_sparse.evaluation import Evaluation
from neural_sparse.search import index
from neural_sparse.search.encode_corpus import encode_corpus
from neural_sparse.search.encoded import EncodedCollection

MEASURED = r"approximate, [\d.]+ blocks a hit: recall (0\.[89]\d\d|1\.000) of the 2 best of {} sample queries"


@pytest.fixture
def model(tiny_model: Callable[..., Path]) -> str:
    return str(tiny_model("bert"))


@pytest.fixture
def corpus(texts: list[str], tmp_path: Path) -> Path:
    file = tmp_path / "corpus.jsonl"
    rows = [
        {"_id": f"d{row}", "text": f"{texts[row % 5]} {texts[row // 5 % 5][row % 16 :]}", "year": row}
        for row in range(64)
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


@pytest.fixture(autouse=True)
def always_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "SCORED", 0)
    monkeypatch.setattr(index, "LEAST_HITS", 1)


def said(*words: object) -> str:
    return " ".join(
        CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False).output.split()
    )


def test_a_search_says_what_it_measured(model: str, corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "encoded"
    encode_corpus(model, corpus, folder, fields=("year",), show_progress=False)
    words = ("search", folder, "-k", 2, "--recall", 0.8)
    assert re.search(r"ms, " + MEASURED.format(64), said(*words, "sort a list"))
    assert "ms, exact: every posting" in said(*words, "sort a list", "--filter", "year>=3")
    assert "ms, approximate" in said(*words, "sort a list", "--fuse", "bm25")
    queries = tmp_path / "queries.jsonl"
    queries.write_text(
        "".join(json.dumps({"_id": f"q{n}", "text": f"sort a list {n}"}) + "\n" for n in range(5))
    )
    to_file = ("--queries", queries, "--output", tmp_path / "run.trec")
    assert re.search(MEASURED.format(5), said(*words, *to_file))
    assert "(exact: every posting)" in said(*words[:-2], *to_file)
    with pytest.raises(InputError, match=r"above 0 and below 1, such as 0.95, not 1.5"):
        said("search", tmp_path / "nowhere", "--recall", 1.5, "a")  # before anything is read

    collection = EncodedCollection(folder)
    collection.approximate(0.8, ["sort a list"])
    assert collection.blocks(2) is not None
    assert "of 1 sample queries" in collection.mode(2)
    exact = EncodedCollection(folder).search_texts(["sort a list"], 64)
    scores = dict(zip(exact.docs[0].tolist(), exact.scores[0].tolist(), strict=True))
    found = collection.search_texts(["sort a list"], 2)
    assert [scores[doc] for doc in found.docs[0].tolist()] == found.scores[0].tolist()


def test_documents_in_passages_are_searched_exactly(model: str, corpus: Path, tmp_path: Path) -> None:
    encode_corpus(model, corpus, tmp_path / "parts", passages=8, show_progress=False)
    with pytest.raises(InputError, match="passages are searched exactly"):
        said("search", tmp_path / "parts", "--recall", 0.9, "a list")


def test_an_evaluation_says_what_it_measured(model: str, corpus: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in corpus.read_text().splitlines()]
    queries = {f"q{row}": one["text"].split(";")[0] for row, one in enumerate(rows[:6])}
    qrels = {query: {f"d{row}": 1} for row, query in enumerate(queries)}
    Collection.of({one["_id"]: one["text"] for one in rows}, queries, qrels).save(tmp_path / "docs")
    output = tmp_path / "out"
    words = ("evaluate", model, "-c", tmp_path / "docs", "--k", 2, "-o", output)
    told = said(*words, "--recall", 0.8)
    measured = MEASURED.format(6)
    assert re.search("searched for 2 hits: " + measured, told)
    result = Evaluation.load(output)
    assert re.fullmatch(measured, result.details["search"])
    assert result.latency is not None
    assert result.latency.mode.startswith("approximate, ")
    assert re.search(r" on docs: " + measured, (output / "report.md").read_text())
    said(*words)
    assert Evaluation.load(output).details["search"] == "every posting"
    for other in (("--passages", 9), ("--run", "x.trec")):
        start = words[:1] + words[2:] if other[0] == "--run" else words
        with pytest.raises(InputError, match="whole documents are searched approximately"):
            said(*start, "--recall", 0.8, *other)
