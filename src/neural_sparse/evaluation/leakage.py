"""Test texts that a model has already seen in training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neural_sparse.corpora.collection import Collection
from neural_sparse.corpora.overlap import CONTAINED, TestTexts
from neural_sparse.corpora.row_file import rows_of
from neural_sparse.data.prepared import PreparedSet, is_prepared
from neural_sparse.errors import InputError, refuse_one_string
from neural_sparse.text.shingles import words

_SHOWN = 10
_BATCH = 2000


@dataclass(frozen=True)
class Found:
    """A test text met in training.

    Attributes:
        contained: the share of its n-grams that the training text has, or of the words of both that are shared,
            whichever is more (1: all).
    """

    id: str
    test_text: str
    training_text: str
    contained: float


@dataclass(frozen=True)
class Leakage:
    """Test queries and documents found in training texts.

    Attributes:
        exact_queries, exact_documents: the same after normalisation (case, punctuation, spacing).
        near_queries, near_documents: not the same, but a single training text nearly is or holds them, by the rule of
            `corpora.overlap.TestTexts`, by which training data are cleaned: what that takes out is counted here.
        relevant_documents: those among the found documents that are relevant to a test query.
        examples: the first few, queries first.
    """

    queries: int
    documents: int
    training_texts: int
    exact_queries: int
    near_queries: int
    exact_documents: int
    near_documents: int
    relevant_documents: int
    examples: list[Found]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def remarks(self) -> list[str]:
        """A sentence for queries and one for documents where any were found."""
        said = []
        if self.exact_queries or self.near_queries:
            said.append(
                f"{self.exact_queries:,} of {self.queries:,} test queries are in the training texts, "
                f"{self.near_queries:,} more nearly"
            )
        if self.exact_documents or self.near_documents:
            said.append(
                f"{self.exact_documents:,} of {self.documents:,} documents are in the training texts, "
                f"{self.near_documents:,} more nearly; {self.relevant_documents:,} of them are relevant ones"
            )
        return said


def find_leakage(
    collection: Collection, training_texts: Iterable[str], contained: float = CONTAINED
) -> Leakage:
    """Look for the collection's queries and documents in training texts, which are streamed.

    Args:
        contained: share of a test text's n-grams that one training text has to hold, or of a test query's words that
            both have to share; above 0.
    """
    refuse_one_string(training_texts)
    queries = _Sought(list(collection.queries), list(collection.queries.values()), True, contained)
    documents = _Sought(collection.doc_ids, collection.texts, False, contained)
    seen = 0
    batch: list[str] = []
    for text in training_texts:
        batch.append(text)
        if len(batch) == _BATCH:
            seen += _look(batch, queries, documents)
            batch = []
    seen += _look(batch, queries, documents)
    relevant = {
        doc_id for grades in collection.qrels.values() for doc_id, grade in grades.items() if grade >= 1
    }
    exact_queries, near_queries = queries.found()
    exact_documents, near_documents = documents.found()
    return Leakage(
        queries=len(queries.ids),
        documents=len(documents.ids),
        training_texts=seen,
        exact_queries=len(exact_queries),
        near_queries=len(near_queries),
        exact_documents=len(exact_documents),
        near_documents=len(near_documents),
        relevant_documents=sum(one.id in relevant for one in exact_documents + near_documents),
        examples=(exact_queries + near_queries)[:_SHOWN] + (exact_documents + near_documents)[:_SHOWN],
    )


def read_training_texts(path: str | Path) -> Iterator[str]:
    """Every text of a training file: the strings, and lists of strings, of each JSON line but its ids.

    Of a folder of prepared data, all queries and documents.

    Raises:
        InputError: no such file, or a malformed line.
    """
    path = Path(path)
    if is_prepared(path):
        prepared = PreparedSet.load(path)
        yield from prepared.queries
        yield from prepared.documents
        return
    if path.is_dir():
        raise InputError(
            f"{path} is a folder; give the JSON-lines file with the training pairs, or prepared data"
        )
    for _, row in rows_of(path):
        yield from _strings(row if isinstance(row, dict) else {"": row})


def _strings(row: Mapping[str, Any]) -> Iterator[str]:
    for key, value in row.items():
        if key in ("_id", "id") or key.endswith(("_id", "_ids", "-id")):
            continue
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str):
                yield one
            elif isinstance(one, dict):
                yield from _strings(one)


class _Sought:
    """Test texts of one kind, and the training texts that hold them."""

    def __init__(self, ids: list[str], texts: list[str], queries: bool, share: float) -> None:
        self.ids, self.texts = ids, texts
        self.tests = TestTexts.of(texts, queries, share)
        self.exact: dict[int, str] = {}
        self.near: dict[int, tuple[float, str]] = {}

    def look(self, texts: list[str], split: list[list[str]]) -> None:
        for text, test in zip(*map(np.ndarray.tolist, self.tests.equal(split)), strict=True):
            self.exact.setdefault(test, texts[text])
        for text, test, share in zip(*map(np.ndarray.tolist, self.tests.similar(split)), strict=True):
            if share > self.near.get(test, (0.0, ""))[0]:
                self.near[test] = (share, texts[text])

    def found(self) -> tuple[list[Found], list[Found]]:
        assert self.tests.rows is not None
        rows = self.tests.rows.tolist()

        def of(test: int, text: str, share: float) -> Found:
            return Found(self.ids[rows[test]], self.texts[rows[test]], text, share)

        exact = [of(test, text, 1.0) for test, text in sorted(self.exact.items())]
        near = [
            of(test, text, share)
            for test, (share, text) in sorted(self.near.items())
            if test not in self.exact
        ]
        return exact, near


def _look(texts: list[str], *kinds: _Sought) -> int:
    split = [words(text) for text in texts]
    for kind in kinds:
        kind.look(texts, split)
    return len(texts)
