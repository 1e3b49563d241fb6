"""`serve --recall`: which requests are approximate, what is said of them, and what is measured anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from served import Client, running

from neural_sparse import InputError
from neural_sparse.search import index
from neural_sparse.search.budget import Budget
from neural_sparse.search.changes import changing
from neural_sparse.search.encode_corpus import encode_corpus
from neural_sparse.search.encoded import EncodedCollection
from neural_sparse.search.updating import DocumentModel
from neural_sparse.serve import System, approximate, bm25_system, changing_system, encoded_system, make_app
from neural_sparse.serve.approximate import Approximate
from neural_sparse.serve.requests import Search
from neural_sparse.serve.run import serve

QUERY = "sorted list of files"
SAMPLE = [QUERY, "open a file", "naive cafes", "return a new list"]
RECALL = 0.6


@pytest.fixture(autouse=True)
def always_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "SCORED", 0)
    monkeypatch.setattr(index, "LEAST_HITS", 2)
    monkeypatch.setattr(approximate, "DEPTHS", (4, 8, 1000))
    monkeypatch.setattr("neural_sparse.search.budget.BLOCKS", (0.1, 0.25, 0.5, 0.75, 1.0))


@pytest.fixture
def student(encoded: Path) -> System:
    return encoded_system("student", encoded, recall=RECALL, sample=SAMPLE)


@pytest.fixture
def ask(student: System) -> Iterator[Client]:
    with running(make_app([student, bm25_system(student)])) as client:
        yield client


def budgets(encoded: Path) -> dict[int, Budget]:
    """As `search --recall` has them."""
    collection = EncodedCollection(encoded)
    collection.approximate(RECALL, SAMPLE)
    assert collection.budgets is not None
    return {k: collection.budgets.of(collection.snapshot, k) for k in (4, 8)}


def test_hits_are_those_of_the_budget_of_the_next_greater_k(ask: Client, encoded: Path) -> None:
    measured = budgets(encoded)
    assert measured[4].recall != measured[8].recall
    collection = EncodedCollection(encoded)
    vector = collection.encode_queries([QUERY])
    unlike = 0
    for k, of in ((2, 4), (4, 4), (5, 8), (8, 8)):
        budget = measured[of]
        assert budget.blocks is not None
        expected = collection.snapshot.search(vector, k, blocks=budget.blocks * of / k)
        for more in ({}, {"texts": True}):
            found = ask.post("/search", query=QUERY, k=k, **more)[1]
            assert [hit["id"] for hit in found["hits"]] == expected.ids()[0]
            assert [hit["score"] for hit in found["hits"]] == pytest.approx(expected.scores[0].tolist())
            assert found["mode"] == replace(budget, blocks=budget.blocks * of / k).mode
            assert f"recall {budget.recall:.3f} of the {of} best of 4 sample queries" in found["mode"]
        unlike += expected.ids() != collection.snapshot.search(vector, k).ids()
    assert unlike, "no hit was missed: nothing tells approximate search from exact"
    text = ask("GET", "/metrics")[1].decode()
    assert 'neural_sparse_approximate_searches_total{index="student"} 8.0' in text
    assert 'searches_total{index="bm25"}' not in text


def test_what_was_not_measured_is_exact(ask: Client, encoded: Path) -> None:
    exact = EncodedCollection(encoded)
    hits = exact.search_texts([QUERY], 9)
    first = hits.ids()[0][0]
    for request, k in (
        ({"k": 1}, 1),  # less than pays
        ({"k": 9, "without": ["?"]}, 9),
        ({"k": 9, "filters": {"year": {"gte": 0}}}, 9),
    ):
        found = ask.post("/search", query=QUERY, **request)[1]
        assert found["mode"] == "exact: every posting"
        assert [hit["id"] for hit in found["hits"]] == hits.ids()[0][:k]
    assert ask.post("/search", query=QUERY, k=8, index="bm25")[1]["mode"] == "exact: every posting"
    fuse = {"index": "bm25", "depth": 8}
    mode = ask.post("/search", query=QUERY, k=1, fuse=fuse)[1]["mode"]
    assert mode.startswith("approximate, ")
    assert mode.endswith("of the 8 best of 4 sample queries; bm25: exact: every posting")
    fuse = {"index": "student", "depth": 8}
    mode = ask.post("/search", query=QUERY, k=1, index="bm25", fuse=fuse)[1]["mode"]
    assert mode.startswith("exact: every posting; student: approximate, ")
    assert first in [hit["id"] for hit in ask.post("/search", query=QUERY, k=1)[1]["hits"]]


def test_indexes_say_what_was_measured(ask: Client, encoded: Path) -> None:
    student, bm25 = ask("GET", "/indexes")[1]["indexes"]
    assert bm25["approximate"] is None
    assert {*bm25["modes"].values()} == {"exact: every posting"}
    assert student["modes"]["1000"] == ask.post("/search", query=QUERY, k=1000)[1]["mode"]
    assert (student["approximate"]["recall"], student["approximate"]["generation"]) == (RECALL, 0)
    of = {one["k"]: one for one in student["approximate"]["budgets"]}
    assert [*of] == [4, 8, 1000]
    for k, budget in budgets(encoded).items():
        assert of[k] == {"k": k, "blocks": budget.blocks, "recall": budget.recall, "queries": 4}


def test_a_deletion_does_not_make_a_mode_say_what_is_not_done(
    encoded: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many more blocks are scored as documents are gone; where that no longer pays, the search is exact."""
    shutil.copytree(encoded, tmp_path / "student")
    with changing(tmp_path / "student") as collection:
        snapshot = collection.snapshot
        collection.change([], [], lambda _: None, [snapshot.doc_id(row) for row in range(20)])  # type: ignore
        monkeypatch.setattr(index, "SCORED", 1)
        assert snapshot.mode(4, 1.5) == "approximate"  # 48 documents of 60
        assert collection.snapshot.mode(4, 1.5) == "every posting"  # 72


