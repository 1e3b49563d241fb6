"""What a collection holds at one moment: segments of documents, each with its vectors and texts, less what was deleted.

A segment never changes. A change writes a new one and marks rows of others as deleted, and makes a new snapshot; a
search goes on over the snapshot that it began with. A score depends on the document alone, and hits of all segments
are ordered as those of one index would be, so that a snapshot finds what an index built anew from its documents finds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, overload

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from neural_sparse.errors import InputError
from neural_sparse.search.doc_ids import DocumentIds
from neural_sparse.search.exact import NO_HIT, write_hits
from neural_sparse.search.hits import Hits
from neural_sparse.search.index import NO_FILTER, SparseIndex
from neural_sparse.search.passages import Passages
from neural_sparse.search.postings import join, keep_documents

if TYPE_CHECKING:
    import pyarrow as pa


class Texts(Protocol):
    """Texts by row, read when they are asked for."""

    def __getitem__(self, row: int, /) -> str: ...


@dataclass(frozen=True)
class PackedTexts:
    """Texts in UTF-8, one after another.

    Attributes:
        text: uint8 [bytes].
        lengths: int64 [texts], bytes of each.
    """

    text: NDArray[np.uint8]
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[str]) -> PackedTexts:
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        return cls(np.frombuffer(b"".join(encoded), np.uint8), lengths)


@dataclass(frozen=True)
class MappedTexts:
    """Texts on disk.

    Attributes:
        text: uint8 [bytes].
        offsets: int64 [texts + 1].
    """

    text: NDArray[np.uint8]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> str:
        return bytes(self.text[self.offsets[row] : self.offsets[row + 1]]).decode("utf-8", "surrogatepass")

    @property
    def nbytes(self) -> int:
        return self.text.nbytes + self.offsets.nbytes


class Part(NamedTuple):
    """A passage of a document, or the whole of one that has no passages.

    Attributes:
        text, vector: of the passage; csr float32 [1, vocabulary].
        before, after: whether the document has more text there.
    """

    text: str
    vector: sp.csr_matrix
    before: bool
    after: bool


@dataclass(frozen=True)
class Segment:
    """Documents that were written together.

    Attributes:
        index: their vectors and ids; of passages, by number, where the collection has passages.
        texts: of the same rows.
        deleted: int64, documents that are no longer there, ascending.
        name: of its folder inside the collection's.
        fields: metadata, a table with a row per document; None where the collection has none.
        passages: of the documents; None where the rows are documents.
    """

    index: SparseIndex
    texts: Texts
    deleted: NDArray[np.int64]
    name: str = ""
    fields: pa.Table | None = None
    passages: Passages | None = None

    def __len__(self) -> int:
        """Documents, deleted ones included."""
        return len(self.index) if self.passages is None else len(self.passages)

    @property
    def doc_ids(self) -> DocumentIds:
        return self.index.doc_ids if self.passages is None else self.passages.ids

    @property
    def nbytes(self) -> int:
        """Bytes of the index, and of what says which passages are of which document."""
        passages = self.passages
        return self.index.nbytes + (
            passages.ids.nbytes + passages.first.nbytes if passages is not None else 0
        )

    @cached_property
    def live(self) -> NDArray[np.bool_]:
        """bool [documents]; empty where all of them are there."""
        if not len(self.deleted):
            return NO_FILTER
        mask = np.ones(len(self), np.bool_)
        mask[self.deleted] = False
        return mask

    @cached_property
    def live_rows(self) -> NDArray[np.bool_]:
        """As `live`, of the rows of the index."""
        return self.live if self.passages is None else self.passages.mask(self.live)

    @property
    def documents(self) -> int:
        """Those that are there."""
        return len(self) - len(self.deleted)

    def text(self, document: int) -> str:
        if self.passages is None:
            return self.texts[document]
        return "".join(self.texts[row] for row in self.passages.rows(document))

    def vectors(self, documents: Sequence[int]) -> sp.csr_matrix:
        """float32 [documents, vocabulary]; of passages, the greatest weight of each token in any of them."""
        if self.passages is None:
            return self.index.vectors(documents)
        parts = [self.index.vectors(self.passages.rows(one)).max(axis=0) for one in documents]
        return sp.csr_matrix(sp.vstack(parts, format="csr"))

    def parts(self, document: int) -> list[Part]:
        """Its passages, or itself."""
        rows = range(document, document + 1) if self.passages is None else self.passages.rows(document)
        vectors = self.index.vectors(rows)
        return [
            Part(self.texts[row], sp.csr_matrix(vectors[place]), before=place > 0, after=row + 1 < rows.stop)
            for place, row in enumerate(rows)
        ]

    def best_keys(
        self,
        queries: sp.csr_matrix,
        k: int,
        allowed: NDArray[np.bool_] | None = None,
        *,
        blocks: float | None = None,
    ) -> NDArray[np.int64]:
        """As `SparseIndex.best_keys`, of documents.

        Args:
            allowed: bool [documents]; those that are there if None.
            blocks: per hit, as in `Snapshot.search`; as many more as documents have been deleted.
        """
        if self.passages is None:
            if allowed is not None:
                return self.index.best_keys(queries, k, allowed)
            return self.index.best_keys(queries, k, self.live, blocks=self._blocks(blocks))
        rows = self.live_rows if allowed is None else self.passages.mask(allowed)
        return self.passages.best_keys(self.index, queries, k, rows)

    def mode(self, k: int, blocks: float | None = None) -> str:
        """As `SparseIndex.mode`."""
        return self.index.mode(k if self.passages is None else self.passages.depth(k), self._blocks(blocks))

    def _blocks(self, blocks: float | None) -> float | None:
        return None if blocks is None else blocks * len(self) / max(1, self.documents)


class Snapshot:
    """The documents of one moment, in the order in which they were written last.

    Rows count through all segments, deleted documents included: row 0 is the first of the first segment.

    Attributes:
        segments: in order.
        generation: how many changes came before.
    """

    def __init__(self, segments: Sequence[Segment], generation: int = 0) -> None:
        if not segments:
            raise InputError("a collection has at least one segment")
        self.segments = tuple(segments)
        self.generation = generation
        self.bases = np.concatenate([[0], np.cumsum([len(segment) for segment in segments])])

    def __len__(self) -> int:
        return sum(segment.documents for segment in self.segments)

    @property
    def vocabulary(self) -> str | None:
        return self.segments[0].index.vocabulary

    @property
    def vocab_size(self) -> int:
        return self.segments[0].index.vocab_size

    @cached_property
    def posting_lengths(self) -> NDArray[np.int64]:
        """Postings per term, int64 [vocabulary]: what a query reads, those of deleted documents included."""
        return np.sum([segment.index.posting_lengths for segment in self.segments], axis=0)

    @property
    def nbytes(self) -> int:
        """Bytes of the indexes."""
        return sum(segment.nbytes for segment in self.segments)

    def rows(self) -> NDArray[np.int64]:
        """Rows of all documents that are there, in order."""
        return self._rows

    @cached_property
    def _rows(self) -> NDArray[np.int64]:
        parts = [
            base + (np.flatnonzero(segment.live) if len(segment.live) else np.arange(len(segment)))
            for base, segment in zip(self.bases, self.segments, strict=False)
        ]
        return np.concatenate(parts)

    def place(self, row: int) -> tuple[Segment, int]:
        """The segment that holds a row, and the row within it.

        Raises:
            IndexError: no such row.
        """
        if not 0 <= row < self.bases[-1]:
            raise IndexError(f"row {row} of {self.bases[-1]}")
        number = int(np.searchsorted(self.bases, row, side="right")) - 1
        return self.segments[number], row - int(self.bases[number])

    def doc_id(self, row: int) -> str:
        segment, local = self.place(row)
        return segment.doc_ids[local]

    def ids(self, rows: NDArray[np.integer]) -> list[str]:
        """Ids of some rows, in their order."""
        if len(self.segments) == 1:
            return self.segments[0].doc_ids.take(rows)
        numbers = np.searchsorted(self.bases, rows, side="right") - 1
        names = np.empty(len(rows), object)
        for number in np.unique(numbers):
            here = numbers == number
            names[here] = self.segments[number].doc_ids.take(rows[here] - self.bases[number])
        return names.tolist()

    def text(self, row: int) -> str:
        segment, local = self.place(row)
        return segment.text(local)

    @property
    def kinds(self) -> dict[str, str]:
        """Field -> kind, of the documents' metadata."""
        table = self.segments[0].fields
        if table is None:
            return {}
        from neural_sparse.search.fields import (
            kinds_in,  # pyarrow: 25 MB that a server without fields does not need
        )

        return kinds_in(table)

    def fields(self, row: int) -> dict[str, Any]:
        """Metadata of a document, without what it lacks."""
        segment, local = self.place(row)
        if segment.fields is None:
            return {}
        from neural_sparse.search.fields import row_of

        return row_of(segment.fields, local)

    def vectors(self, rows: Sequence[int]) -> sp.csr_matrix:
        """Vectors of a few documents, float32 [rows, vocabulary], in the order of `rows`: see `Segment.vectors`."""
        if not len(rows):
            return sp.csr_matrix(np.zeros((0, self.vocab_size), np.float32))
        wanted = np.asarray(rows, np.int64)
        numbers = np.searchsorted(self.bases, wanted, side="right") - 1
        order = np.argsort(numbers, kind="stable")
        parts = []
        for number in np.unique(numbers):
            here = wanted[order][numbers[order] == number] - self.bases[number]
            parts.append(self.segments[number].vectors(here.tolist()))
        return sp.csr_matrix(sp.vstack(parts, format="csr")[np.argsort(order)])

    def parts(self, row: int) -> list[Part]:
        """A document's passages, or itself where the collection has none."""
        segment, local = self.place(row)
        return segment.parts(local)

    def best_part(self, row: int, query: sp.csr_matrix) -> Part:
        """The passage that makes a document's score; the first of several that score the same.

        Args:
            query: [1, vocabulary].
        """
        parts = self.parts(row)
        if len(parts) == 1:
            return parts[0]
        weights = query.astype(np.float64).T
        return max(parts, key=lambda part: np.float32((part.vector.astype(np.float64) @ weights).sum()))

    def find(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Row of each id, int64; -1 where no such document is there."""
        rows = np.full(len(ids), -1, np.int64)
        for base, segment in zip(self.bases, self.segments, strict=False):
            found = DocumentIds.find(segment.doc_ids, ids)
            there = found >= 0
            if len(segment.live):
                there &= segment.live[found]  # of a row -1 it does not matter
            rows[there] = base + found[there]
        return rows

    def search(
        self,
        queries: sp.csr_matrix,
        k: int,
        *,
        without: Iterable[str] = (),
        filters: Mapping[str, Any] | None = None,
        blocks: float | None = None,
    ) -> Hits:
        """The k best documents of each query; a document that shares no token with it is no hit.

        In this thread, without the interpreter's lock but for moments: threads search beside each other.

        Args:
            queries: [queries, vocabulary], weights >= 0.
            without: ids that may not be found; those that are not there do not matter.
            filters: on metadata, see `fields.check_filters`.
            blocks: for each hit, as in `SparseIndex.search`; with `without` or `filters` the search is exact.

        Raises:
            InputError: k < 1, queries of another vocabulary, a bad weight, a filter that is none; blocks of documents
                in passages.
        """
        if k < 1:
            raise InputError(f"k must be at least 1, got {k}")
        if blocks is not None:
            self.check_approximate()
        queries = self.segments[0].index.checked_queries(queries)
        excluded = self.find(ids) if (ids := list(without)) else None
        if filters:
            from neural_sparse.search.fields import check_filters, matching

            check_filters(filters, self.kinds)
        if filters or excluded is not None:
            blocks = None
        parts = []
        for number, segment in enumerate(self.segments):
            mask = None
            if filters and segment.fields is not None:
                mask = matching(segment.fields, filters)
                mask = mask & segment.live if len(segment.live) else mask
            base, end = self.bases[number], self.bases[number + 1]
            if excluded is not None and len(here := excluded[(excluded >= base) & (excluded < end)] - base):
                mask = segment.live if mask is None else mask
                mask = mask.copy() if len(mask) else np.ones(len(segment), np.bool_)
                mask[here] = False
            if not len(segment):
                continue
            keys = segment.best_keys(queries, k, mask, blocks=blocks)
            # A key holds the complement of the row, so a later row is a smaller key.
            parts.append(np.where(keys == NO_HIT, NO_HIT, keys - base) if base else keys)
        hits = Hits(
            np.full((queries.shape[0], k), -1, np.int32),
            np.zeros((queries.shape[0], k), np.float32),
            _Ids(self),
        )
        if parts:
            keys = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
            if keys.shape[1] > k:
                keys = np.partition(keys, keys.shape[1] - k, axis=1)[:, -k:]
            write_hits(keys, hits.docs, hits.scores)
        return hits

    def check_approximate(self) -> None:
        """
        Raises:
            InputError: documents in passages, whose scores an approximate search would not know.
        """
        if self.segments[0].passages is not None:
            raise InputError(
                "documents in passages are searched exactly: a document scores as its best passage, and an approximate "
                "search may miss that one and find another; leave the recall out"
            )

    def mode(self, k: int, blocks: float | None = None) -> str:
        """How `search` finds the k best (`SparseIndex.mode`), by the greatest segment: the others are asked alike."""
        return max(self.segments, key=len).mode(k, blocks)

    def joined(self) -> SparseIndex:
        """One index of the documents that are there, in memory.

        Raises:
            InputError: documents in passages, of which none has one vector.
        """
        first = self.segments[0]
        if first.passages is not None:
            raise InputError(
                "the documents are encoded in passages, not as one vector each: encode the corpus without --passages"
            )
        if len(self.segments) == 1 and not len(first.deleted):
            return first.index
        postings, ids = [], []
        for segment in self.segments:
            segment.index.check()
            part, names = segment.index.postings, segment.index.doc_ids
            if len(segment.live):
                part, names = keep_documents(part, segment.live), names.keep(segment.live)
            postings.append(part)
            ids.append(names)
        return SparseIndex(join(postings), DocumentIds.join(ids), self.vocabulary)


class _Ids(Sequence[str]):
    """Ids by the rows of a snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def __len__(self) -> int:
        return int(self._snapshot.bases[-1])

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(len(self)))]
        return self._snapshot.doc_id(row)
