"""Which documents are trained on and which queries choose and judge: parted by document, near-duplicates together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from neural_sparse.adapt.corpus import number_of
from neural_sparse.corpora.overlap import TestTexts
from neural_sparse.corpora.qrels_file import Qrels
from neural_sparse.text.ragged import Indices
from neural_sparse.text.shingles import BANDS, DOCUMENT_SHINGLE, clusters, minhash_bands, words

SIMILAR = 0.6  # of the three-word shingles of two documents, from which on they are near-duplicates
MOST_TEST, MOST_SELECT = 500, 250
TEST_SHARE, SELECT_SHARE = 0.25, 0.125
LEAST_TO_CHOOSE = 20  # training queries; of fewer, those that judge are parted
REAL_TO_CHOOSE = 60  # of fewer real queries all judge, and made ones choose
MOST_REAL_TEST, MOST_REAL_SELECT = 1000, 300
LEAST_PAIRS = 32  # to train on
T = TypeVar("T")
_TOGETHER = 4096
COVERED = 0.5  # of the documents may be kept from training for the sake of real queries


@dataclass
class Judgements:
    """Queries with what they are judged by.

    Attributes:
        queries: id -> text. qrels: id -> document id -> grade. kinds: id -> "title", "sentence", "real", ...
    """

    queries: dict[str, str] = field(default_factory=dict)
    qrels: Qrels = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)

    def add(self, query_id: str, text: str, kind: str, grades: Mapping[str, int]) -> None:
        self.queries[query_id], self.kinds[query_id] = text, kind
        self.qrels[query_id] = dict(grades)


@dataclass
class Split:
    """Attributes:
    select, test: what the model is chosen by, and what the verdict is of.
    train: (query, document row, kind) of the training part.
    trainable: bool [documents], those that training may see at all.
    left_out: training documents and queries that were too near to what is judged.
    """

    select: Judgements
    test: Judgements
    train: list[tuple[str, int, str]]
    trainable: np.ndarray
    left_out: int = 0


def near_duplicates(texts: Sequence[str]) -> Indices:
    """For each text the first one of its cluster, int64 [texts]."""
    bands = np.concatenate(
        [
            np.empty((0, BANDS), np.uint32),
            *(minhash_bands([words(text) for text in part], DOCUMENT_SHINGLE) for part in _parts(texts)),
        ]
    )
    return clusters(
        bands, lambda rows: [texts[row] for row in rows.tolist()], size=DOCUMENT_SHINGLE, threshold=SIMILAR
    )


def _parts(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """A few at a time, for the words of all of them take many times as much memory."""
    return (texts[start : start + _TOGETHER] for start in range(0, len(texts), _TOGETHER))


def _order(keys: Sequence[str], seed: int, what: str) -> list[int]:
    return sorted(range(len(keys)), key=lambda at: number_of(seed, what, keys[at]))


def split_made(
    doc_ids: Sequence[str],
    made: Sequence[tuple[str, str]],
    cluster: Indices,
    seed: int,
    parts: tuple[bool, bool] = (True, True),
) -> tuple[Judgements, Judgements, set[int]]:
    """Part queries made of documents: what chooses, what judges, and the rows of the documents of both.

    Args:
        made: query ("" for none) and kind of each document.
        cluster: see `near_duplicates`; the documents of one go to the same part, and answer each other's queries.
        parts: whether a selection and a test part are wanted.
    """
    askable = [row for row in range(len(made)) if made[row][0] and cluster[row] == row]
    test_size = min(MOST_TEST, round(TEST_SHARE * len(askable))) if parts[1] else 0
    select_size = min(MOST_SELECT, round(SELECT_SHARE * len(askable))) if parts[0] else 0
    order = [askable[at] for at in _order([doc_ids[row] for row in askable], seed, "split")]
    members = _members(cluster)
    select, test = Judgements(), Judgements()
    judged: set[int] = set()
    for place, row in enumerate(order[: test_size + select_size]):
        part = test if place < test_size else select
        query, kind = made[row]
        part.add(f"made-{doc_ids[row]}", query, kind, {doc_ids[member]: 1 for member in members[row]})
        judged.update(members[row])
    return select, test, judged


def _members(cluster: Indices) -> dict[int, list[int]]:
    members: dict[int, list[int]] = {}
    for row, head in enumerate(cluster.tolist()):
        members.setdefault(head, []).append(row)
    return members


def split_real(
    doc_ids: Sequence[str],
    queries: Mapping[str, str],
    qrels: Qrels,
    cluster: Indices,
    seed: int,
    training: Qrels | None = None,
) -> tuple[Judgements, Judgements, set[int]]:
    """Part real queries: what chooses, what judges, and the rows of documents that are kept from training.

    With enough training queries an eighth of these chooses, and the others all judge; of fewer than 60 all judge,
    too. A document that answers a judging query, and its near-duplicates, are not trained on; queries are taken until
    half of the documents are.
    """
    row_of = {doc_id: row for row, doc_id in enumerate(doc_ids)}
    members = _members(cluster)
    order, others = (
        [ids[at] for at in _order(ids, seed, "real")]
        for ids in (_answered(queries, qrels), _answered(queries, training or {}))
    )
    test_size, select_size = len(order), round(SELECT_SHARE * len(others))
    if select_size < LEAST_TO_CHOOSE:
        few = len(order) < REAL_TO_CHOOSE
        test_size = len(order) if few else round(2 * len(order) / 3)
        others, select_size = order[test_size:], len(order) - test_size
    judging = [(query_id, True) for query_id in order[: min(MOST_REAL_TEST, test_size)]]
    choosing = [(query_id, False) for query_id in others[: min(MOST_REAL_SELECT, select_size)]]
    select, test = Judgements(), Judgements()
    judged: set[int] = set()
    known = {**(training or {}), **qrels}
    for query_id, judges in _side_by_side(judging, choosing):
        grades = known[query_id]
        rows = {
            member
            for doc_id in grades
            if doc_id in row_of
            for member in members[int(cluster[row_of[doc_id]])]
        }
        if len(judged | rows) > COVERED * len(doc_ids) and len(test.queries) >= 2:
            continue
        part = test if judges else select
        part.add(query_id, queries[query_id], "real", grades)
        judged |= rows
    return select, test, judged


def _answered(queries: Mapping[str, str], qrels: Qrels) -> list[str]:
    return [one for one in queries if any(grade > 0 for grade in qrels.get(one, {}).values())]


def _side_by_side(one: list[T], other: list[T]) -> list[T]:
    """Both in one order, in which both grow in proportion: so neither part takes all the documents."""
    placed = [((at + 1) / len(part), item) for part in (one, other) for at, item in enumerate(part)]
    return [item for _, item in sorted(placed, key=lambda pair: pair[0])]


def split_documents(
    doc_ids: Sequence[str],
    texts: Sequence[str],
    made: Sequence[tuple[str, str]],
    seed: int,
    real: tuple[Mapping[str, str], Qrels] | None = None,
    training: Qrels | None = None,
) -> Split:
    """Part documents and queries, made ones and perhaps real ones.

    Args:
        texts: documents without what became their queries.
        made: query ("" for none) and kind of each document.
        real: queries and qrels, which judge in place of made ones; what is left of them trains.
        training: qrels of other ones of the real queries, to train on in place of made ones.
    """
    cluster = near_duplicates(texts)
    judged: set[int] = set()
    select, test = Judgements(), Judgements()
    made = list(made)
    if real is not None:
        training = {key: grades for key, grades in (training or {}).items() if key not in real[1]}
        select, test, judged = split_real(doc_ids, *real, cluster=cluster, seed=seed, training=training)
        made = [("", "") if row in judged else one for row, one in enumerate(made)]
    if real is None or not select.queries:
        parts = (True, real is None)
        chosen, judging, more = split_made(doc_ids, made, cluster=cluster, seed=seed, parts=parts)
        select, judged = chosen, judged | more
        test = test if real is not None else judging
    trainable = np.ones(len(doc_ids), bool)
    trainable[sorted(judged)] = False
    train = [(query, row, kind) for row, (query, kind) in enumerate(made) if query and trainable[row]]
    if real is not None:
        taken = {*select.queries, *test.queries}
        left = _left_over(doc_ids, real[0], {**real[1], **(training or {})}, trainable=trainable, taken=taken)
        train = left if training and len(left) >= LEAST_PAIRS else train + left
    return _without_judged(Split(select, test, train, trainable), texts, judged)


def _left_over(
    doc_ids: Sequence[str], queries: Mapping[str, str], qrels: Qrels, trainable: np.ndarray, taken: set[str]
) -> list[tuple[str, int, str]]:
    """Real queries that neither choose nor judge, with their documents."""
    row_of = {doc_id: row for row, doc_id in enumerate(doc_ids)}
    return [
        (text, row_of[doc_id], "real")
        for query_id, text in queries.items()
        if query_id not in taken
        for doc_id, grade in qrels.get(query_id, {}).items()
        if grade > 0 and doc_id in row_of and trainable[row_of[doc_id]]
    ]


def _without_judged(split: Split, texts: Sequence[str], judged: set[int]) -> Split:
    """The split without training texts that hold, or nearly are, a judged query or a document that answers one."""
    queries = [*split.select.queries.values(), *split.test.queries.values()]
    if not queries:
        return split
    asked = TestTexts.of(queries, queries=True)
    answers = TestTexts.of([texts[row] for row in sorted(judged)], queries=False)
    rows = np.flatnonzero(split.trainable)
    found = [texts[row] for row in rows.tolist()]
    near = np.concatenate(
        [np.zeros(0, bool), *(answers.match([words(text) for text in part]) for part in _parts(found))]
    )
    trainable = split.trainable.copy()
    trainable[rows[near]] = False
    near_query = asked.match([words(query) for query, _, _ in split.train])
    train = [
        one
        for one, bad in zip(split.train, near_query.tolist(), strict=True)
        if not bad and trainable[one[1]]
    ]
    left_out = int(near.sum()) + len(split.train) - len(train)
    return replace(split, train=train, trainable=trainable, left_out=left_out)
