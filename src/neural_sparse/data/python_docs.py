"""A corpus every installation already has: the documentation of Python and its scientific packages.

One document per public function or class: its docstring without the summary, which is the query.
Sources are parsed, never imported, so nothing of theirs runs and the same packages give the same bytes.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from neural_sparse.data.collection import Collection
from neural_sparse.data.docstrings import split_docstring
from neural_sparse.data.python_sources import documented_objects
from neural_sparse.errors import InputError

PACKAGES = ("numpy", "scipy", "pandas", "sklearn", "networkx", "sympy", "matplotlib", "torch")
MIN_DOCUMENTS = 1000
MIN_BODY_WORDS = 20
SUMMARY_WORDS = range(4, 41)

_NOT_WORD = re.compile(r"[\W_]+")
_REAL_WORD = re.compile(r"[^\W\d_]{2,}")


@dataclass(frozen=True)
class PythonDocs:
    """The corpus with its test queries, and the training queries that search the same corpus.

    Attributes:
        collection: All documents; the test queries, each with one relevant document.
        train: (query text, row of its document in `collection.texts`).
    """

    collection: Collection
    train: list[tuple[str, int]]


def python_docs(seed: int = 0, n_test: int = 500) -> PythonDocs:
    """Build the corpus from the standard library and those of `PACKAGES` that are installed.

    A document whose summary is also another's stays in the corpus without a query: a search for it could not
    tell which one is meant.

    Args:
        seed: Of the split into test and training queries.
        n_test: Test queries.

    Raises:
        InputError: fewer than 1,000 documents, or no training query would be left.
    """
    pairs = _pairs()
    if len(pairs) < MIN_DOCUMENTS:
        raise InputError(
            f"the installed packages document {len(pairs)} functions and classes, below {MIN_DOCUMENTS}: "
            "pip install neural-sparse[quickstart], or name a collection of your own with --data"
        )
    doc_ids = sorted(pairs)
    owners: dict[str, int] = {}
    for summary, _ in pairs.values():
        owners[_key(summary)] = owners.get(_key(summary), 0) + 1
    rows = [row for row, doc_id in enumerate(doc_ids) if owners[_key(pairs[doc_id][0])] == 1]
    if not 0 < n_test < len(rows):
        raise InputError(
            f"n_test is {n_test}, but must be from 1 to {len(rows) - 1}: there are {len(rows)} queries"
        )
    test = set(random.Random(seed).sample(rows, n_test))

    queries, qrels = {}, {}
    for row in sorted(test):
        # Evaluation tools that follow BEIR ignore a document whose id equals the query's.
        query_id = f"query:{doc_ids[row]}"
        queries[query_id] = pairs[doc_ids[row]][0]
        qrels[query_id] = {doc_ids[row]: 1}
    texts = [pairs[doc_id][1] for doc_id in doc_ids]
    train = [(pairs[doc_ids[row]][0], row) for row in rows if row not in test]
    return PythonDocs(Collection("python-docs", doc_ids, texts, queries, qrels), train)


def _pairs() -> dict[str, tuple[str, str]]:
    """Document id -> (summary, body); of several with the same body only the one with the shortest id."""
    found: dict[str, tuple[str, str]] = {}
    bodies: set[str] = set()
    objects = documented_objects(PACKAGES)
    for name in sorted(objects, key=lambda name: (name.count("."), name)):
        summary, body = split_docstring(objects[name])
        if (
            len(_REAL_WORD.findall(body)) < MIN_BODY_WORDS
            or len(_REAL_WORD.findall(summary)) not in SUMMARY_WORDS
        ):
            continue
        if _key(body) not in bodies:
            bodies.add(_key(body))
            found[name] = (summary, body)
    return found


def _key(text: str) -> str:
    return _NOT_WORD.sub(" ", text).strip().casefold()
