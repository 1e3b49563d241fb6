"""Training examples of JSONL files and of collections, one by one."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from neural_sparse.data.collection import read_corpus, read_qrels
from neural_sparse.data.layouts import examples_of
from neural_sparse.errors import InputError
from neural_sparse.files import read_jsonl
from neural_sparse.urls import Location, read_from

logger = logging.getLogger(__name__)


class Line(NamedTuple):
    """An example; documents are rows. `label` and `weight` are those of its source, if the file has any."""

    query: str
    positive: int
    negatives: Sequence[int] = ()
    label: str = ""
    weight: float | None = None


def file_lines(file: Location, row_of: Callable[[str], int]) -> Iterator[Line]:
    """Each line that has a query and a relevant document.

    `row_of` gives the row of a document. Of {query, docs, scores} the best-scored document is the relevant
    one, as everywhere.

    Raises:
        InputError: a malformed line (file and number).
    """
    for number, example in enumerate(read_jsonl(file, required=("query",)), start=1):
        where = f"{file}, example {number}"
        if "pos" not in example and "docs" in example and "scores" in example:
            (scored,) = examples_of(example, {}, where)
            texts = [scored.query or "", *scored.documents]
        elif "pos" not in example:
            raise InputError(f"{where}: lacks 'pos' (has {', '.join(map(repr, example))})")
        else:
            others = example.get("negs") or []
            texts = [example["query"], example["pos"], *(others if isinstance(others, list) else [None])]
            if not all(isinstance(text, str) for text in texts):
                raise InputError(f"{where}: query, pos and negs must be strings (negs a list of them)")
        if texts[0].strip() and texts[1].strip():
            weight = example.get("weight")
            if not (weight is None or (isinstance(weight, int | float) and 0 < weight < math.inf)):
                raise InputError(f"{where}: the weight of a source must be a number above 0, not {weight!r}")
            positive, *negatives = map(row_of, texts[1:])
            yield Line(texts[0], positive, negatives, str(example.get("source", "")), weight)


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
    query_texts = {
        str(row["_id"]): row["text"] for row in read_jsonl(folder / "queries.jsonl", ("_id", "text"))
    }
    with read_from(qrels_file) as judged:
        qrels = read_qrels(judged)
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
