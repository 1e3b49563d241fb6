"""What `adapt` cannot work with is refused before the work, and what is not a document does not count."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from neural_sparse import NeuralSparseEncoder
from neural_sparse.adapt.corpus import clean_corpus, documents_at
from neural_sparse.adapt.run import adapt
from neural_sparse.adapt.settings import AdaptSettings, corpus_sum
from neural_sparse.errors import InputError


def lines(file: Path, rows: list[dict[str, str]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def documents(count: int, body: str = "and what it does there") -> list[dict[str, str]]:
    return [{"_id": f"d{n}", "title": f"Title {n}", "text": f"number {n} {body} " * 3} for n in range(count)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "texts"
    (found / ".venv").mkdir(parents=True)
    (found / ".venv" / "licence.md").write_text("All rights reserved.")
    for number in range(6):
        (found / f"{number}.md").write_text(f"# Heading {number} of many\n\nText {number}.")
    return found


@pytest.mark.parametrize("bad", ["two\nlines", "a\ttab", " space"])
def test_ids_that_no_run_file_holds_are_refused_while_documents_are_read(bad: str, tmp_path: Path) -> None:
    corpus = lines(tmp_path / "corpus.jsonl", [*documents(5), {"_id": bad, "text": "one more"}])
    with pytest.raises(InputError, match="give the documents and queries other ids"):
        clean_corpus(corpus, tmp_path / "clean.jsonl")


def test_ids_of_queries_are_looked_at_before_documents_are_read(tmp_path: Path) -> None:
    queries = lines(tmp_path / "queries.jsonl", [{"_id": "q\t1", "text": "title"}])
    qrels = tmp_path / "qrels.tsv"
    qrels.write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\n")
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("not JSON")
    with pytest.raises(InputError, match="run file cannot hold the id"):
        adapt(AdaptSettings(corpus, queries, qrels), tmp_path / "out", Console(file=io.StringIO()))


def test_documents_of_a_folder_are_its_texts(folder: Path) -> None:
    before = corpus_sum(folder)
    (folder / "notes.log").write_text("no document")
    (folder / ".venv" / "readme.md").write_text("hidden")
    assert [one.doc_id for one in documents_at(folder)] == [f"{number}.md" for number in range(6)]
    assert corpus_sum(folder) == before
    (folder / "6.MD").write_text("one more")
    assert corpus_sum(folder) != before


def test_an_output_among_the_documents_is_refused(folder: Path) -> None:
    output = folder / "outputs" / "mine"
    with pytest.raises(InputError, match="choose an --output elsewhere"):
        adapt(AdaptSettings(folder), output, Console(file=io.StringIO()))
    assert not output.parent.exists()


def test_near_copies_make_no_queries(doc_only_model: NeuralSparseEncoder, tmp_path: Path) -> None:
    doc_only_model.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    rows = [{**one, "title": "Always the same"} for one in documents(9)]
    settings = AdaptSettings(lines(tmp_path / "corpus.jsonl", rows), init=str(tmp_path / "model"))
    with pytest.raises(InputError, match="at least three that are not nearly the same"):
        adapt(settings, tmp_path / "out", Console(file=io.StringIO()))
