"""`encode --update`: only what is new or changed is encoded, and the collection is then what a fresh one would be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neural_sparse import InputError
from neural_sparse.model.pruning import Pruning
from neural_sparse.search.changes import changing
from neural_sparse.search.encode_corpus import encode_corpus
from neural_sparse.search.encoded import EncodedCollection
from neural_sparse.search.updating import DocumentModel, update_corpus


@pytest.fixture(scope="module")
def model(tiny_model: Callable[..., Path]) -> str:
    return str(tiny_model("bert"))


def write(file: Path, documents: dict[str, str]) -> Path:
    file.write_text("".join(json.dumps({"_id": key, "text": text}) + "\n" for key, text in documents.items()))
    return file


def test_an_updated_collection_is_a_fresh_one(
    model: str, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {f"d{n}": texts[n % len(texts)] + f" {n}" for n in range(20)}
    settings = {"pruning": Pruning(top_k=20), "max_length": 24, "show_progress": False}
    encode_corpus(model, write(tmp_path / "a.jsonl", before), tmp_path / "out", **settings)  # type: ignore[arg-type]
    after = {key: text for key, text in before.items() if key not in ("d3", "d4")}
    after |= {"d5": "changed", "new": "a new document", "d19": "changed, too"}
    done = update_corpus(model, write(tmp_path / "b.jsonl", after), tmp_path / "out", batch=7)
    assert (done.added, done.replaced, done.unchanged, done.deleted, done.documents) == (1, 2, 16, 0, 21)
    done = update_corpus(model, tmp_path / "b.jsonl", tmp_path / "out", delete_missing=True)
    assert (done.added, done.replaced, done.unchanged, done.deleted, done.documents) == (0, 0, 19, 2, 19)
    encode_corpus(model, tmp_path / "b.jsonl", tmp_path / "fresh", **settings)  # type: ignore[arg-type]
    updated, fresh = EncodedCollection(tmp_path / "out"), EncodedCollection(tmp_path / "fresh")
    assert sorted(updated.doc_ids) == sorted(fresh.doc_ids)
    order = fresh.index.doc_ids.rows(updated.doc_ids)
    np.testing.assert_allclose(
        updated.index.vectors().toarray(), fresh.index.vectors().toarray()[order], atol=2e-5
    )
    assert [updated.text(place) for place in range(19)] == [fresh.text(row) for row in order.tolist()]
    with changing(tmp_path / "out") as collection:  # rows that are gone, and not merged away
        collection.change(
            [], [], DocumentModel(model).encode_for(updated.about, tmp_path / "out"), updated.doc_ids[:1]
        )
    left = EncodedCollection(tmp_path / "out")
    assert [left.text(place) for place in range(18)] == [updated.text(place) for place in range(1, 19)]
    assert updated.about["documents"] == 19


def test_what_an_update_refuses(
    model: str, tiny_model: Callable[..., Path], texts: list[str], tmp_path: Path
) -> None:
    corpus = write(tmp_path / "a.jsonl", dict(zip("abcde", texts, strict=True)))
    encode_corpus(model, corpus, tmp_path / "out", show_progress=False)
    with pytest.raises(InputError, match=r"holds vectors of .*; these are of .*distilbert.* They differ in"):
        update_corpus(str(tiny_model("distilbert")), corpus, tmp_path / "out")
    with pytest.raises(InputError, match="no encoded collection"):
        update_corpus(model, corpus, tmp_path / "nothing")
    (tmp_path / "b.jsonl").write_text(corpus.read_text() + '{"_id": "a", "text": "again"}\n')
    with pytest.raises(InputError, match="'a' occurs twice"):
        update_corpus(model, tmp_path / "b.jsonl", tmp_path / "out")
    assert "segments" not in EncodedCollection(tmp_path / "out").about


def test_fields_are_kept_filtered_and_updated(model: str, texts: list[str], tmp_path: Path) -> None:
    def rows(years: dict[str, int | None]) -> Path:
        lines = [
            {
                "_id": key,
                "text": texts[n % 5],
                "metadata": {"year": year, "tags": [key[0], "all"]},
                "lang": "en",
            }
            for n, (key, year) in enumerate(years.items())
        ]
        (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, lines)))
        return tmp_path / "corpus.jsonl"

    names = ["year", "tags", "lang"]
    years: dict[str, int | None] = {f"a{n}": 2000 + n for n in range(8)} | {"b0": None}
    encode_corpus(model, rows(years), tmp_path / "out", fields=names, show_progress=False)

    def found(filters: dict[str, object]) -> set[str]:
        collection = EncodedCollection(tmp_path / "out")
        query = collection.encode_queries([" ".join(texts)])
        return set(collection.snapshot.search(query, 50, filters=filters).ids()[0])

    assert found({}) == set(years)
    assert found({"year": {"gte": 2006}}) == {"a6", "a7"}
    assert found({"tags": ["b", "c"], "lang": "en"}) == {"b0"}
    years |= {"a7": 1990, "c1": 2010}  # a changed field is a change
    done = update_corpus(model, rows(years), tmp_path / "out")
    assert (done.added, done.replaced, done.unchanged) == (1, 1, 8)
    assert found({"year": {"gte": 2006}}) == {"a6", "c1"}
    del years["a0"], years["a1"], years["a2"], years["a3"], years["a4"]
    update_corpus(model, rows(years), tmp_path / "out", delete_missing=True)  # which merges
    assert found({"year": {"lt": 2006}}) == {"a5", "a7"}
    snapshot = EncodedCollection(tmp_path / "out").snapshot
    assert len(snapshot.segments[0].index) == 3  # written anew, without those that are gone
    row = int(snapshot.find(["c1"])[0])
    assert snapshot.fields(row) == {"year": 2010, "tags": ["c", "all"], "lang": "en"}
    with pytest.raises(InputError, match="there is no field 'size'; there are year, tags, lang"):
        found({"size": 1})
    (tmp_path / "corpus.jsonl").write_text('{"_id": "x", "text": "x", "year": "1990"}')
    with pytest.raises(
        InputError, match=r"corpus\.jsonl, line 1: year is a text, and a number in this collection"
    ):
        update_corpus(model, tmp_path / "corpus.jsonl", tmp_path / "out")
    with pytest.raises(InputError, match="no document has a field 'size'"):
        encode_corpus(model, rows(years), tmp_path / "new", fields=["size"], show_progress=False)
