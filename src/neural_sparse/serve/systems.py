"""What a server searches with: an encoded collection, or BM25 over its texts, by one name each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from neural_sparse.errors import InputError
from neural_sparse.report.explained import explain_hit
from neural_sparse.report.highlighted import (
    FindSpans,
    Span,
    best_passage,
    pieces,
    token_spans,
    word_spans,
)
from neural_sparse.search.budget import Budget
from neural_sparse.search.encoded import EncodedCollection
from neural_sparse.search.fusion import fused
from neural_sparse.search.hits import APPROXIMATE, Hits
from neural_sparse.search.snapshot import Part, Segment, Snapshot, Texts
from neural_sparse.serve.approximate import DEPTHS, Approximate
from neural_sparse.serve.requests import Fuse, Refused, Search
from neural_sparse.text.tokens import nfc, top_terms, vocabulary

if TYPE_CHECKING:
    from neural_sparse.search.changes import ChangingCollection, EncodeDocuments

MOST_ADDED = 24  # tokens that the model added, per hit
MOST_SHOWN = 4000  # tokens of a document's vector


@dataclass(frozen=True)
class Changing:
    """A collection with what encodes new documents."""

    collection: ChangingCollection
    encode: EncodeDocuments

    def change(
        self,
        ids: Sequence[str],
        texts: Sequence[str],
        fields: Sequence[Mapping[str, Any]] | None,
        delete: Sequence[str],
    ) -> dict[str, Any]:
        done = self.collection.change(ids, texts, self.encode, delete, fields=fields)
        return {**asdict(done), "documents": len(self.collection.snapshot)}


@dataclass
class System:
    """One way to search.

    Attributes:
        name: as requests have it.
        kind: "model" or "bm25".
        current: the documents as they are now.
        names: of the tokens, by id.
        encode: texts -> csr float32 [texts, vocabulary].
        spans: where a text's tokens lie in it.
        about: what else is known, for people.
        changing: how documents are changed; None where they cannot be.
        approximate: what a recall takes; None: the search is exact.
    """

    name: str
    kind: str
    current: Callable[[], Snapshot]
    names: Sequence[str]
    encode: Callable[[Sequence[str]], sp.csr_matrix]
    spans: FindSpans
    about: Mapping[str, Any] = field(default_factory=dict)
    changing: Changing | None = None
    approximate: Approximate | None = None

    @cached_property
    def token_ids(self) -> dict[str, int]:
        return {name: token for token, name in enumerate(self.names)}

    def query(self, text: str | None, tokens: Mapping[str, float] | None = None) -> sp.csr_matrix:
        """The query's vector [1, vocabulary].

        Raises:
            Refused: a token that is none of the vocabulary.
        """
        return self.encode([text]) if text is not None else self._vectors([tokens or {}])

    def _vectors(self, queries: Sequence[Mapping[str, float]]) -> sp.csr_matrix:
        """Of tokens with their weights: csr float32 [queries, vocabulary]."""
        ids = self.token_ids
        try:
            columns = np.array([ids[token] for query in queries for token in query], np.int32)
        except KeyError as error:
            raise Refused(422, f"query_tokens: {error.args[0][:100]!r} is no token of {self.name}") from None
        values = np.array([weight for query in queries for weight in query.values()], np.float32)
        ends = np.array([0, *accumulate(map(len, queries))], np.int32)
        vectors = sp.csr_matrix((values, columns, ends), shape=(len(queries), len(self.names)))
        vectors.sort_indices()
        vectors.has_canonical_format = True
        return vectors

    def tokens(self, vector: sp.csr_matrix) -> list[dict[str, Any]]:
        return [{"token": token, "weight": _short(weight)} for token, weight in top_terms(vector, self.names)]

    def find(
        self,
        snapshot: Snapshot,
        vectors: sp.csr_matrix,
        k: int,
        *,
        without: Sequence[str] = (),
        filters: Mapping[str, Any] | None = None,
    ) -> tuple[Hits, str]:
        """The k best, and how they were found: approximately where that was measured for all documents and pays."""
        budget = None if without or filters else self._budget(snapshot, k)
        if budget is not None:
            return snapshot.search(vectors, k, blocks=budget.blocks), budget.mode
        hits = snapshot.search(vectors, k, without=without, filters=filters)
        return hits, f"exact: {snapshot.mode(k)}"

    def mode(self, snapshot: Snapshot, k: int) -> str:
        """How `find` finds k of all documents."""
        budget = self._budget(snapshot, k)
        return f"exact: {snapshot.mode(k)}" if budget is None else budget.mode

    def _budget(self, snapshot: Snapshot, k: int) -> Budget | None:
        budget = None if self.approximate is None else self.approximate.budget(k)
        return budget if budget is not None and snapshot.mode(k, budget.blocks) == APPROXIMATE else None

    def search_together(self, asked: Sequence[Search]) -> list[dict[str, Any]]:
        """What `search` finds for each of several `plain` requests, by one search of the index.

        Args:
            asked: of one k; all of them have a text, or all have tokens.

        Raises:
            Refused: a token of any of them that is none of the vocabulary.
        """
        started = time.perf_counter()
        snapshot = self.current()
        if asked[0].query is None:
            vectors = self._vectors([one.query_tokens or {} for one in asked])
        else:
            vectors = self.encode([one.query or "" for one in asked])
        hits, mode = self.find(snapshot, vectors, asked[0].k)
        there = hits.docs >= 0
        ids = iter(snapshot.ids(hits.docs[there]))
        # A search has emptied the processor's caches: of few numbers lists are cheaper than one array after another.
        counts, scores = there.sum(axis=1).tolist(), hits.scores.tolist()
        terms, weights = vectors.indices.tolist(), vectors.data.tolist()
        lengths = snapshot.posting_lengths[vectors.indices].tolist()
        ends = vectors.indptr.tolist()
        milliseconds = round(1000 * (time.perf_counter() - started) / len(asked), 3)
        found = []
        for row, count in enumerate(counts):
            part = slice(ends[row], ends[row + 1])
            heaviest = sorted(zip(weights[part], terms[part], strict=True), key=_heaviest_first)
            found.append(
                {
                    "index": self.name,
                    "milliseconds": milliseconds,
                    "mode": mode,
                    "documents": len(snapshot),
                    "postings": sum(lengths[part]),
                    "query_tokens": [
                        {"token": self.names[term], "weight": _short(weight)} for weight, term in heaviest
                    ],
                    "hits": [{"id": next(ids), "score": score} for score in scores[row][:count]],
                }
            )
        return found

    def search(self, asked: Search, other: System | None = None) -> dict[str, Any]:
        """What `POST /search` answers.

        Args:
            other: whose hits are fused with these.

        Raises:
            Refused: a token that is none of the vocabulary.
        """
        if asked.plain:
            return self.search_together([asked])[0]
        started = time.perf_counter()
        snapshot = self.current()
        vector = self.query(asked.query, asked.query_tokens)
        depth = asked.k if asked.fuse is None else max(asked.k, asked.fuse.depth)
        hits, mode = self.find(snapshot, vector, depth, without=asked.without, filters=asked.filters)
        there = hits.docs[0][hits.docs[0] >= 0]
        rows = there.tolist()
        found = [
            {"id": doc_id, "score": score}
            for doc_id, score in zip(snapshot.ids(there), hits.scores[0].tolist(), strict=False)
        ]
        if asked.fuse is not None and other is not None:
            found, their_mode = self._fused(found, other, asked.fuse, asked)
            mode = f"{mode}; {other.name}: {their_mode}"
            places = snapshot.find([hit["id"] for hit in found]).tolist()
            found = [hit for hit, row in zip(found, places, strict=True) if row >= 0][: asked.k]
            rows = [row for row in places if row >= 0][: asked.k]
        seconds = time.perf_counter() - started
        if asked.explain or asked.snippets or asked.texts:
            self._describe(found, rows, snapshot=snapshot, vector=vector, asked=asked)
        return {
            "index": self.name,
            "milliseconds": round(1000 * seconds, 3),
            "mode": mode,
            "postings": int(snapshot.posting_lengths[vector.indices].sum()),
            "documents": len(snapshot),
            "query_tokens": self.tokens(vector),
            "hits": found,
        }

    @staticmethod
    def _fused(
        found: Sequence[Mapping[str, Any]], other: System, how: Fuse, asked: Search
    ) -> tuple[list[dict[str, Any]], str]:
        """The hits of both, and how the other's were found."""
        depth = max(asked.k, how.depth)
        hits, mode = other.find(
            other.current(), other.query(asked.query), depth, without=asked.without, filters=asked.filters
        )
        rankings = [
            {hit["id"]: hit["score"] for hit in found},
            dict(zip(hits.ids()[0], hits.scores[0].tolist(), strict=False)),
        ]
        both = fused(rankings, how.method, [how.weight, 1 - how.weight])
        return [
            {"id": doc_id, "score": score, "scores": [ranking.get(doc_id) for ranking in rankings]}
            for doc_id, score in both.items()
        ], mode

    def _describe(
        self,
        found: list[dict[str, Any]],
        rows: Sequence[int],
        snapshot: Snapshot,
        vector: sp.csr_matrix,
        asked: Search,
    ) -> None:
        query = dict(zip(vector.indices.tolist(), vector.data.tolist(), strict=True))
        for place, row in enumerate(rows):
            hit = found[place]
            if asked.texts:
                hit["text"] = nfc(snapshot.text(row))
            if fields := snapshot.fields(row):
                hit["metadata"] = fields
            if not (asked.explain or asked.snippets):
                continue
            part = snapshot.best_part(row, vector)
            text, document = nfc(part.text), part.vector
            spans = self.spans(text)
            adds = _adds(query, document)
            hit["snippet"] = _snippet(text, spans, adds, part)
            if asked.explain:
                hit |= self._explained(hit["id"], text, query=query, document=document, spans=spans)

    def _explained(
        self,
        doc_id: str,
        text: str,
        query: Mapping[int, float],
        document: sp.csr_matrix,
        spans: Sequence[Span],
    ) -> dict[str, Any]:
        why = explain_hit(
            doc_id,
            text,
            query_weights={self.names[token]: weight for token, weight in query.items()},
            doc_weights=dict(top_terms(document, self.names)),
            text_tokens={self.names[span.token] for span in spans},
        ).to_dict()
        return {
            "matched": [
                {key: _short(value) if isinstance(value, float) else value for key, value in match.items()}
                for match in why["matched"]
            ],
            "expansion": [[token, _short(weight)] for token, weight in why["expansion"][:MOST_ADDED]],
        }

    def document(self, doc_id: str, query: str | None) -> dict[str, Any]:
        """A document whole: its text in pieces by what a query finds in it, and its vector; of passages, each piece by
        its passage's vector, and the greatest weight of each token.

        Raises:
            Refused: no such document.
        """
        snapshot = self.current()
        row = int(snapshot.find([doc_id])[0])
        if row < 0:
            raise Refused(404, f"{self.name} has no document with this id")
        vector = snapshot.vectors([row])
        asked = self.query(query or None, {})
        weights = dict(zip(asked.indices.tolist(), asked.data.tolist(), strict=True))
        own: set[int] = set()
        shown: list[tuple[str, float]] = []
        for part in snapshot.parts(row):
            text = nfc(part.text)
            spans = self.spans(text)
            own |= {span.token for span in spans}
            shown += pieces(text, spans, _adds(weights, part.vector))
        vector_tokens = [
            {
                "token": token,
                "weight": _short(weight),
                "in_text": self.token_ids[token] in own,
                "matched": self.token_ids[token] in weights,
            }
            for token, weight in top_terms(vector, self.names, MOST_SHOWN)
        ]
        return {
            "index": self.name,
            "id": doc_id,
            "text": [[piece, _short(weight)] for piece, weight in shown],
            "metadata": snapshot.fields(row),
            "tokens": vector.nnz,
            "vector": vector_tokens,
        }

    def describe(self) -> dict[str, Any]:
        """What `GET /indexes` says of it."""
        snapshot = self.current()
        documents = len(snapshot)
        return {
            "name": self.name,
            "kind": self.kind,
            "documents": documents,
            "segments": len(snapshot.segments),
            "generation": snapshot.generation,
            "index_bytes": snapshot.nbytes,
            "vocabulary_size": len(self.names),
            "fields": snapshot.kinds,
            "can_change": self.changing is not None,
            "modes": {str(k): self.mode(snapshot, k) for k in (10, *DEPTHS)},
            "approximate": None if self.approximate is None else self.approximate.describe(),
            **self.about,
        }


