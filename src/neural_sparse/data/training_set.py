"""What a model is trained on: texts stored once, examples as row numbers."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from neural_sparse.data.collection import read_corpus, read_qrels
from neural_sparse.errors import InputError
from neural_sparse.files import read_jsonl

logger = logging.getLogger(__name__)


@dataclass
class TrainingSet:
    """Queries with a relevant document each, and perhaps hard negatives.

    Attributes:
        queries: text of each example's query.
        documents: unique texts; positives, negatives and documents that no example names.
        positives: int64 [examples], row of the relevant document.
        negatives: one int64 array of rows per example, hardest first; may be empty.
        relevant: rows known to be relevant to each example's query, the positive among them.
    """

    queries: list[str]
    documents: list[str]
    positives: np.ndarray
    negatives: list[np.ndarray] = field(default_factory=list)
    relevant: list[frozenset[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.queries:
            raise InputError("no training example")
        if not self.negatives:
            self.negatives = [np.empty(0, np.int64)] * len(self.queries)
        if not self.relevant:
            self.relevant = _relevant(self.queries, self.positives)

    def __len__(self) -> int:
        return len(self.queries)


def _relevant(queries: Sequence[str], positives: np.ndarray) -> list[frozenset[int]]:
    by_query: dict[str, set[int]] = {}
    for query, positive in zip(queries, positives.tolist(), strict=True):
        by_query.setdefault(query, set()).add(positive)
    return [frozenset(by_query[query]) for query in queries]


def load_training_set(sources: Iterable[str | Path], corpus: str | Path | None = None) -> TrainingSet:
    """Read training data.

    Args:
        sources: JSONL files with {"query", "pos"} and perhaps "negs" (a list of texts) per line, or
            folders in BEIR layout with qrels/train.tsv.
        corpus: a corpus.jsonl whose documents may serve as negatives.

    Raises:
        InputError: a missing file, a malformed line (file and line), a folder without qrels/train.tsv,
            no example at all.
    """
    rows: dict[str, int] = {}

    def row_of(text: str) -> int:
        return rows.setdefault(text, len(rows))

    queries: list[str] = []
    positives: list[int] = []
    negatives: list[np.ndarray] = []
    for source in map(Path, sources):
        if source.is_dir():
            for query, positive in _collection_pairs(source, row_of):
                queries.append(query)
                positives.append(positive)
                negatives.append(np.empty(0, np.int64))
            continue
        for number, example in enumerate(read_jsonl(source, required=("query", "pos")), start=1):
            others = example.get("negs") or []
            texts = [example["query"], example["pos"], *(others if isinstance(others, list) else [None])]
            if not all(isinstance(text, str) for text in texts):
                raise InputError(
                    f"{source}, example {number}: query, pos and negs must be strings (negs a list of them)"
                )
            if not texts[0].strip() or not texts[1].strip():
                continue
            queries.append(texts[0])
            positives.append(row_of(texts[1]))
            negatives.append(np.array([row_of(text) for text in texts[2:]], np.int64))
    if corpus is not None:
        for text in read_corpus(corpus)[1]:
            row_of(text)
    if not queries:
        raise InputError("the training data hold no example with a query and a relevant document")
    data = TrainingSet(queries, list(rows), np.array(positives, np.int64), negatives)
    data.negatives = [
        np.array([row for row in dict.fromkeys(found.tolist()) if row not in known], np.int64)
        for found, known in zip(data.negatives, data.relevant, strict=True)
    ]
    return data


def _collection_pairs(folder: Path, row_of: object) -> Iterable[tuple[str, int]]:
    qrels_file = folder / "qrels" / "train.tsv"
    for file in (folder / "corpus.jsonl", folder / "queries.jsonl", qrels_file):
        if not file.is_file():
            raise InputError(f"{folder}: lacks {file.relative_to(folder)}, needed to train on a collection")
    doc_ids, texts = read_corpus(folder / "corpus.jsonl")
    row_by_id = {doc_id: row_of(text) for doc_id, text in zip(doc_ids, texts, strict=True)}  # type: ignore[operator]
    query_texts = {
        str(row["_id"]): row["text"] for row in read_jsonl(folder / "queries.jsonl", ("_id", "text"))
    }
    lost = 0
    for query_id, grades in read_qrels(qrels_file).items():
        for doc_id, grade in grades.items():
            if grade <= 0:
                continue
            if query_id not in query_texts or doc_id not in row_by_id:
                lost += 1
                continue
            yield query_texts[query_id], row_by_id[doc_id]
    if lost:
        logger.warning("%s: left out %d judgements of unknown queries or documents", qrels_file, lost)
