"""What `adapt` works on, kept in a folder: documents as they are trained on and judged, queries by part."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from neural_sparse.adapt.corpus import held_documents
from neural_sparse.adapt.queries import Generator, generated_query, query_of, unambiguous
from neural_sparse.adapt.split import LEAST_PAIRS, Judgements, Split, split_documents
from neural_sparse.corpora.collection import Collection
from neural_sparse.corpora.corpus_file import read_queries
from neural_sparse.corpora.qrels_file import Qrels, read_qrels, whole_grades
from neural_sparse.data.training_set import TrainingSet, load_training_set
from neural_sparse.errors import InputError
from neural_sparse.io.files import replacing
from neural_sparse.io.lines import json_lines
from neural_sparse.mining.made_queries import QueryMaker
from neural_sparse.work.progress import progress

MOST_HELD = 100_000  # documents; of a larger corpus a sample is worked on, and said to be one
MOST_GENERATED = 2_000  # documents that the user's function is asked about
MOST_PAIRS = 50_000


@dataclass
class AdaptData:
    """Attributes:
    doc_ids: of the documents worked on. texts: as they are trained on, without what became their queries.
    judged_texts: as they are searched when candidates are judged.
    split: which of them are trained on, and the queries. real: whether real queries judge.
    """

    doc_ids: list[str]
    texts: list[str]
    judged_texts: list[str]
    split: Split
    real: bool

    def collection(self, name: str, most: int, seed: int) -> Collection:
        """What candidates are judged on: documents that answer, others up to `most`, and all judged queries."""
        select, test = self.split.select, self.split.test
        qrels = {**select.qrels, **test.qrels}
        needed = {doc_id for grades in qrels.values() for doc_id in grades}
        order = np.random.default_rng(seed).permutation(len(self.doc_ids)).tolist()
        others = [row for row in order if self.doc_ids[row] not in needed]
        kept = set(others[: max(0, most - len(needed))])
        rows = [row for row, doc_id in enumerate(self.doc_ids) if doc_id in needed or row in kept]
        return Collection(
            name,
            [self.doc_ids[row] for row in rows],
            texts=[self.judged_texts[row] for row in rows],
            queries={**select.queries, **test.queries},
            qrels=qrels,
        )

    def training(self, most: int, seed: int) -> TrainingSet | None:
        """Pairs of the training part over at most `most` of its documents; None where there are too few."""
        rng = np.random.default_rng(seed)
        rows = np.flatnonzero(self.split.trainable)
        rows = np.sort(rng.permutation(rows)[:most])
        place = {int(row): number for number, row in enumerate(rows)}
        pairs = [(query, place[row]) for query, row, _ in self.split.train if row in place]
        if len(pairs) < LEAST_PAIRS:
            return None
        if len(pairs) > MOST_PAIRS:
            pairs = [pairs[at] for at in np.sort(rng.permutation(len(pairs))[:MOST_PAIRS]).tolist()]
        queries, positives = zip(*pairs, strict=True)
        documents = [self.texts[row] for row in rows.tolist()]
        return TrainingSet(list(queries), documents, np.array(positives, np.int64))

    def save(self, folder: Path) -> None:
        with replacing(folder / "documents.jsonl") as file, file.open("w", encoding="utf-8") as out:
            for row, doc_id in enumerate(self.doc_ids):
                judged = self.judged_texts[row]
                document: dict[str, Any] = {"_id": doc_id, "text": self.texts[row]}
                document["trained_on"] = bool(self.split.trainable[row])
                if judged != self.texts[row]:
                    document["judged"] = judged
                out.write(json.dumps(document, ensure_ascii=False) + "\n")
        with replacing(folder / "queries.jsonl") as file, file.open("w", encoding="utf-8") as out:
            for query in self._query_rows():
                out.write(json.dumps(query, ensure_ascii=False) + "\n")

    def _query_rows(self) -> Iterator[dict[str, Any]]:
        for part, found in (("select", self.split.select), ("test", self.split.test)):
            for query_id, text in found.queries.items():
                kind, grades = found.kinds[query_id], found.qrels[query_id]
                yield {"_id": query_id, "text": text, "part": part, "kind": kind, "grades": grades}
        for text, row, kind in self.split.train:
            yield {"text": text, "part": "train", "kind": kind, "document": row}

    @classmethod
    def load(cls, folder: Path, real: bool) -> AdaptData:
        documents = [row for _, row in json_lines(folder / "documents.jsonl")]
        parts = {"select": Judgements(), "test": Judgements()}
        train = []
        for _, row in json_lines(folder / "queries.jsonl"):
            if row["part"] == "train":
                train.append((row["text"], row["document"], row["kind"]))
            else:
                parts[row["part"]].add(row["_id"], row["text"], kind=row["kind"], grades=row["grades"])
        return cls(
            [one["_id"] for one in documents],
            [one["text"] for one in documents],
            judged_texts=[one.get("judged", one["text"]) for one in documents],
            split=Split(
                parts["select"],
                parts["test"],
                train=train,
                trainable=np.array([one["trained_on"] for one in documents], bool),
            ),
            real=real,
        )


def make_data(
    corpus: Path,
    copy_of: dict[str, str],
    seed: int,
    real: tuple[Path, Path] | None = None,
    train_qrels: Path | None = None,
    generator: Generator | None = None,
    titles: bool = False,
) -> AdaptData:
    """Queries and parts of a cleaned corpus.

    Args:
        copy_of: ids of documents that were left out as copies -> the id that stands for them.
        real: files of real queries and of their judgements.
        train_qrels: file of judgements of those that are to train.
        generator: makes the queries in place of titles, headings and sentences.
        titles: queries are made of titles alone.

    Raises:
        InputError: no judgement names a known query and a known document; as the files' readers.
    """
    judged = _read_real(*real, copy_of=copy_of) if real is not None else None
    training = _read_real(real[0], train_qrels, copy_of=copy_of)[1] if real and train_qrels else None
    needed = _judged_documents(judged[1]) if judged is not None else {}
    for doc_id in _judged_documents(training or {}):
        if len(needed) < MOST_HELD // 2:
            needed[doc_id] = None
    documents = held_documents(corpus, MOST_HELD, seed, frozenset(needed))
    doc_ids = [one.doc_id for one in documents]
    if judged is not None and real is not None:
        judged = (judged[0], _known(judged[1], doc_ids, files=real))
        if training is not None and train_qrels is not None:
            training = _known(training, doc_ids, files=(real[0], train_qrels))
    if generator is None:
        made = [query_of(one, seed, titles) for one in documents]
    else:
        asked = set(np.random.default_rng(seed).permutation(len(documents))[:MOST_GENERATED].tolist())
        if isinstance(
            generator, QueryMaker
        ):  # all at once: several requests under way, and a search for each query
            whole = [f"{one.title} {one.text}".strip() for one in documents]
            generator.ask([whole[row] for row in sorted(asked)], whole)
        with progress(len(asked), "making queries", "documents") as advance:
            made = []
            for row, one in enumerate(documents):
                made.append(generated_query(one, generator if row in asked else lambda text, title: ()))
                advance(int(row in asked))
    made = unambiguous(made, documents)
    texts = [one.text for one in made]
    split = split_documents(
        doc_ids, texts, [(one.query, one.kind) for one in made], seed, real=judged, training=training
    )
    judged_texts = texts
    if judged is not None:
        hidden = {
            doc_id
            for key, grades in split.select.qrels.items()
            if split.select.kinds[key] != "real"
            for doc_id in grades
        }
        judged_texts = [
            text if one.doc_id in hidden else one.whole for one, text in zip(documents, texts, strict=True)
        ]
        if all(
            kind == "real" for _, _, kind in split.train
        ):  # then nothing has to be hidden in training, either
            texts = judged_texts
    return AdaptData(doc_ids, texts, judged_texts=judged_texts, split=split, real=judged is not None)


def describe(data: AdaptData, total: int) -> dict[str, Any]:
    """In numbers, as JSON values."""
    split = data.split
    return {
        "documents": len(data.doc_ids),
        "corpus": total,
        "train": len(split.train),
        "select": len(split.select.queries),
        "test": len(split.test.queries),
        "kept_from_training": int((~split.trainable).sum()),
        "left_out": split.left_out,
        "kinds": dict(Counter([*split.test.kinds.values(), *split.select.kinds.values()])),
        "trained_kinds": dict(Counter(kind for _, _, kind in split.train)),
        "real": data.real,
    }


def with_general(training: TrainingSet, pairs: Path, share: float, seed: int) -> TrainingSet:
    """The training set with pairs of other texts as a second source, `share` of the batches; so many are drawn as are
    then met as often as the first one's."""
    other = load_training_set([pairs])
    wanted = max(LEAST_PAIRS, round(len(training) * share / (1 - share)))
    chosen = np.sort(np.random.default_rng(seed).permutation(len(other))[:wanted])
    rows, places = np.unique(other.positives[chosen], return_inverse=True)
    known = len(training.documents)
    return replace(
        training,
        queries=[*training.queries, *(other.queries[at] for at in chosen.tolist())],
        documents=[*training.documents, *(other.documents[row] for row in rows.tolist())],
        positives=np.concatenate([training.positives, places + known]),
        negatives=[],
        relevant=[],
        sources=np.concatenate([np.zeros(len(training), np.int64), np.ones(len(chosen), np.int64)]),
        weights=(1 - share, share),
    )