def test_measured_anew_when_a_tenth_has_changed(
    encoded: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(encoded, tmp_path / "student")
    with changing(tmp_path / "student") as collection:
        encode = DocumentModel(model).encode_for(collection.collection.about, tmp_path)
        system = changing_system("student", collection, encode, recall=RECALL)
        assert system.approximate is not None

        def change(texts: dict[str, str], gone: list[str]) -> bool:
            assert system.approximate is not None
            collection.change([*texts], [*texts.values()], encode, gone)
            return system.approximate.follow()

        said = system.describe()["approximate"]
        assert not change({"n1": "sort"}, ["d7"])
        assert not change({"n2": "sort a list"}, ["d8", "d9"])
        assert system.describe()["approximate"] == said  # 5 of 59
        assert system.search(Search(query=QUERY, k=8))["mode"].startswith("approximate")
        assert change({"n3": "open a file"}, [])
        again = system.describe()["approximate"]
        assert again["generation"] == collection.snapshot.generation == 3
        assert again["budgets"][0]["queries"] == 60  # one of each document that is there now
        assert not system.approximate.follow()
        assert collection.merge()
        assert not change({}, [f"d{n}" for n in range(60)] + ["../../etc/passwd", "n1", "n2", "n3"])
        assert system.search(Search(query=QUERY, k=8))["hits"] == []


def test_the_server_measures_behind_a_change(encoded: Path, model: str, tmp_path: Path) -> None:
    shutil.copytree(encoded, tmp_path / "student")
    with changing(tmp_path / "student") as collection:
        encode = DocumentModel(model).encode_for(collection.collection.about, tmp_path)
        system = changing_system("student", collection, encode, recall=RECALL)
        with running(make_app([system])) as ask:
            ids = [f"d{n}" for n in range(10, 30)]
            assert ask("DELETE", "/documents", {"ids": ids})[1]["deleted"] == 20
            # the server ends when it is done
        assert system.describe()["approximate"]["generation"] == collection.snapshot.generation > 0


def test_what_cannot_be_had_is_refused_before_the_work(
    encoded: Path, model: str, documents: list[dict[str, Any]], tmp_path: Path
) -> None:
    nowhere = str(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"above 0 and below 1, such as 0.95, not 1.5"):
        serve([nowhere], port=0, recall=1.5)
    with pytest.raises(InputError, match=r"--sample: .* such as --recall 0.95"):
        serve([nowhere], port=0, sample=tmp_path / "queries.jsonl")
    with pytest.raises(InputError, match=r"queries\.jsonl"):
        serve([nowhere], port=0, recall=0.9, sample=tmp_path / "queries.jsonl")
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "☃"}')
    with pytest.raises(InputError, match=rf"{encoded}: .* none of them has a term"):
        serve([str(encoded)], port=0, recall=0.9, sample=tmp_path / "queries.jsonl")
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, documents[:9])))
    encode_corpus(model, tmp_path / "corpus.jsonl", tmp_path / "parts", passages=8, show_progress=False)
    with pytest.raises(InputError, match="parts: documents in passages are searched exactly"):
        serve([str(encoded), str(tmp_path / "parts")], port=0, recall=0.9)


def test_a_recall_that_no_budget_reaches_is_exact(encoded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neural_sparse.search.budget.BLOCKS", (0.001,))
    found = Approximate(EncodedCollection(encoded), 0.99, SAMPLE)
    assert [found.budget(k) for k in (0, 1, 4, 8, 1000)] == [None] * 5
