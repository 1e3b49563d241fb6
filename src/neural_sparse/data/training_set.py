"""What a model is trained on, from files of rows, collections and prepared data: texts once, examples as rows."""

from __future__ import annotations

import logging
import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import xxhash

from neural_sparse.corpora.collection import Collection
from neural_sparse.corpora.corpus_file import read_corpus
from neural_sparse.corpora.row_file import rows_of
from neural_sparse.data.layouts import examples_of
from neural_sparse.data.prepared import PreparedSet, is_prepared
from neural_sparse.errors import InputError, refuse_one_string
from neural_sparse.io.urls import Location, Url, location
from neural_sparse.text.keys import KeyIndex, first_rows, text_keys
from neural_sparse.text.ragged import RelevantRows, RowLists, offsets_of
from neural_sparse.text.texts import JoinedTexts, PickedTexts

logger = logging.getLogger(__name__)


class Line(NamedTuple):
    """An example; documents are rows. `label` and `weight` are those of its source, if the file has any."""

    query: str
    positive: int
    negatives: Sequence[int] = ()
    label: str = ""
    weight: float | None = None


def file_lines(file: Location, row_of: Callable[[str], int]) -> Iterator[Line]:
    """Each example that has a query and a relevant document; how many have not is said once.

    Rows are in any layout that `neural-sparse data prepare` reads. `row_of` gives the row of a document. Of
    {query, docs, scores} the best-scored document is the relevant one, as everywhere.

    Raises:
        InputError: a malformed line (file and number).
    """
    empty = irrelevant = 0
    number = -1
    for number, (where, row) in enumerate(rows_of(file)):
        found = examples_of(row, {}, where, xxhash.xxh3_64_intdigest(str(number).encode()))
        irrelevant += not found
        label, weight = "", None
        if isinstance(row, Mapping):
            label, weight = str(row.get("source", "")), row.get("weight")
            if not (weight is None or (isinstance(weight, int | float) and 0 < weight < math.inf)):
                raise InputError(f"{where}: the weight of a source must be a number above 0, not {weight!r}")
        for query, documents, _ in found:
            if not (query or "").strip() or not documents[0].strip():
                empty += 1
                continue
            positive, *negatives = map(row_of, documents)
            yield Line(query or "", positive, negatives=negatives, label=label, weight=weight)
    if number < 0:
        raise InputError(f"{file}: holds nothing to train on")
    if empty:
        logger.warning("%s: left out %d examples without a query or a relevant document", file, empty)
    if irrelevant:
        logger.warning("%s: left out %d rows whose label or score is not above 0", file, irrelevant)


def collection_lines(folder: Location, row_of: Callable[[str], int]) -> Iterator[Line]:
    """Each judgement above 0 of qrels/train.tsv; all documents get a row.

    Raises:
        InputError: as `Collection.load`.
    """
    collection = Collection.load(folder, "train")
    rows = dict(zip(collection.doc_ids, map(row_of, collection.texts), strict=True))
    for query_id, grades in collection.qrels.items():
        for doc_id, grade in grades.items():
            if grade > 0:
                yield Line(collection.queries[query_id], rows[doc_id])


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
        refuse_one_string(self.queries, "queries")
        refuse_one_string(self.documents, "documents")
        if not len(self.queries):
            raise InputError("no training example")
        if not len(self.negatives):
            self.negatives = RowLists.empty(len(self.queries))
        if not len(self.relevant):
            self.relevant = RelevantRows(first_rows(self.queries), self.positives)
        if not len(self.sources):
            self.sources = np.zeros(len(self.queries), np.int64)

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def without_negatives(self) -> np.ndarray:
        """Examples that have no negative of their own, int64 in ascending order."""
        return np.flatnonzero(RowLists.of(self.negatives).lengths == 0)

    def with_negatives(self, examples: np.ndarray, found: RowLists) -> TrainingSet:
        """The same with other negatives of some examples; the rest keep theirs."""
        return replace(self, negatives=RowLists.of(self.negatives).filled(examples, found))

    @property
    def shares(self) -> list[float]:
        """Weight of each source in the mixture; 0 for a source without examples."""
        sizes = np.bincount(self.sources, minlength=len(self.weights)).tolist()
        weights = self.weights or sizes
        return [float(weight) if size else 0.0 for weight, size in zip(weights, sizes, strict=True)]


def load_training_set(sources: Iterable[str | Location], corpus: str | Location | None = None) -> TrainingSet:
    """Read training data; each source is one of the mixture, a prepared folder as many as it was made of.

    Args:
        sources: folders made by `neural-sparse data prepare` (memory-mapped), JSONL files with {"query",
            "pos"} and perhaps "negs" (a list of texts) or {"query", "docs", "scores"} per line, or
            folders in BEIR layout with qrels/train.tsv. A "source" in the lines of a file tells its sources
            apart, a "weight" beside it is that source's. Files and BEIR folders may be URLs.
        corpus: a corpus.jsonl, a path or a URL, whose documents may serve as negatives.

    Raises:
        InputError: a missing file, a malformed line (file and line), a folder without qrels/train.tsv,
            no example at all; a prepared folder at a URL.
    """
    refuse_one_string(sources, "sources")
    paths = [location(source) for source in sources]
    for path in paths:
        if isinstance(path, Url) and path.suffix != ".jsonl" and is_prepared(path):
            raise InputError(
                f"{path}: prepared data are memory-mapped; copy the folder to a disk and name that"
            )
    prepared = [path for path in paths if isinstance(path, Path) and is_prepared(path)]
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
        positives=data.positives,
        negatives=data.negatives,
        relevant=RelevantRows(data.query_rows, data.positives),
        sources=data.sources.astype(np.int64),
        weights=tuple(map(float, weights)) if all(weights) else (),
    )


