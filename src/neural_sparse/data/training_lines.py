"""Training examples of files of rows and of collections, one by one."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import xxhash

from neural_sparse.data.corpus_file import read_corpus
from neural_sparse.data.layouts import examples_of
from neural_sparse.data.qrels_file import read_qrels
from neural_sparse.data.queries_file import read_queries
from neural_sparse.data.row_file import rows_of
from neural_sparse.errors import InputError
from neural_sparse.urls import Location

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
            yield Line(query or "", positive, negatives, label, weight)
    if number < 0:
        raise InputError(f"{file}: holds nothing to train on")
    if empty:
        logger.warning("%s: left out %d examples without a query or a relevant document", file, empty)
    if irrelevant:
        logger.warning("%s: left out %d rows whose label or score is not above 0", file, irrelevant)


def collection_lines(folder: Location, row_of: Callable[[str], int]) -> Iterator[Line]:
    """Each judgement above 0; all documents get a row.

    Raises:
        InputError: a missing file, a malformed line.
    """
    qrels_file = folder / "qrels" / "train.tsv"
    for file in (folder / "corpus.jsonl", folder / "queries.jsonl", qrels_file):
        if not file.is_file():
            name = str(file).removeprefix(f"{folder}/")
            raise InputError(f"{folder}: lacks {name}, needed to train on a collection")
    doc_ids, texts = read_corpus(folder / "corpus.jsonl")
    row_by_id = {doc_id: row_of(text) for doc_id, text in zip(doc_ids, texts, strict=True)}
    query_texts = read_queries(folder / "queries.jsonl")
    qrels = read_qrels(qrels_file)
    lost = 0
    for query_id, grades in qrels.items():
        for doc_id, grade in grades.items():
            if grade <= 0:
                continue
            if query_id not in query_texts or doc_id not in row_by_id:
                lost += 1
                continue
            yield Line(query_texts[query_id], row_by_id[doc_id])
    if lost:
        logger.warning("%s: left out %d judgements of unknown queries or documents", qrels_file, lost)
