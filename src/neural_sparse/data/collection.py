"""A test collection in BEIR layout: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from neural_sparse.errors import InputError, NoJudgementsError
from neural_sparse.files import read_jsonl, replacing
from neural_sparse.urls import Location

logger = logging.getLogger(__name__)

Qrels = dict[str, dict[str, int]]


@dataclass
class Collection:
    """Documents, queries and judgements.

    Attributes:
        name: Shown in reports.
        doc_ids: One id per document, unique.
        texts: One text per document: title, a space, body (BEIR's convention).
        queries: query id -> text; only the judged queries of the split.
        qrels: query id -> document id -> grade (0 is judged and not relevant).
    """

    name: str
    doc_ids: list[str]
    texts: list[str]
    queries: dict[str, str]
    qrels: Qrels = field(default_factory=dict)

    @classmethod
    def load(cls, folder: str | Path, split: str = "test") -> Collection:
        """Read a folder in BEIR layout.

        Qrels that name unknown queries or documents are counted, reported once and left out.

        Raises:
            InputError: a missing file or split (the message names it), a malformed line (file and line),
                a duplicate or missing id, an empty corpus, no judged query.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f"{folder}: no such collection folder")
        qrels_file = folder / "qrels" / f"{split}.tsv"
        for file in (folder / "corpus.jsonl", folder / "queries.jsonl", qrels_file):
            if not file.is_file():
                splits = sorted(path.stem for path in (folder / "qrels").glob("*.tsv"))
                have = f"; splits found: {', '.join(splits)}" if splits and file == qrels_file else ""
                raise (NoJudgementsError if file == qrels_file else InputError)(
                    f"{folder}: lacks {file.relative_to(folder)} "
                    f"(a collection is corpus.jsonl, queries.jsonl and qrels/{split}.tsv){have}"
                )
        doc_ids, texts = read_corpus(folder / "corpus.jsonl")
        all_queries = _read_queries(folder / "queries.jsonl")
        qrels = read_qrels(qrels_file)

        qrels = _known_only(qrels, all_queries, set(doc_ids), str(qrels_file))
        queries = {query_id: text for query_id, text in all_queries.items() if query_id in qrels}
        return cls(folder.name, doc_ids, texts, queries, qrels)

    @classmethod
    def of(
        cls,
        corpus: Mapping[str, str | Mapping[str, str]],
        queries: Mapping[str, str],
        qrels: Mapping[str, Mapping[str, float]],
        name: str = "collection",
    ) -> Collection:
        """A collection from dicts, as BEIR's loader gives them.

        Args:
            corpus: document id -> text, or -> {"title", "text"}.
            queries: query id -> text.
            qrels: query id -> document id -> grade.

        Raises:
            InputError: an empty corpus, a document without text, a fractional grade, no judged query.
        """
        if not corpus:
            raise InputError("the corpus is empty")
        texts = []
        for doc_id, document in corpus.items():
            if isinstance(document, Mapping):
                if "text" not in document:
                    raise InputError(
                        f"document {doc_id!r} lacks 'text' (has {', '.join(map(repr, document))})"
                    )
                document = with_title(document.get("title"), document["text"])
            texts.append(document)
        judged = _known_only(whole_grades(qrels), queries, corpus.keys(), "the judgements")
        kept = {query_id: text for query_id, text in queries.items() if query_id in judged}
        return cls(name, list(corpus), texts, kept, judged)

    def save(self, folder: str | Path, split: str = "test") -> None:
        """Write the collection in BEIR layout, texts as the body (no title)."""
        folder = Path(folder)
        with replacing(folder / "corpus.jsonl") as file, file.open("w", encoding="utf-8") as out:
            for doc_id, text in zip(self.doc_ids, self.texts, strict=True):
                out.write(json.dumps({"_id": doc_id, "title": "", "text": text}, ensure_ascii=False) + "\n")
        write_queries(folder / "queries.jsonl", self.queries)
        write_qrels(folder / "qrels" / f"{split}.tsv", self.qrels)


def read_corpus(path: str | Location) -> tuple[list[str], list[str]]:
    """Ids and texts (title + " " + text) of a corpus.jsonl.

    Raises:
        InputError: malformed line, duplicate id (both with the line), empty corpus.
    """
    doc_ids: list[str] = []
    texts: list[str] = []
    seen: set[str] = set()
    for row in read_jsonl(path, required=("_id", "text")):
        doc_id = str(row["_id"])
        if doc_id in seen:
            raise InputError(f"{path}: document id {doc_id!r} occurs twice (at document {len(doc_ids) + 1})")
        seen.add(doc_id)
        doc_ids.append(doc_id)
        texts.append(with_title(row.get("title"), row["text"]))
    if not doc_ids:
        raise InputError(f"{path}: the corpus is empty")
    return doc_ids, texts