def _joined(sets: Sequence[TrainingSet], corpus: Sequence[str]) -> TrainingSet:
    """Several sets as one; texts they share are stored once per set, so prepare them together if they do."""
    if len(sets) == 1 and not corpus:
        return sets[0]
    documents: list[Sequence[str]] = [one.documents for one in sets]
    if corpus:
        known = KeyIndex(np.concatenate([text_keys(part) for part in documents]))
        fresh = list(dict.fromkeys(corpus))
        rows = known.find(text_keys(fresh))
        documents.append([text for text, row in zip(fresh, rows.tolist(), strict=True) if row < 0])
    starts = offsets_of([len(part) for part in documents])[: len(sets)].tolist()
    sources, numbered = [], 0
    for one in sets:
        sources.append(one.sources + numbered)
        numbered += len(one.shares)
    return TrainingSet(
        JoinedTexts([one.queries for one in sets]),
        JoinedTexts(documents),
        positives=np.concatenate([one.positives + start for one, start in zip(sets, starts, strict=True)]),
        negatives=RowLists.join([RowLists.of(one.negatives) for one in sets], starts),
        relevant=RelevantRows.join([cast(RelevantRows, one.relevant) for one in sets], starts),
        sources=np.concatenate(sources),
        weights=_shared([one.shares for one in sets], [len(one) for one in sets]),
    )


def _from_texts(sources: Sequence[Location], corpus: str | Location | None) -> TrainingSet:
    rows: dict[str, int] = {}

    def row_of(text: str) -> int:
        return rows.setdefault(text, len(rows))

    queries: list[str] = []
    positives, negatives, counts, numbers = array("q"), array("q"), array("q"), array("q")
    weights: list[list[float | None]] = []  # of each label of each source
    for source in sources:
        first = sum(map(len, weights))
        labels: dict[str, int] = {}
        weights.append([])
        in_folder = not (isinstance(source, Url) and source.suffix == ".jsonl") and source.is_dir()
        lines = collection_lines if in_folder else file_lines
        for line in lines(source, row_of):
            number = labels.setdefault(line.label, len(labels))
            if number == len(weights[-1]):
                weights[-1].append(line.weight)
            if weights[-1][number] != line.weight:
                raise InputError(
                    f"{source}: source {line.label!r} has the weights {weights[-1][number]} and {line.weight}"
                )
            queries.append(line.query)
            positives.append(line.positive)
            negatives.extend(line.negatives)
            counts.append(len(line.negatives))
            numbers.append(first + number)
        if None in weights[-1] and any(weights[-1]):
            raise InputError(f"{source}: some of its sources have a weight and some have none")
    if corpus is not None:
        for text in read_corpus(corpus)[1]:
            row_of(text)
    if not queries:
        raise InputError("the training data hold no example with a query and a relevant document")
    query_rows = first_rows(queries)
    relevant = RelevantRows(query_rows, np.array(positives, np.int64))
    found = RowLists.of_lengths(np.array(negatives, np.int64), np.array(counts, np.int64))
    return TrainingSet(
        queries,
        list(rows),
        positives=relevant.positives,
        negatives=found.where(_fresh(found, relevant, len(rows))),
        relevant=relevant,
        sources=np.array(numbers, np.int64),
        weights=_file_weights(weights, np.bincount(np.array(numbers, np.int64)).tolist()),
    )


def _fresh(negatives: RowLists, relevant: RelevantRows, documents: int) -> np.ndarray:
    """Which of the negatives are neither relevant to the query nor the example's a second time."""
    examples = negatives.examples
    known = np.isin(
        relevant.query_rows[examples] * documents + negatives.flat,
        relevant.query_rows * documents + relevant.positives,
    )
    first = np.zeros(len(examples), bool)
    first[np.unique(examples * documents + negatives.flat, return_index=True)[1]] = True
    return first & ~known


def _file_weights(weights: Sequence[Sequence[float | None]], sizes: Sequence[int]) -> tuple[float, ...]:
    """Of each label of each file; none if no file has any."""
    if not any(any(of_file) for of_file in weights):
        return ()
    left = list(sizes)
    shares, totals = [], []
    for of_file in weights:
        own, left = left[: len(of_file)], left[len(of_file) :]
        shares.append([weight or size for weight, size in zip(of_file, own, strict=True)])
        totals.append(sum(own))
    return _shared(shares, totals)


def _shared(shares: Sequence[Sequence[float]], sizes: Sequence[int]) -> tuple[float, ...]:
    """Weights of several mixtures as one: each divides its own examples, their sizes divide between them."""
    if len(shares) == 1:
        return tuple(shares[0])
    return tuple(share * size / sum(one) for one, size in zip(shares, sizes, strict=True) for share in one)
