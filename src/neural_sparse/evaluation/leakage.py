"""Test texts that a model has already seen in training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neural_sparse.corpora.collection import Collection
from neural_sparse.corpora.row_file import rows_of
from neural_sparse.data.prepared import PreparedSet, is_prepared
from neural_sparse.errors import InputError, refuse_one_string
from neural_sparse.text.shingles import ngram_hashes, words

QUERY_GRAM, DOCUMENT_GRAM = 4, 8
CONTAINED = 0.8
_SHOWN = 10
_BATCH = 2000


@dataclass(frozen=True)
class Found:
    """A test text met in training, and the share of its n-grams that the training text has (1: all)."""

    id: str
    test_text: str
    training_text: str
    contained: float


@dataclass(frozen=True)
class Leakage:
    """Test queries and documents found in training texts.

    Attributes:
        exact_queries, exact_documents: the same after normalisation (case, punctuation, spacing).
        near_queries, near_documents: not the same, but a single training text holds 80% of their word n-grams
            (4 words for queries, 8 for documents; shorter texts are only compared exactly).
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
        contained: share of a test text's n-grams that one training text has to hold.
    """
    refuse_one_string(training_texts)
    queries = _Sought(list(collection.queries), list(collection.queries.values()), QUERY_GRAM)
    documents = _Sought(collection.doc_ids, collection.texts, DOCUMENT_GRAM)
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
    exact_queries, near_queries = queries.found(contained)
    exact_documents, near_documents = documents.found(contained)
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
    """Test texts of one kind, with the n-grams by which they are recognised."""

    def __init__(self, ids: list[str], texts: list[str], size: int) -> None:
        self.ids, self.texts, self.size = ids, texts, size
        self.exact: dict[int, str] = {}
        self.near: dict[int, tuple[float, str]] = {}
        split = [words(text) for text in texts]
        self.rows: dict[str, list[int]] = {}
        for row, found in enumerate(split):
            if found:
                self.rows.setdefault(" ".join(found), []).append(row)
        grams, owners = ngram_hashes(split, size)
        pairs = np.unique(np.stack([grams, owners.astype(np.uint64)], axis=1), axis=0) if len(grams) else None
        self.grams = pairs[:, 0] if pairs is not None else grams
        self.owners = pairs[:, 1].astype(np.int64) if pairs is not None else owners
        self.sizes = np.bincount(self.owners, minlength=len(ids))

    def look(self, texts: list[str], split: list[list[str]]) -> None:
        for text, found in zip(texts, split, strict=True):
            for row in self.rows.get(" ".join(found), ()):
                self.exact.setdefault(row, text)
        grams, owners = ngram_hashes(split, self.size)
        if not len(grams) or not len(self.grams):
            return
        # each n-gram once per training text, then every test text that has it
        pairs = np.unique(np.stack([grams, owners.astype(np.uint64)], axis=1), axis=0)
        first = np.searchsorted(self.grams, pairs[:, 0], side="left")
        last = np.searchsorted(self.grams, pairs[:, 0], side="right")
        counts = last - first
        hit = counts > 0
        starts, counts, training = first[hit], counts[hit], pairs[hit, 1].astype(np.int64)
        places = np.repeat(starts - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts) + np.arange(
            counts.sum()
        )
        keys, shared = np.unique(
            np.repeat(training, counts) * len(self.ids) + self.owners[places], return_counts=True
        )
        for key, count in zip(keys.tolist(), shared.tolist(), strict=True):
            text_row, row = divmod(key, len(self.ids))
            share = count / int(self.sizes[row])
            if share > self.near.get(row, (0.0, ""))[0]:
                self.near[row] = (share, texts[text_row])

    def found(self, contained: float) -> tuple[list[Found], list[Found]]:
        exact = [Found(self.ids[row], self.texts[row], text, 1.0) for row, text in sorted(self.exact.items())]
        near = [
            Found(self.ids[row], self.texts[row], text, share)
            for row, (share, text) in sorted(self.near.items())
            if share >= contained and row not in self.exact
        ]
        return exact, near


def _look(texts: list[str], *kinds: _Sought) -> int:
    split = [words(text) for text in texts]
    for kind in kinds:
        kind.look(texts, split)
    return len(texts)