def _read_queries(path: Path) -> dict[str, str]:
    queries: dict[str, str] = {}
    for row in read_jsonl(path, required=("_id", "text")):
        query_id = str(row["_id"])
        if query_id in queries:
            raise InputError(f"{path}: query id {query_id!r} occurs twice")
        queries[query_id] = row["text"]
    return queries


def with_title(title: str | None, text: str) -> str:
    """BEIR's document text: title, a space, body."""
    return f"{title or ''} {text}".strip()


def read_qrels(path: str | Path) -> Qrels:
    """Judgements of a TSV file (query-id, corpus-id, score), with or without a header line, or TREC's.

    Negative grades count as 0 (TREC-COVID in BEIR holds -1); how many is said once.

    Raises:
        InputError: a missing file, too few columns, or a grade that is no whole number, with the line.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    grades: dict[str, dict[str, float]] = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            columns = line.rstrip("\r\n").split("\t") if "\t" in line else line.split()
            if not line.strip() or (number == 1 and columns[-1].strip() in ("score", "relevance", "rel")):
                continue
            if len(columns) == 4:  # TREC: query, iteration, document, grade
                columns = [columns[0], columns[2], columns[3]]
            if len(columns) != 3:
                raise InputError(
                    f"{path}, line {number}: expected query-id, corpus-id and score parted by tabs, "
                    f"found {len(columns)} columns"
                )
            try:
                grade = float(columns[2])
            except ValueError:
                grade = math.nan
            if not grade.is_integer():
                raise InputError(
                    f"{path}, line {number}: the grade {columns[2]!r} is no whole number; "
                    "round the grades, or multiply them to whole numbers"
                )
            grades.setdefault(columns[0], {})[columns[1]] = grade
    return whole_grades(grades, str(path))


def whole_grades(qrels: Mapping[str, Mapping[str, float]], source: str = "the judgements") -> Qrels:
    """Judgements as whole numbers >= 0; queries without any are dropped.

    A negative grade counts as 0, with one warning for all.

    Raises:
        InputError: a fractional grade.
    """
    negative = 0
    checked: Qrels = {}
    for query_id, judged in qrels.items():
        for doc_id, grade in judged.items():
            if not float(grade).is_integer():
                raise InputError(
                    f"{source}: the grade of document {doc_id!r} for {query_id!r} is {grade}, no whole number"
                )
            negative += grade < 0
        if judged:
            checked[query_id] = {doc_id: max(int(grade), 0) for doc_id, grade in judged.items()}
    if negative:
        logger.warning("%s: %d negative grades count as 0 (not relevant)", source, negative)
    return checked


def _known_only(qrels: Qrels, queries: Container[str], doc_ids: Container[str], source: str) -> Qrels:
    """Judgements that name a known query and a known document; how many do not is said once."""
    lost_queries = [query_id for query_id in qrels if query_id not in queries]
    lost_docs = 0
    kept: Qrels = {}
    for query_id, grades in qrels.items():
        if query_id in queries:
            known = {doc_id: grade for doc_id, grade in grades.items() if doc_id in doc_ids}
            lost_docs += len(grades) - len(known)
            if known:
                kept[query_id] = known
    if lost_queries or lost_docs:
        logger.warning(
            "%s: left out %d judged queries without a text and %d judgements of documents the corpus lacks",
            source,
            len(lost_queries),
            lost_docs,
        )
    if not kept:
        raise InputError(f"{source}: no judgement names a known query and a known document")
    return kept


def write_queries(path: str | Path, queries: dict[str, str]) -> None:
    with replacing(path) as file, file.open("w", encoding="utf-8") as out:
        for query_id, text in queries.items():
            out.write(json.dumps({"_id": query_id, "text": text}, ensure_ascii=False) + "\n")


def write_qrels(path: str | Path, qrels: Qrels) -> None:
    with replacing(path) as file, file.open("w", encoding="utf-8") as out:
        out.write("query-id\tcorpus-id\tscore\n")
        for query_id, grades in qrels.items():
            for doc_id, grade in grades.items():
                out.write(f"{query_id}\t{doc_id}\t{grade}\n")
