from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from neural_sparse.corpora import python_docs as module
from neural_sparse.corpora import python_docs as python_sources
from neural_sparse.corpora.python_docs import PythonDocs, documented_objects, python_docs, split_docstring
from neural_sparse.errors import InputError

pytestmark = pytest.mark.integration  # takes seconds


@pytest.fixture(scope="module")
def docs() -> PythonDocs:
    return _stdlib_and_networkx()


def _stdlib_and_networkx(**arguments: int) -> PythonDocs:
    """A corpus of two roots: quick to build, and still more than the thousand documents required."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PACKAGES", ("networkx",))
        return python_docs(**arguments)


def test_every_query_has_one_document_and_train_and_test_are_apart(docs: PythonDocs) -> None:
    collection = docs.collection
    assert len(collection.texts) == len(collection.doc_ids) == len(set(collection.doc_ids)) > 1000
    assert len(collection.queries) == len(collection.qrels) == 500
    relevant = {doc_id for grades in collection.qrels.values() for doc_id in grades}
    trained = {collection.doc_ids[row] for _, row in docs.train}
    assert len(relevant) == 500
    assert len(trained) == len(docs.train) > 500
    assert not relevant & trained
    queries = [*collection.queries.values(), *(query for query, _ in docs.train)]
    assert len({module._key(query) for query in queries}) == len(queries)
    assert not set(collection.queries) & set(collection.doc_ids)


def test_documents_are_distinct_and_do_not_contain_their_query(docs: PythonDocs) -> None:
    texts = docs.collection.texts
    assert len({module._key(text) for text in texts}) == len(texts)
    assert all(">>>" not in text and "\n----" not in text for text in texts)
    assert all(len(module._REAL_WORD.findall(text)) >= 20 for text in texts)
    row_of = {doc_id: row for row, doc_id in enumerate(docs.collection.doc_ids)}
    for query_id, query in docs.collection.queries.items():
        (doc_id,) = docs.collection.qrels[query_id]
        assert query not in texts[row_of[doc_id]]
        assert len(module._REAL_WORD.findall(query)) >= 4


def test_known_documents(docs: PythonDocs) -> None:
    queries = {docs.collection.doc_ids[row]: query for query, row in docs.train}
    for query_id, query in docs.collection.queries.items():
        queries[query_id.removeprefix("query:")] = query
    assert queries["networkx.dijkstra_path"].startswith(
        "Returns the shortest weighted path from source to target"
    )
    assert queries["json.JSONEncoder"].startswith("Extensible JSON")
    assert not any(part.startswith("_") for doc_id in docs.collection.doc_ids for part in doc_id.split("."))


def test_the_same_bytes_under_another_hash_seed(docs: PythonDocs) -> None:
    program = (
        "import hashlib, json, neural_sparse.corpora.python_docs as module\n"
        "module.PACKAGES = ('networkx',)\n"
        "docs = module.python_docs()\n"
        "print(hashlib.sha256(json.dumps([vars(docs.collection), docs.train]).encode()).hexdigest())\n"
        "import sys; print('networkx' in sys.modules)"
    )
    output = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": "77"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    here = hashlib.sha256(json.dumps([vars(docs.collection), docs.train]).encode()).hexdigest()
    assert output == [here, "False"]


def test_the_seed_changes_the_split_and_not_the_corpus(docs: PythonDocs) -> None:
    other = _stdlib_and_networkx(seed=1, n_test=50)
    assert other.collection.texts == docs.collection.texts
    assert len(other.collection.queries) == 50
    assert not set(other.collection.queries) <= set(docs.collection.queries)
    assert len(other.train) == len(docs.train) + 450


def test_bad_arguments_and_too_few_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_pairs", dict)
    with pytest.raises(InputError, match=r"pip install neural-sparse\[quickstart\]"):
        python_docs()
    pairs = {f"m.f{i}": (f"number {i} of many", f"body {i}") for i in range(1200)}
    monkeypatch.setattr(module, "_pairs", lambda: pairs)
    with pytest.raises(InputError, match="from 1 to 1199"):
        python_docs(n_test=1200)


def test_documents_that_share_a_summary_or_a_body(monkeypatch: pytest.MonkeyPatch) -> None:
    body = "words " * 30
    objects = {f"pack.f{i}": f"Return the value number {i}.\n\n{body} unique{'x' * i}" for i in range(1200)}
    objects["pack.twin"] = f"Return the value NUMBER 7!\n\n{body} own"
    objects["pack.sub.f3"] = f"Another summary of the same.\n\n{body} unique{'x' * 3}"
    monkeypatch.setattr(module, "documented_objects", lambda packages: objects)
    docs = python_docs(n_test=100)
    assert "pack.twin" in docs.collection.doc_ids
    assert "pack.sub.f3" not in docs.collection.doc_ids
    assert len(docs.train) == 1199 - 100
    asked = {docs.collection.doc_ids[row] for _, row in docs.train} | {
        query_id.removeprefix("query:") for query_id in docs.collection.queries
    }
    assert not asked & {"pack.f7", "pack.twin"}


@pytest.mark.parametrize(
    ("docstring", "summary", "body"),
    [
        ("Add two numbers.\n\nSlowly.", "Add two numbers.", "Slowly."),
        ("f(a, b) -> c\n\nAdd two numbers. Then stop.", "Add two numbers.", "Then stop."),
        ("Sum over\n    two lines.\n\nMore.", "Sum over two lines.", "More."),
        ("Use it, e.g. Here, so. After M. Smith. Yes.", "Use it, e.g. Here, so.", "After M. Smith. Yes."),
        ("Make a :class:`~pack.sub.Thing` of ``x``.\n\nB.", "Make a Thing of x.", "B."),
        ("One.\n\nA\n-----\nb\n\n>>> 1 + 1\n2\n\nc", "One.", "A\nb\n\nc"),
        ("One.\n\nSee Also\n--------\ng : Two.\n\nNotes\n-----\nn", "One.", "Notes\nn"),
        ("One.\n\nExample::\n\n    code()\n\nAfter.", "One.", "After."),
        ("One.\n\n.. versionadded:: 3\n\n.. note:: Mind it.", "One.", "Mind it."),
        ("One two.\n\nAgain: One two. End.", "One two.", "Again:  End."),
        ("", "", ""),
    ],
)
def test_split_docstring(docstring: str, summary: str, body: str) -> None:
    assert split_docstring(docstring) == (summary, body)


def test_public_names_are_the_shortest_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "pack"
    (package / "sub").mkdir(parents=True)
    (package / "__init__.py").write_text(
        "from ._hidden import shown\nfrom .sub import *\nfrom os import path\n"
    )
    (package / "_hidden.py").write_text("def shown():\n    'Shown.'\ndef unseen():\n    'Unseen.'\n")
    (package / "sub" / "__init__.py").write_text(
        "from .deep import Deep\ntry:\n    pass\nexcept E:\n    pass\n"
    )
    (package / "sub" / "deep.py").write_text(
        "class Deep:\n    'Deep.'\n    def method(self):\n        'No.'\n"
    )
    (package / "sub" / "broken.py").write_text("def (:\n")
    (package / "tests").mkdir()
    (package / "tests" / "__init__.py").write_text("def check():\n    'Check.'\n")
    (package / "run.py").write_text("raise SystemExit\ndef runs():\n    'Runs.'\ndef _no():\n    'No.'\n")
    monkeypatch.setattr(python_sources, "_roots", lambda packages: {"pack": package})
    assert documented_objects(["pack"]) == {
        "pack.shown": "Shown.",
        "pack.Deep": "Deep.",
        "pack.run.runs": "Runs.",
    }
