"""What a model is trained on: texts stored once, examples as row numbers."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xxhash

from neural_sparse.data.arrow_texts import JoinedTexts, PickedTexts
from neural_sparse.data.collection import read_corpus, read_qrels
from neural_sparse.data.layouts import examples_of
from neural_sparse.data.prepared import PreparedSet, is_prepared
from neural_sparse.data.row_lists import RelevantRows
from neural_sparse.errors import InputError
from neural_sparse.files import read_jsonl

logger = logging.getLogger(__name__)


@dataclass
class TrainingSet:
    """Queries with a relevant document each, and perhaps hard negatives.

    All that has an entry per example or document may be memory-mapped: index and iterate, expect no list.

    Attributes:
        queries: text of each example's query.
        documents: unique texts; positives, negatives and documents that no example names.
        positives: int64 [examples], row of the relevant document.
        negatives: one int64 array of rows per example, hardest first; may be empty.
        relevant: rows known to be relevant to each example's query, the positive among them.
        sources: int64 [examples], number of the source each is from; a batch comes from one source.
        weights: share of the batches per source, only ratios matter; by the sources' sizes if empty.
    """

    queries: Sequence[str]
    documents: Sequence[str]
    positives: np.ndarray
    negatives: Sequence[np.ndarray] = field(default_factory=list)
    relevant: Sequence[frozenset[int]] = field(default_factory=list)
    sources: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.queries):
            raise InputError("no training example")
        if not len(self.negatives):
            self.negatives = [np.empty(0, np.int64)] * len(self.queries)
        if not len(self.relevant):
            self.relevant = _relevant(self.queries, self.positives)
        if not len(self.sources):
            self.sources = np.zeros(len(self.queries), np.int64)

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def shares(self) -> list[float]:
        """Weight of each source in the mixture; 0 for a source without examples."""
        sizes = np.bincount(self.sources, minlength=len(self.weights)).tolist()
        weights = self.weights or sizes
        return [float(weight) if size else 0.0 for weight, size in zip(weights, sizes, strict=True)]


def _relevant(queries: Sequence[str], positives: np.ndarray) -> list[frozenset[int]]:
    by_query: dict[str, set[int]] = {}
    for query, positive in zip(queries, positives.tolist(), strict=True):
        by_query.setdefault(query, set()).add(positive)
    return [frozenset(by_query[query]) for query in queries]


def load_training_set(sources: Iterable[str | Path], corpus: str | Path | None = None) -> TrainingSet:
    """Read training data; each source is one of the mixture, a prepared folder as many as it was made of.

    Args:
        sources: folders made by `neural-sparse data prepare` (memory-mapped), JSONL files with {"query",
            "pos"} and perhaps "negs" (a list of texts) or {"query", "docs", "scores"} per line, or
            folders in BEIR layout with qrels/train.tsv. A "source" in the lines of a file tells its sources
            apart.
        corpus: a corpus.jsonl whose documents may serve as negatives.

    Raises:
        InputError: a missing file, a malformed line (file and line), a folder without qrels/train.tsv,
            no example at all.
    """
    paths = [Path(source) for source in sources]
    prepared = [path for path in paths if is_prepared(path)]
    if not prepared:
        return _from_texts(paths, corpus)
    sets = [_from_prepared(path) for path in prepared]
    if others := [path for path in paths if path not in prepared]:
        sets.append(_from_texts(others, None))
    return _joined(sets, [] if corpus is None else read_corpus(corpus)[1])


def _from_prepared(folder: Path) -> TrainingSet:
    data = PreparedSet.load(folder)
    if not len(data):
        raise InputError(f"{folder} holds documents but no example to train on")
    weights = [source["weight"] for source in data.manifest["sources"]]
    return TrainingSet(
        PickedTexts(data.queries, data.query_rows),
        data.documents,
        data.positives,
        data.negatives,
        RelevantRows(data.query_rows, data.positives),
        data.sources.astype(np.int64),
        tuple(map(float, weights)) if all(weights) else (),
    )


def _joined(sets: Sequence[TrainingSet], corpus: Sequence[str]) -> TrainingSet:
    """Several sets as one; texts they share are stored once per set, so prepare them together if they do."""
    if len(sets) == 1 and not corpus:
        return sets[0]
    documents: list[Sequence[str]] = [one.documents for one in sets]
    if corpus:
        known = np.sort(np.fromiter((_hash(text) for part in documents for text in part), np.uint64))
        documents.append([text for text in dict.fromkeys(corpus) if not _holds(known, _hash(text))])
    starts = np.cumsum([0] + [len(part) for part in documents])
    sources, numbered = [], 0
    for one in sets:
        sources.append(one.sources + numbered)
        numbered += len(one.shares)
    # A set's weights divide its own examples; between the sets, their sizes do.
    weights = tuple(
        weight * len(one) / sum(one.shares) if len(sets) > 1 else weight
        for one in sets
        for weight in one.shares
    )
    return TrainingSet(
        JoinedTexts([one.queries for one in sets]),
        JoinedTexts(documents),
        np.concatenate([one.positives + start for one, start in zip(sets, starts, strict=False)]),
        [rows + start for one, start in zip(sets, starts, strict=False) for rows in one.negatives],
        [
            frozenset(row + int(start) for row in rows)
            for one, start in zip(sets, starts, strict=False)
            for rows in one.relevant
        ],
        np.concatenate(sources),
        weights,
    )


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode())


def _holds(ordered: np.ndarray, value: int) -> bool:
    at = int(np.searchsorted(ordered, np.uint64(value)))
    return at < len(ordered) and int(ordered[at]) == value


def _from_texts(sources: Sequence[Path], corpus: str | Path | None) -> TrainingSet:
    rows: dict[str, int] = {}

    def row_of(text: str) -> int:
        return rows.setdefault(text, len(rows))

    queries: list[str] = []
    positives: list[int] = []
    negatives: list[np.ndarray] = []
    numbers: list[int] = []
    labels: dict[tuple[int, str], int] = {}
    for source_number, source in enumerate(sources):
        if source.is_dir():
            for query, positive in _collection_pairs(source, row_of):
                queries.append(query)
                positives.append(positive)
                negatives.append(np.empty(0, np.int64))
                numbers.append(labels.setdefault((source_number, ""), len(labels)))
        else:
            for query, relevant, others, label in _file_examples(source):
                numbers.append(labels.setdefault((source_number, label), len(labels)))
                queries.append(query)
                positives.append(row_of(relevant))
                negatives.append(np.array([row_of(text) for text in others], np.int64))
    if corpus is not None:
        for text in read_corpus(corpus)[1]:
            row_of(text)
    if not queries:
        raise InputError("the training data hold no example with a query and a relevant document")
    data = TrainingSet(
        queries,
        list(rows),
        np.array(positives, np.int64),
        negatives,
        sources=np.array(numbers, np.int64),
    )
    data.negatives = [
        np.array([row for row in dict.fromkeys(found.tolist()) if row not in known], np.int64)
        for found, known in zip(data.negatives, data.relevant, strict=True)
    ]
    return data


def _file_examples(file: Path) -> Iterator[tuple[str, str, list[str], str]]:
    """Query, relevant document, negatives and "source", if any, of each line that has the first two.

    Of {query, docs, scores} the best-scored document is the relevant one, as everywhere.
    """
    for number, example in enumerate(read_jsonl(file, required=("query",)), start=1):
        label = str(example.get("source", ""))
        if "pos" not in example and "docs" in example and "scores" in example:
            (scored,) = examples_of(example, {}, f"{file}, example {number}")
            if scored.query and scored.query.strip() and scored.documents[0].strip():
                yield scored.query, scored.documents[0], list(scored.documents[1:]), label
            continue
        if "pos" not in example:
            raise InputError(f"{file}, example {number}: lacks 'pos' (has {', '.join(map(repr, example))})")
        others = example.get("negs") or []
        texts = [example["query"], example["pos"], *(others if isinstance(others, list) else [None])]
        if not all(isinstance(text, str) for text in texts):
            raise InputError(
                f"{file}, example {number}: query, pos and negs must be strings (negs a list of them)"
            )
        if texts[0].strip() and texts[1].strip():
            yield texts[0], texts[1], texts[2:], label


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