def _read_real(queries: Path, qrels: Path, copy_of: dict[str, str]) -> tuple[dict[str, str], Qrels]:
    texts, judged = read_queries(queries), whole_grades(read_qrels(qrels), str(qrels))
    merged: Qrels = {}
    for query_id, grades in judged.items():
        if query_id in texts:
            for doc_id, grade in grades.items():
                known = merged.setdefault(query_id, {})
                key = copy_of.get(doc_id, doc_id)
                known[key] = max(grade, known.get(key, 0))
    return texts, merged


def _judged_documents(qrels: Qrels) -> dict[str, None]:
    """Their ids, each once, in the order of the judgements."""
    return dict.fromkeys(doc_id for grades in qrels.values() for doc_id in grades)


def _known(qrels: Qrels, doc_ids: Sequence[str], files: tuple[Path, Path]) -> Qrels:
    there = set(doc_ids)
    kept = {
        key: {doc_id: grade for doc_id, grade in grades.items() if doc_id in there}
        for key, grades in qrels.items()
    }
    kept = {key: grades for key, grades in kept.items() if any(grade > 0 for grade in grades.values())}
    if not kept:
        queries, judgements = files
        raise InputError(
            f"{judgements}: no judgement above 0 names a query of {queries} and a document of the corpus; "
            "do the ids agree?"
        )
    return kept
