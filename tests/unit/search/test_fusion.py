"""Rankings fused, against the formulas worked out by hand, and through the commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neural_sparse import InputError
from neural_sparse.cli.main import app
from neural_sparse.evaluation import read_run
from neural_sparse.search import BM25Index
from neural_sparse.search.encode_corpus import encode_corpus
from neural_sparse.search.encoded import EncodedCollection
from neural_sparse.search.fusion import fused

FIRST = {"a": 9.0, "b": 5.0, "c": 1.0}
SECOND = {"c": 2.0, "d": 2.0}


def test_reciprocal_ranks() -> None:
    found = fused([FIRST, SECOND], "rrf", [2.0, 1.0])
    assert found == {
        "c": pytest.approx(2 / 63 + 1 / 61),
        "a": pytest.approx(2 / 61),
        "b": pytest.approx(2 / 62),
        "d": pytest.approx(1 / 62),
    }
    assert list(found) == ["c", "a", "b", "d"]


def test_weighted_scores() -> None:
    found = fused([FIRST, SECOND], "minmax", [0.4, 0.6])  # all of the second are equal: 1
    assert found == {
        "c": pytest.approx(0.6),
        "d": pytest.approx(0.6),
        "a": pytest.approx(0.4),
        "b": pytest.approx(0.2),
    }
    assert list(found) == ["c", "d", "a", "b"]
    assert fused([{}, {}]) == {}
    assert list(fused([FIRST, {}])) == ["a", "b", "c"]


def test_scores_as_they_are() -> None:
    found = fused([FIRST, SECOND], "sum", [1.0, 2.0])
    assert found == {key: FIRST.get(key, 0.0) + 2.0 * SECOND.get(key, 0.0) for key in found}
    assert set(found) == {*FIRST, *SECOND}
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_refusals() -> None:
    with pytest.raises(InputError, match="choose from rrf, minmax"):
        fused([FIRST], "product")
    with pytest.raises(InputError, match="1 weights for 2 rankings"):
        fused([FIRST, SECOND], "rrf", [1.0])
    for weights in ([0.0, 0.0], [1.0, -1.0], [float("nan"), 1.0]):
        with pytest.raises(InputError, match="not all 0"):
            fused([FIRST, SECOND], "rrf", weights)


def test_queries_of_a_file_to_a_run(
    tiny_model: Callable[..., Path], texts: list[str], tmp_path: Path
) -> None:
    rows = [{"_id": f"d{n}", "text": text} for n, text in enumerate(texts)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asked = {"q1": "sort a list", "q2": "open a file", "q3": "☃"}
    lines = [json.dumps({"_id": key, "text": text}) for key, text in asked.items()]
    (tmp_path / "queries.jsonl").write_text("\n".join(lines))
    encode_corpus(str(tiny_model("bert")), tmp_path / "corpus.jsonl", tmp_path / "out", show_progress=False)
    words = ["search", str(tmp_path / "out"), "--queries", str(tmp_path / "queries.jsonl"), "-k", "3"]
    words += ["-o", str(tmp_path / "run.trec")]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0
    collection = EncodedCollection(tmp_path / "out")
    expected = collection.search_texts(list(asked.values()), 3).ids()
    assert {key: list(found) for key, found in read_run(tmp_path / "run.trec").items()} == {
        key: found for key, found in zip(asked, expected, strict=True) if found
    }
    done = CliRunner().invoke(app, [*words, "--fuse", "bm25", "--weight", "0.3"], catch_exceptions=False)
    assert done.exit_code == 0
    own = collection.search_texts(list(asked.values()), 5)
    bm25 = BM25Index.build(texts, [f"d{n}" for n in range(5)]).search_texts(list(asked.values()), 5)
    run = read_run(tmp_path / "run.trec")
    for row, key in enumerate(("q1", "q2")):
        rankings = [
            dict(zip(hits.ids()[row], hits.scores[row].tolist(), strict=False)) for hits in (own, bm25)
        ]
        assert list(run[key]) == list(fused(rankings, "rrf", [0.3, 0.7]))[:3]
    with pytest.raises(InputError, match="written to --output FILE"):
        CliRunner().invoke(app, words[:-2], catch_exceptions=False)


def test_one_query_beside_bm25(tiny_model: Callable[..., Path], texts: list[str], tmp_path: Path) -> None:
    ids = [f"d{n}" for n in range(len(texts))]
    rows = [{"_id": doc_id, "text": text} for doc_id, text in zip(ids, texts, strict=True)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    encode_corpus(str(tiny_model("bert")), tmp_path / "corpus.jsonl", tmp_path / "out", show_progress=False)
    own = EncodedCollection(tmp_path / "out").search_texts(["sort a list"], 5)
    bm25 = BM25Index.build(texts, ids, language="auto").search_texts(["sort a list"], 5)
    rankings = [dict(zip(hits.ids()[0], hits.scores[0].tolist(), strict=False)) for hits in (own, bm25)]
    both = fused(rankings, "sum", [0.1, 0.9])
    words = ["search", str(tmp_path / "out"), "-k", "3", "--fuse"]
    how = ["bm25", "--fusion", "sum", "--weight", "0.1", "sort a list"]
    done = CliRunner().invoke(app, [*words, *how], catch_exceptions=False)
    shown = [line for line in done.stdout.splitlines() if line[:3] in ("1. ", "2. ", "3. ")]
    assert shown == [f"{n}. {key}  {both[key]:.2f}" for n, key in enumerate(list(both)[:3], start=1)]
    with pytest.raises(InputError, match="a run has no ranking for another query"):
        CliRunner().invoke(app, [*words, "theirs.trec", "sort a list"], catch_exceptions=False)
