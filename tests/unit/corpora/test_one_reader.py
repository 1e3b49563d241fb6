"""One collection, read by everything that reads one, against its files taken line by line."""

from __future__ import annotations

import json
import logging
import random
import shutil
from pathlib import Path

import pytest

from neural_sparse.corpora.collection import Collection, read_judged
from neural_sparse.corpora.corpus_file import read_corpus, read_documents, read_queries
from neural_sparse.corpora.hub import read_hub_layout
from neural_sparse.corpora.names import load_collection, load_queries
from neural_sparse.data.training_set import Line, collection_lines
from neural_sparse.errors import InputError


def made(folder: Path, seed: int) -> tuple[dict[str, str], dict[str, str], list[tuple[str, str, int]]]:
    """Write a collection with documents of one text, unknown ids, grades of 0; its parts as they are meant."""
    rng = random.Random(seed)
    documents = {f"d{row}": rng.choice(["one", "two", "three", f"text {row}"]) for row in range(30)}
    queries = {f"q{row}": f"query {row}" for row in range(10)}
    pairs = rng.sample([(query, doc) for query in (*queries, "q?") for doc in (*documents, "d?")], 60)
    judged = [(query, doc, rng.randint(0, 2)) for query, doc in sorted(pairs)]
    (folder / "qrels").mkdir(parents=True)
    rows = [{"_id": key, "title": "", "text": text} for key, text in documents.items()]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [json.dumps({"_id": key, "text": text}) for key, text in queries.items()]
    (folder / "queries.jsonl").write_text("\n".join(lines) + "\n")
    lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, one)) for one in judged)]
    for split in ("test", "train"):
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return documents, queries, judged


@pytest.mark.parametrize("seed", range(3))
def test_all_readers_agree(tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    documents, queries, judged = made(tmp_path / "c", seed)
    known = [(query, doc, grade) for query, doc, grade in judged if query in queries and doc in documents]
    with caplog.at_level(logging.WARNING):
        loaded = Collection.load(tmp_path / "c")
    assert "left out" in caplog.text
    assert load_collection(str(tmp_path / "c")) == loaded
    assert dict(zip(loaded.doc_ids, loaded.texts, strict=True)) == documents
    assert [
        (query, doc, grade) for query, grades in loaded.qrels.items() for doc, grade in grades.items()
    ] == known
    assert loaded.queries == {key: text for key, text in queries.items() if key in loaded.qrels}
    every, judgements = read_judged(tmp_path / "c", "test")
    assert every == queries == read_queries(tmp_path / "c" / "queries.jsonl")
    assert sum(map(len, judgements.values())) == len(judged)
    assert load_queries(str(tmp_path / "c")) == {
        key: text for key, text in queries.items() if key in judgements
    }
    assert [(key, text) for key, _, text in read_documents(tmp_path / "c" / "corpus.jsonl")] == list(
        documents.items()
    )

    rows: dict[str, int] = {}  # each text once, in the order of the documents
    lines = list(collection_lines(tmp_path / "c", lambda text: rows.setdefault(text, len(rows))))
    assert list(rows) == list(dict.fromkeys(documents.values()))
    assert lines == [Line(queries[query], rows[documents[doc]]) for query, doc, grade in known if grade > 0]

    shutil.copy(tmp_path / "c" / "qrels" / "test.tsv", tmp_path / "c" / "test.tsv")
    assert read_hub_layout("c", tmp_path / "c", tmp_path / "c", "test") == loaded


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl"])
def test_an_id_that_occurs_twice_is_named_with_its_place_everywhere(tmp_path: Path, name: str) -> None:
    made(tmp_path / "c", 0)
    file = tmp_path / "c" / name
    first = file.read_text().splitlines()[0]
    file.write_text(file.read_text() + first + "\n")
    shutil.copy(tmp_path / "c" / "qrels" / "test.tsv", tmp_path / "c" / "test.tsv")
    kind = "document" if name.startswith("corpus") else "query"
    number = len(file.read_text().splitlines())
    readers = [
        lambda: Collection.load(tmp_path / "c"),
        lambda: read_hub_layout("c", tmp_path / "c", tmp_path / "c", "test"),
        lambda: list(collection_lines(tmp_path / "c", len)),
        lambda: read_corpus(file) if kind == "document" else read_queries(file),
    ]
    for reader in readers:
        with pytest.raises(InputError, match=rf"{name}, line {number}: {kind} id '\w+' occurs twice"):
            reader()


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels/train.tsv"])
def test_what_is_missing_is_named(tmp_path: Path, name: str) -> None:
    made(tmp_path / "c", 0)
    (tmp_path / "c" / name).unlink()
    with pytest.raises(InputError, match=rf"lacks {name} \(a collection is corpus.jsonl") as raised:
        list(collection_lines(tmp_path / "c", len))
    assert ("splits found: test" in str(raised.value)) == (name == "qrels/train.tsv")