def encoded_system(
    name: str,
    folder: str | Path,
    verify: bool = True,
    *,
    recall: float | None = None,
    sample: Sequence[str] = (),
) -> System:
    """A folder made by `neural-sparse encode`.

    Args:
        recall, sample: of approximate search (`EncodedCollection.approximate`); None: exact.

    Raises:
        InputError: no such folder, or one that is damaged; a recall that cannot be had of it.
    """
    return _system(name, EncodedCollection(folder, verify), recall, sample)


def changing_system(
    name: str,
    collection: ChangingCollection,
    encode: EncodeDocuments,
    *,
    recall: float | None = None,
    sample: Sequence[str] = (),
) -> System:
    """A collection that this process alone changes.

    Args:
        recall, sample: as `encoded_system`; measured anew when a tenth of the documents has changed.
    """
    system = _system(name, collection.collection, recall, sample)
    system.changing = Changing(collection, encode)
    return system


def _system(name: str, collection: EncodedCollection, recall: float | None, sample: Sequence[str]) -> System:
    approximate = None
    if recall is not None:
        try:
            approximate = Approximate(collection, recall, sample)
        except InputError as error:
            raise InputError(f"{collection.folder}: {error}") from error
    length = collection.about.get("max_length")
    return System(
        name,
        "model",
        lambda: collection.snapshot,
        names=vocabulary(collection.query_tokenizer),
        encode=collection.encode_queries,
        spans=token_spans(collection.query_tokenizer, length),
        about={
            "model": collection.about.get("model"),
            "max_length": length,
            "passages": collection.about.get("passages"),
            "query_encoder": collection.query_encoder,
        },
        approximate=approximate,
    )


