"""The quickstart's data: a collection to be judged on, and training queries over the same documents."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neural_sparse.corpora.collection import Collection, read_judged
from neural_sparse.corpora.corpus_file import read_documents
from neural_sparse.corpora.python_docs import python_docs
from neural_sparse.data.from_documents import MIN_SENTENCE_WORDS, first_sentence
from neural_sparse.data.training_set import TrainingSet
from neural_sparse.errors import InputError
from neural_sparse.text.shingles import normalised

MAX_TRAINING_QUERIES = 50_000


@dataclass
class QuickstartData:
    """Attributes:
    collection: documents, held-out queries and their judgements.
    training: training queries; their documents come first, in the collection's order.
    origin: one line on where the training queries are from.
    """

    collection: Collection
    training: TrainingSet
    origin: str


def quickstart_data(folder: str | Path | None, seed: int = 0) -> QuickstartData:
    """The embedded corpus, or a folder in BEIR layout.

    A folder's training queries come from qrels/train.tsv; if it has none, from its titles (title to body);
    if it has none of those either, from first sentences (sentence to the rest). Held-out queries are never
    among them.

    Raises:
        InputError: what `Collection.load` refuses, or too few documents to train on.
    """
    if folder is None:
        docs = python_docs(seed)
        queries, rows = zip(*docs.train, strict=True)
        training = TrainingSet(list(queries), docs.collection.texts, np.array(rows, np.int64))
        return QuickstartData(
            docs.collection, training, "summary lines of the documentation, held out of their texts"
        )
    collection = Collection.load(folder)
    if (Path(folder) / "qrels" / "train.tsv").is_file():
        return _from_train_qrels(Path(folder), collection, seed)
    return _from_documents(Path(folder), collection, seed)


def _from_train_qrels(folder: Path, collection: Collection, seed: int) -> QuickstartData:
    row_of = {doc_id: row for row, doc_id in enumerate(collection.doc_ids)}
    texts, qrels = read_judged(folder, "train")
    pairs = [
        (texts[query_id], row_of[doc_id])
        for query_id, grades in qrels.items()
        for doc_id, grade in grades.items()
        if grade > 0 and query_id in texts and doc_id in row_of and query_id not in collection.queries
    ]
    return _data(
        collection, collection.texts, pairs=pairs, seed=seed, origin="the collection's own training queries"
    )


def _from_documents(folder: Path, collection: Collection, seed: int) -> QuickstartData:
    """Queries made from the documents: training documents lack what became their query."""
    rows = list(read_documents(folder / "corpus.jsonl"))
    with_title = sum(bool(title.strip()) for _, title, _ in rows)
    use_titles = with_title > len(rows) / 2
    documents, pairs = [], []
    for position, (_, title, text) in enumerate(rows):
        query, body = (title, text) if use_titles else first_sentence(text)
        documents.append(body or collection.texts[position])
        if len(query.split()) >= MIN_SENTENCE_WORDS and len(body.split()) >= 2 * MIN_SENTENCE_WORDS:
            pairs.append((query, position))
    origin = (
        "titles, searching their own texts"
        if use_titles
        else "first sentences, searching the rest of their texts"
    )
    return _data(collection, documents, pairs=pairs, seed=seed, origin=origin)


def _data(
    collection: Collection, documents: list[str], pairs: list[tuple[str, int]], seed: int, origin: str
) -> QuickstartData:
    held_out = {normalised(query) for query in collection.queries.values()}
    pairs = [pair for pair in pairs if normalised(pair[0]) not in held_out]
    if len(pairs) < 32:
        raise InputError(
            f"{collection.name}: only {len(pairs)} training queries could be made; at least 32 are needed"
        )
    if len(pairs) > MAX_TRAINING_QUERIES:
        pairs = random.Random(seed).sample(pairs, MAX_TRAINING_QUERIES)
    queries, rows = zip(*pairs, strict=True)
    return QuickstartData(collection, TrainingSet(list(queries), documents, np.array(rows, np.int64)), origin)
