"""`neural-sparse refresh` on an index and on a model: counted, judged, versioned, and back again."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neural_sparse import NeuralSparseEncoder
from neural_sparse.cli import main as command_line
from neural_sparse.errors import InputError
from neural_sparse.idf import compute_idf_weights, idf_weights
from neural_sparse.io.files import read_json
from neural_sparse.query import QueryEncoder
from neural_sparse.refresh import RefreshSettings, Versions, drift, refresh, run
from neural_sparse.refresh.judging import Searched, decide, judge, made_queries
from neural_sparse.search.encode_corpus import encode_corpus
from neural_sparse.search.encoded import EncodedCollection

RNG = random.Random(3)
OLD_WORDS = [
    "sorted",
    "list",
    "file",
    "open",
    "stream",
    "error",
    "return",
    "new",
    "items",
    "ascending",
    "order",
    "read",
    "raise",
]
NEW_WORDS = [
    "fox",
    "dog",
    "lazy",
    "jumps",
    "quick",
    "brown",
    "cats",
    "watch",
    "parse",
    "document",
    "string",
    "build",
    "python",
    "objects",
]


def documents(words: list[str], count: int, name: str) -> list[dict[str, str]]:
    return [
        {
            "_id": f"{name}{number}",
            "title": " ".join(RNG.sample(words, 3)),
            "text": f"{' '.join(RNG.choices(words, k=9))}. {' '.join(RNG.choices(words, k=12))}",
        }
        for number in range(count)
    ]


OLD, NEW = documents(OLD_WORDS, 40, "old"), documents(NEW_WORDS, 30, "new")


def write(file: Path, rows: Iterable[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def whole(rows: list[dict[str, str]]) -> list[str]:
    return [f"{row['title']} {row['text']}" for row in rows]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "SECONDS", 0.01)


@pytest.fixture(scope="module")
def made(tiny_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model whose query weights are its documents' IDF, their index, and new documents."""
    folder = tmp_path_factory.mktemp("refresh")
    model = NeuralSparseEncoder(tiny_model("bert"), 32, own_words=2.0)
    model.set_query_weights(compute_idf_weights(whole(OLD), model.tokenizer, show_progress=False))
    model.save_pretrained(str(folder / "model"), create_model_card=False)
    write(folder / "old.jsonl", OLD)
    write(folder / "new.jsonl", NEW)
    write(
        folder / "queries.jsonl", ({"_id": f"q{n}", "text": row["title"]} for n, row in enumerate(OLD + NEW))
    )
    judged = "".join(f"q{n}\t{row['_id']}\t1\n" for n, row in enumerate(OLD + NEW))
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    encode_corpus(
        str(folder / "model"), folder / "old.jsonl", folder / "index", workers=1, show_progress=False
    )
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_an_index_and_the_way_back(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, output = files(made / "index"), tmp_path / "query"
    settings = RefreshSettings(
        str(made / "index"), made / "new.jsonl", queries=made / "queries.jsonl", qrels=made / "qrels.tsv"
    )
    found = refresh(settings, output)
    assert (found.version, found.used) == (2, True)
    assert files(made / "index") == before  # nothing but the query side is written
    tokenizer = EncodedCollection(made / "index").tokenizer
    expected = compute_idf_weights(whole(OLD + NEW), tokenizer, show_progress=False)
    np.testing.assert_allclose(
        QueryEncoder(output / "current" / "query").weights,
        idf_weights(dict(expected), tokenizer).vector,
        rtol=1e-5,
    )
    assert [one.group for one in found.judged] == ["kept", "made of new documents", "made of old documents"]
    kept, of_new, _ = (one.comparison for one in found.judged)
    assert (kept.queries, of_new.queries) == (70, 30)
    about = read_json(output / "current" / "refresh.json")
    assert (about["version"], about["from"], about["old_documents"], about["new_documents"]) == (2, 1, 40, 30)
    assert about["moved"]["first_seen"][0]["token"] in NEW_WORDS
    assert found.drift.warnings  # all words are other ones
    assert about["retraining_seconds"]["train"] > 0
    said = capsys.readouterr().out
    assert "training and encoding anew would take" in " ".join(said.split())
    assert not list(tmp_path.glob(".*"))

    with pytest.raises(InputError, match="was counted before, in version 2"):
        refresh(settings, output)
    more = write(tmp_path / "more.jsonl", documents(OLD_WORDS, 20, "more"))
    again = refresh(RefreshSettings(str(made / "index"), more), output)
    counts = read_json(again.folder / "refresh.json")
    assert (again.version, counts["from"], counts["old_documents"]) == (3, 2, 70)

    def back(*more: str) -> str:
        arguments = ["neural-sparse", "refresh", str(made / "index"), "-o", str(output), "--rollback", *more]
        monkeypatch.setattr(sys, "argv", arguments)
        command_line.main()
        return capsys.readouterr().out

    with pytest.raises(SystemExit) as ended:
        back()
    assert (ended.value.code, Versions(output).current) == (0, 2)
    with pytest.raises(SystemExit):
        back("--to", "1")
    np.testing.assert_array_equal(
        QueryEncoder(output / "current" / "query").weights, NeuralSparseEncoder(made / "model").query_weights
    )


def test_documents_that_the_index_holds_are_replaced(made: Path, tmp_path: Path) -> None:
    """Ten of forty have another text now, five are sent again as they are."""
    changed = [{**row, "text": " ".join(NEW_WORDS)} for row in OLD[:10]]
    new = write(tmp_path / "changed.jsonl", changed + OLD[10:15])
    found = refresh(RefreshSettings(str(made / "index"), new), tmp_path / "query")
    tokenizer = EncodedCollection(made / "index").tokenizer
    expected = compute_idf_weights(whole(changed + OLD[10:]), tokenizer, show_progress=False)
    refreshed = read_json(found.folder / "idf.json")
    assert refreshed["fox"] == pytest.approx(expected["fox"])
    assert refreshed["sorted"] == pytest.approx(expected["sorted"], rel=1e-5)


def test_a_model_with_its_documents(made: Path, tmp_path: Path) -> None:
    settings = RefreshSettings(str(made / "model"), made / "new.jsonl", corpus=made / "old.jsonl", sample=25)
    of_model = refresh(settings, tmp_path / "a")
    of_index = refresh(RefreshSettings(str(made / "index"), made / "new.jsonl"), tmp_path / "b")
    assert read_json(of_model.folder / "idf.json") == read_json(of_index.folder / "idf.json")
    assert of_model.judged[0].comparison.queries <= 25
    with pytest.raises(InputError, match="name them with --corpus"):
        refresh(RefreshSettings(str(made / "model"), made / "new.jsonl"), tmp_path / "c")
    other = NeuralSparseEncoder(made / "model")
    other.set_query_weights(dict.fromkeys(other.idf_table(), 2.0))
    other.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    more = write(tmp_path / "more.jsonl", documents(OLD_WORDS, 20, "more"))
    settings = RefreshSettings(str(tmp_path / "model"), more, corpus=made / "old.jsonl")
    with pytest.raises(InputError, match="made anew since"):
        refresh(settings, tmp_path / "a")


def test_bad_input_is_refused(made: Path, tmp_path: Path) -> None:
    index, new = str(made / "index"), made / "new.jsonl"
    with pytest.raises(InputError, match="--qrels is missing"):
        RefreshSettings(index, new, queries=made / "queries.jsonl")
    with pytest.raises(InputError, match="no such file"):
        RefreshSettings(index, tmp_path / "nowhere.jsonl")
    qrels = tmp_path / "qrels.tsv"
    qrels.write_text("query-id\tcorpus-id\tscore\nq0\telsewhere\t1\n")
    settings = RefreshSettings(index, new, queries=made / "queries.jsonl", qrels=qrels)
    with pytest.raises(InputError, match="do the ids agree"):
        refresh(settings, tmp_path / "query")
    assert not (tmp_path / "query").exists()


def test_made_queries_leave_near_duplicates_out() -> None:
    from neural_sparse.adapt.corpus import Text

    rows = [Text(row["_id"], row["title"], row["text"]) for row in OLD]
    copies = [Text(f"copy-{one.doc_id}", one.title, f"{one.text} more") for one in rows[:5]]
    found = made_queries([*rows, *copies], seed=1)
    assert len(found.queries) == 40
    assert found.left_out == {one.doc_id for one in copies}
    texts = {row["_id"]: f"{row['title']} {row['text']}" for row in OLD}
    for key, query in found.queries.items():
        doc_id = key.removeprefix("made-")
        assert query in texts[doc_id]
        assert query not in found.hidden[doc_id]


def test_worse_weights_are_written_and_not_used(made: Path) -> None:
    index = EncodedCollection(made / "index")
    good = index.encode_queries(whole(OLD)).max(axis=0).toarray().ravel()
    texts = whole(OLD)
    ids = [row["_id"] for row in OLD]
    searched = Searched(ids, texts, index.index.vectors())
    asked = {f"q{row}": text for row, text in enumerate(texts)}
    qrels = {f"q{row}": {doc_id: 1} for row, doc_id in enumerate(ids)}
    bad = np.where(np.arange(len(good)) % 3 == 0, good, 0).astype(np.float32)
    (one,) = judge({"kept": (searched, asked, qrels)}, index.tokenizer, good, bad)
    assert one.mark == -1
    assert decide([one])[0] is False
    (other,) = judge({"kept": (searched, asked, qrels)}, index.tokenizer, bad, good)
    assert decide([other]) == (True, "the new weights are better, and not by chance, on queries kept")
    assert decide([])[0] is True


def test_what_is_not_to_be_used_stands_beside(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "decide", lambda judged: (False, "worse"))
    settings = RefreshSettings(str(made / "index"), made / "new.jsonl")
    found = refresh(settings, tmp_path / "query")
    assert (found.used, Versions(tmp_path / "query").current) == (False, 1)
    assert (found.folder / "query" / "tokenizer.json").is_file()
    forced = refresh(replace(settings, force=True), tmp_path / "query")
    assert (forced.version, Versions(tmp_path / "query").current) == (3, 3)