@dataclass(frozen=True)
class _Chosen(Texts):
    """Texts of some rows of a snapshot."""

    snapshot: Snapshot
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> str:
        return self.snapshot.text(int(self.rows[row]))


def bm25_system(of: System, name: str = "bm25") -> System:
    """BM25 over the texts of another system, indexed now, in memory; `english_plus` as everywhere."""
    from neural_sparse.search.bm25 import BM25Index

    snapshot = of.current()
    rows = snapshot.rows()
    texts = _Chosen(snapshot, rows)
    index = BM25Index.build(
        [texts[row] for row in range(len(rows))], [snapshot.doc_id(int(row)) for row in rows], language="auto"
    )
    fields = None
    if snapshot.kinds:
        from neural_sparse.search.fields import table_of

        fields = table_of([snapshot.fields(int(row)) for row in rows], snapshot.kinds)
    bm25 = Snapshot([Segment(index.index, texts, np.empty(0, np.int64), fields=fields)])
    names = sorted(index.words.vocabulary, key=index.words.vocabulary.__getitem__)
    lock = threading.Lock()  # its tokenizer learns while it reads
    find = word_spans(index.words)

    def encode(queries: Sequence[str]) -> sp.csr_matrix:
        with lock:
            return index.encode_queries(queries)

    def spans(text: str) -> list[Span]:
        with lock:
            return find(text)

    return System(
        name,
        "bm25",
        lambda: bm25,
        names=names,
        encode=encode,
        spans=spans,
        about={"k1": index.k1, "b": index.b},
    )


def _adds(query: Mapping[int, float], document: sp.csr_matrix) -> dict[int, float]:
    """What each of the document's tokens adds to the score."""
    return {
        token: query[token] * weight
        for token, weight in zip(document.indices.tolist(), document.data.tolist(), strict=True)
        if token in query
    }


def _snippet(text: str, spans: Sequence[Span], adds: Mapping[int, float], part: Part) -> dict[str, Any]:
    start, end = best_passage(text, spans, adds)
    return {
        "pieces": [
            [part, _short(weight)] for part, weight in pieces(text, spans, adds, start=start, end=end)
        ],
        "before": start > 0 or part.before,
        "after": end < len(text) or part.after,
    }


def _heaviest_first(token: tuple[float, int]) -> tuple[float, int]:
    weight, term = token
    return -weight, term


def _short(weight: float) -> float:
    return float(f"{weight:.5g}")
