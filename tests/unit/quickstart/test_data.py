"""Where the quickstart's training queries come from, for folders of each kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neural_sparse.errors import InputError
from neural_sparse.quickstart import data as quickstart
from neural_sparse.quickstart.data import first_sentence, quickstart_data

BODY = "It tells what happens to the value when it is read twice. Nothing at all is lost by reading number {} again."


def collection(folder: Path, documents: int = 60, titles: bool = False, train: int = 0) -> Path:
    (folder / "qrels").mkdir(parents=True)
    rows = [
        {"_id": f"d{n}", "title": f"Reading a value number {n}" if titles else "", "text": BODY.format(n)}
        for n in range(documents)
    ]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    queries = {f"q{n}": f"query for {n}" for n in range(documents)}
    (folder / "queries.jsonl").write_text(
        "".join(json.dumps({"_id": query_id, "text": text}) + "\n" for query_id, text in queries.items())
    )
    (folder / "qrels" / "test.tsv").write_text("q0\td0\t1\nq1\td1\t1\n")
    if train:
        lines = [f"q{n}\td{n}\t1\n" for n in range(train)] + ["q5\td6\t0\n", "q5\tabsent\t1\n"]
        (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
    return folder


def test_training_judgements_come_first(tmp_path: Path) -> None:
    work = quickstart_data(collection(tmp_path / "c", titles=True, train=50))
    assert work.training.documents == work.collection.texts
    # Queries that are held out are not trained on, nor what is judged 0 or names no document.
    assert work.training.queries == [f"query for {n}" for n in range(2, 50)]
    assert work.training.positives.tolist() == list(range(2, 50))
    assert "training queries" in work.origin


def test_then_titles(tmp_path: Path) -> None:
    work = quickstart_data(collection(tmp_path / "c", titles=True))
    assert work.training.queries[7] == "Reading a value number 7"
    assert work.training.documents[7] == BODY.format(7)  # the title is no longer in it
    assert work.collection.texts[7] == f"Reading a value number 7 {BODY.format(7)}"
    assert work.training.positives.tolist() == list(range(60))
    assert "titles" in work.origin


def test_then_first_sentences(tmp_path: Path) -> None:
    work = quickstart_data(collection(tmp_path / "c"))
    assert work.training.queries[7] == "It tells what happens to the value when it is read twice."
    assert work.training.documents[7] == "Nothing at all is lost by reading number 7 again."
    assert len(work.training.documents) == len(work.collection.texts)
    assert "first sentences" in work.origin


def test_too_little_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="only 31 training queries could be made; at least 32"):
        quickstart_data(collection(tmp_path / "c", documents=31))
    with pytest.raises(InputError, match="lacks qrels"):
        quickstart_data(collection_without_qrels(tmp_path / "d"))


def collection_without_qrels(folder: Path) -> Path:
    (collection(folder) / "qrels" / "test.tsv").unlink()
    return folder


def test_large_folders_are_sampled_alike_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quickstart, "MAX_TRAINING_QUERIES", 40)
    folder = collection(tmp_path / "c")
    one, other = quickstart_data(folder), quickstart_data(folder)
    assert len(one.training) == 40
    assert one.training.positives.tolist() == other.training.positives.tolist()


@pytest.mark.parametrize(
    ("text", "sentence", "rest"),
    [
        ("One. Two. Three.", "One.", "Two. Three."),
        ("Version 3.11 is out! Get it", "Version 3.11 is out!", "Get it"),
        ("no end", "no end", ""),
        ("", "", ""),
        ("첫 문장이다。둘째", "첫 문장이다。", "둘째"),
        ("Only one.", "Only one.", ""),
    ],
)
def test_first_sentence(text: str, sentence: str, rest: str) -> None:
    assert first_sentence(text) == (sentence, rest)
