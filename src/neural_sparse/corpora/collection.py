"""A test collection in BEIR layout: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv."""

from __future__ import annotations

import json
import logging
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neural_sparse.corpora.corpus_file import read_corpus, read_queries
from neural_sparse.corpora.fields import as_id, as_text, document_fields, with_title
from neural_sparse.corpora.qrels_file import Qrels, read_qrels, whole_grades, write_qrels
from neural_sparse.errors import InputError, NoJudgementsError
from neural_sparse.io.files import replacing
from neural_sparse.io.urls import Location, location

logger = logging.getLogger(__name__)


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
    def load(cls, folder: str | Location, split: str = "test") -> Collection:
        """Read a folder in BEIR layout; a path or a URL.

        Qrels that name unknown queries or documents are counted, reported once and left out.

        Raises:
            InputError: a missing file or split (the message names it), a malformed line (file and line),
                a duplicate or missing id, an empty corpus, no judged query.
        """
        folder = location(folder)
        if not folder.is_dir():
            raise InputError(f"{folder}: no such collection folder")
        _require(folder, split, "corpus.jsonl")
        queries, qrels = read_judged(folder, split)
        doc_ids, texts = read_corpus(folder / "corpus.jsonl")
        qrels = _known_only(qrels, queries, set(doc_ids), str(folder / "qrels" / f"{split}.tsv"))
        queries = {query_id: text for query_id, text in queries.items() if query_id in qrels}
        return cls(folder.name, doc_ids, texts=texts, queries=queries, qrels=qrels)

    @classmethod
    def of(
        cls,
        corpus: Mapping[str, str | Mapping[str, Any]],
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
            InputError: an empty corpus, a document without text, what is no text or id, a fractional grade, no
                judged query.
        """
        if not corpus:
            raise InputError("the corpus is empty")
        doc_ids, texts = [], []
        for key, document in corpus.items():
            where = f"document {key!r}"
            doc_ids.append(as_id(key, where, "the id"))
            texts.append(
                with_title(*document_fields(document, where))
                if isinstance(document, Mapping)
                else as_text(document, where)
            )
        if len(set(doc_ids)) < len(doc_ids):
            raise InputError("a document id occurs twice: as a text and as a number")
        asked = {
            as_id(key, f"query {key!r}", "the id"): as_text(text, f"query {key!r}")
            for key, text in queries.items()
        }
        judged = _known_only(whole_grades(qrels), asked, set(doc_ids), "the judgements")
        kept = {query_id: text for query_id, text in asked.items() if query_id in judged}
        return cls(name, doc_ids, texts=texts, queries=kept, qrels=judged)

    def save(self, folder: str | Path, split: str = "test") -> None:
        """Write the collection in BEIR layout, texts as the body (no title)."""
        folder = Path(folder)
        with replacing(folder / "corpus.jsonl") as file, file.open("w", encoding="utf-8") as out:
            for doc_id, text in zip(self.doc_ids, self.texts, strict=True):
                out.write(json.dumps({"_id": doc_id, "title": "", "text": text}, ensure_ascii=False) + "\n")
        write_queries(folder / "queries.jsonl", self.queries)
        write_qrels(folder / "qrels" / f"{split}.tsv", self.qrels)


def read_judged(folder: Location, split: str) -> tuple[dict[str, str], Qrels]:
    """All queries and the judgements of a split, of a folder in BEIR layout; its corpus is not read.

    Raises:
        InputError: a missing file or split (the message names it), a malformed line.
    """
    _require(folder, split, "queries.jsonl", f"qrels/{split}.tsv")
    return read_queries(folder / "queries.jsonl"), read_qrels(folder / "qrels" / f"{split}.tsv")


def _require(folder: Location, split: str, *names: str) -> None:
    for name in names:
        if (folder / name).is_file():
            continue
        judged = name.startswith("qrels")
        splits = sorted(path.stem for path in folder.glob("qrels/*.tsv")) if isinstance(folder, Path) else ()
        raise (NoJudgementsError if judged else InputError)(
            f"{folder}: lacks {name} (a collection is corpus.jsonl, queries.jsonl and qrels/{split}.tsv)"
            + (f"; splits found: {', '.join(splits)}" if splits and judged else "")
        )


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
