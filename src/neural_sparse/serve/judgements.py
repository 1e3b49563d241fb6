"""Judgements made on the page, kept as a collection in BEIR layout: queries.jsonl, qrels/SPLIT.tsv, corpus.jsonl."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from neural_sparse.corpora.corpus_file import read_queries
from neural_sparse.corpora.qrels_file import Qrels, read_qrels, write_qrels
from neural_sparse.errors import InputError
from neural_sparse.io.files import check_output, replacing

# A document's id and its text, for all of them.
Documents = Callable[[], Iterable[tuple[str, str]]]


class Judgements:
    """A folder of judgements, on disk when a call returns.

    What is there already is kept: queries by their text, grades that nobody judges anew, a corpus.jsonl.

    Args:
        folder: made when the first judgement comes.
        documents: written as corpus.jsonl then, if there is none.

    Raises:
        InputError: files there that cannot be read, or a folder that cannot be written.
    """

    def __init__(self, folder: str | Path, documents: Documents, split: str = "test") -> None:
        if not split or Path(split).name != split:
            raise InputError(f"--split {split!r} is no name of a file")
        self.folder = Path(folder)
        check_output(self.folder, folder=True)
        self.documents = documents
        self._queries_file = self.folder / "queries.jsonl"
        self._qrels_file = self.folder / "qrels" / f"{split}.tsv"
        self._lock = threading.Lock()
        self._queries: dict[str, str] = {}  # text -> id
        if self._queries_file.is_file():
            for query_id, text in read_queries(self._queries_file).items():
                self._queries.setdefault(text, query_id)
        self._qrels: Qrels = read_qrels(self._qrels_file) if self._qrels_file.is_file() else {}

    def of(self, query: str) -> dict[str, int]:
        """Document id -> grade."""
        with self._lock:
            return dict(self._qrels.get(self._queries.get(query, ""), {}))

    def count(self) -> tuple[int, int]:
        """Judged queries and judgements."""
        with self._lock:
            return len(self._qrels), sum(map(len, self._qrels.values()))

    def judge(self, query: str, doc_id: str, relevant: bool | None) -> dict[str, int]:
        """Keep a judgement, or take it back (None); returns those of the query.

        Raises:
            InputError: an id or query that the files cannot hold; what keeps them from being written.
        """
        if doc_id != doc_id.strip() or not doc_id.isprintable():
            raise InputError(
                "qrels cannot hold this id: it begins or ends with a space, or holds a tab or line end"
            )
        if not query.strip():
            raise InputError("an empty query cannot be judged")
        with self._lock:
            self._write_corpus()
            if query not in self._queries:
                known = set(self._queries.values())
                number = len(known) + 1
                while f"q{number}" in known:
                    number += 1
                self._append_query(f"q{number}", query)
                self._queries[query] = f"q{number}"
            query_id = self._queries[query]
            changed = {key: dict(grades) for key, grades in self._qrels.items()}
            grades = changed.setdefault(query_id, {})
            if relevant is None:
                grades.pop(doc_id, None)
            else:
                grades[doc_id] = int(relevant)
            if not grades:
                del changed[query_id]
            if changed:
                write_qrels(self._qrels_file, changed)
            else:
                self._qrels_file.unlink(missing_ok=True)
            self._qrels = changed
            return dict(grades)

    def _append_query(self, query_id: str, text: str) -> None:
        before = self._queries_file.read_bytes() if self._queries_file.is_file() else b""
        if before and not before.endswith(b"\n"):
            before += b"\n"
        line = json.dumps({"_id": query_id, "text": text}, ensure_ascii=False) + "\n"
        with replacing(self._queries_file) as temporary:
            temporary.write_bytes(before + line.encode("utf-8", "replace"))

    def _write_corpus(self) -> None:
        corpus = self.folder / "corpus.jsonl"
        if corpus.is_file():
            return
        with replacing(corpus) as temporary, temporary.open("w", encoding="utf-8", errors="replace") as out:
            for doc_id, text in self.documents():
                out.write(json.dumps({"_id": doc_id, "text": text}, ensure_ascii=False) + "\n")
