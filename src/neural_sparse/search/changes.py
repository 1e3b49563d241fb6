"""An encoded collection that changes: documents added, replaced and deleted by id, while others search it.

A change writes the new documents as a segment of their own (segments/NUMBER) and the rows that are gone as a short
file, and then replaces encoded.json, which says what counts: in one step, so that a process that is killed leaves the
state before the change or after it. All of it is on the disk before. Segments next to each other are merged once the
later ones are together as large as the earlier one, or half of its rows are gone; so there are few of them (about the
logarithm of the number of changes), and a document is copied about as often. Merging writes a new segment beside the
old ones in bounded memory, and changes may go on meanwhile.

Documents are in the order in which they were written last. What a search finds is what it would find in an index built
anew from them in this order.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray

from neural_sparse.errors import InputError
from neural_sparse.io.files import file_sums, replacing, replacing_folder, settle, write_json, writing
from neural_sparse.io.parts import alone
from neural_sparse.io.urls import work_folder
from neural_sparse.search.doc_ids import DocumentIds
from neural_sparse.search.encoded import (
    FIELDS,
    MANIFEST,
    PASSAGES,
    EncodedCollection,
    load_segment,
    write_passages,
    write_texts,
)
from neural_sparse.search.fields import row_of, table_of, write_table
from neural_sparse.search.index import SparseIndex
from neural_sparse.search.passages import Passages
from neural_sparse.search.query_side import TRANSFORMER
from neural_sparse.search.snapshot import PackedTexts, Segment, Snapshot
from neural_sparse.search.storage import MANIFEST as INDEX_MANIFEST
from neural_sparse.search.storage import merge_on_disk
from neural_sparse.text.passages import passages_of
from neural_sparse.text.ragged import Indices
from neural_sparse.text.tokens import TokenizerFile

SEGMENTS = "segments"
ROOT_FILES = ("texts.bin", "text_offsets.npy", FIELDS, *PASSAGES)  # of a segment, beside its index
ROWS = 65_536  # texts copied at a time

# Texts -> csr float32 [texts, vocabulary], as the model of the collection encodes them.
EncodeDocuments = Callable[[Sequence[str]], sp.csr_matrix]


@dataclass(frozen=True)
class Change:
    """What a call of `ChangingCollection.change` did.

    Attributes:
        added, replaced, unchanged, deleted: documents.
        missing: ids to be deleted that were not there.
        generation: of the collection now.
    """

    added: int
    replaced: int
    unchanged: int
    deleted: int
    missing: int
    generation: int


@contextmanager
def changing(folder: str | Path, verify: bool = True) -> Iterator[ChangingCollection]:
    """A collection that this process alone changes, for as long as the block lasts.

    Raises:
        InputError: another process changes it or writes it anew; no collection, or a damaged one.
    """
    with alone(work_folder(Path(folder)), folder):
        yield ChangingCollection(folder, verify)


class ChangingCollection:
    """See `changing`. Calls from several threads wait for each other; `snapshot` may be searched at any time."""

    def __init__(self, folder: str | Path, verify: bool = True) -> None:
        self.collection = EncodedCollection(folder, verify)
        self.folder = Path(folder)
        self._changing = threading.RLock()
        self._merging = threading.Lock()
        if "files" not in self.collection.about:
            raise InputError(f"{folder}: written by an earlier version; encode the corpus again to change it")
        for unfinished in (self.folder / SEGMENTS).glob(".*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        self._drop_leftovers()

    @property
    def snapshot(self) -> Snapshot:
        return self.collection.snapshot

    def changed(
        self, ids: Sequence[str], texts: Sequence[str], fields: Sequence[Mapping[str, Any]] | None = None
    ) -> NDArray[np.bool_]:
        """Which of these documents are not there with exactly this text and these fields, bool [documents]."""
        snapshot = self.snapshot
        rows = snapshot.find(ids).tolist()
        if kinds := snapshot.kinds:
            table = table_of(fields or [{}] * len(ids), kinds, ids)
            new = [row_of(table, number) for number in range(len(ids))]
            same = [row >= 0 and snapshot.fields(row) == one for row, one in zip(rows, new, strict=True)]
            rows = [row if equal else -1 for row, equal in zip(rows, same, strict=True)]
        elif fields is not None:
            table_of(fields, kinds, ids)  # refuses any
        return np.array(
            [row < 0 or snapshot.text(row) != text for row, text in zip(rows, texts, strict=True)], bool
        )

    def change(
        self,
        ids: Sequence[str],
        texts: Sequence[str],
        encode: EncodeDocuments,
        delete: Sequence[str] = (),
        *,
        fields: Sequence[Mapping[str, Any]] | None = None,
    ) -> Change:
        """Add or replace documents and delete others, all of it or nothing; on the disk when it returns.

        Documents that are there with the same text stay where they are.

        Args:
            encode: of the texts that are new.
            delete: ids; those that are not there do not matter.
            fields: metadata of each document; nothing if None.

        Raises:
            InputError: an id that occurs twice, or is both written and deleted; vectors of another vocabulary; fields
                that the collection does not have; no place on the disk, which leaves the collection as it was.
        """
        if len(ids) != len(texts):
            raise InputError(f"{len(ids):,} ids for {len(texts):,} texts")
        names = DocumentIds.of(ids)
        gone = list(dict.fromkeys(delete))
        if len(names) and gone and (names.find(gone) >= 0).any():
            both = gone[int(np.flatnonzero(names.find(gone) >= 0)[0])]
            raise InputError(f"document {both!r} is to be written and deleted at once")
        with self._changing:
            wanted = np.flatnonzero(self.changed(ids, texts, fields)).tolist()
            before = self.snapshot
            new_ids = [ids[one] for one in wanted]
            old = before.find(new_ids) if wanted else np.empty(0, np.int64)
            dead = before.find(gone) if gone else np.empty(0, np.int64)
            replaced, deleted = int((old >= 0).sum()), int((dead >= 0).sum())
            if wanted or deleted:
                new_texts, counts = self._parted([texts[one] for one in wanted])
                vectors = encode(new_texts) if wanted else None
                rows = np.concatenate([old[old >= 0], dead[dead >= 0]])
                table = None
                if before.kinds and wanted:
                    table = table_of([fields[one] if fields else {} for one in wanted], before.kinds, new_ids)
                self._apply(new_ids, new_texts, vectors, gone=rows, fields=table, counts=counts)
            return Change(
                added=len(wanted) - replaced,
                replaced=replaced,
                unchanged=len(ids) - len(wanted),
                deleted=deleted,
                missing=len(gone) - deleted,
                generation=self.snapshot.generation,
            )

    def _parted(self, texts: list[str]) -> tuple[list[str], Indices | None]:
        """Passages, and how many each text has, where the collection has passages."""
        size = self.collection.about.get("passages")
        if size is None:
            return texts, None
        return passages_of(texts, self._tokenizer, size)

    @cached_property
    def _tokenizer(self) -> TokenizerFile:
        """One of its own: to ask for special tokens changes it, and queries are tokenized meanwhile."""
        return TokenizerFile(self.folder / "tokenizer.json")

    def _apply(
        self,
        ids: Sequence[str],
        texts: Sequence[str],
        vectors: sp.csr_matrix | None,
        *,
        gone: NDArray[np.int64],
        fields: pa.Table | None,
        counts: Indices | None,
    ) -> None:
        before = self.snapshot
        generation = before.generation + 1
        segments = []
        for base, segment in zip(before.bases, before.segments, strict=False):
            here = gone[(gone >= base) & (gone < base + len(segment))] - base
            if len(here):
                segment = replace(segment, deleted=np.union1d(segment.deleted, here))
            segments.append(segment)
        made: list[Path] = []
        try:
            if vectors is not None:
                if vectors.shape[1] != before.vocab_size:
                    raise InputError(
                        f"vectors of {vectors.shape[1]:,} dimensions, and the collection has {before.vocab_size:,}: "
                        "encode with the collection's model"
                    )
                name = f"{SEGMENTS}/{generation:08d}"
                made.append(self.folder / name)
                with replacing_folder(self.folder / name) as temporary:
                    names = DocumentIds.of(ids)
                    rows = names if counts is None else DocumentIds.numbers(len(texts))
                    SparseIndex.build(vectors, rows, before.vocabulary).save(temporary / "index")
                    if counts is not None:
                        write_passages(temporary, Passages.of(names, counts))
                    write_texts(temporary, [PackedTexts.of(texts)])
                    if fields is not None:
                        write_table(temporary / FIELDS, [fields])
                segments.append(load_segment(self.folder, {"folder": name, "deleted": None}, False))
            self._commit(segments, generation, made)
        except BaseException:
            for path in made:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
            raise
        self._drop_leftovers()

    def _commit(self, segments: Sequence[Segment], generation: int, made: list[Path]) -> None:
        """Make these segments what counts.

        Args:
            made: new folders of theirs; files of deleted rows are added to it.
        """
        segments = [segment for segment in segments if segment.documents] or list(segments[-1:])
        known = self.collection.about["files"]
        kept = {segment.name: segment for segment in self.snapshot.segments}
        entries: list[dict[str, Any]] = []
        files: dict[str, Any] = {}
        query_side = [
            name
            for name in known
            if name.startswith(f"{TRANSFORMER}/") or ("/" not in name and name not in ROOT_FILES)
        ]
        files |= {name: known[name] for name in query_side}
        for number, segment in enumerate(segments):
            prefix = "" if segment.name == "." else f"{segment.name}/"
            names = [f"{prefix}{name}" for name in (*ROOT_FILES, f"index/{INDEX_MANIFEST}")]
            if segment.fields is None:
                names.remove(f"{prefix}{FIELDS}")
            if segment.passages is None:
                names = [name for name in names if not name.endswith(PASSAGES)]
            fresh = [name for name in names if name not in known]
            files |= {name: known[name] for name in names if name in known}
            files |= file_sums(self.folder, fresh)
            entry = {"folder": segment.name, "deleted": None}
            if len(segment.deleted):
                before = kept.get(segment.name)
                file = None
                if before is not None and np.array_equal(before.deleted, segment.deleted):
                    file = self._deleted_file(segment.name)
                if file is None:
                    file = f"{SEGMENTS}/deleted-{generation:08d}-{number}.npy"
                    made.append(self.folder / file)
                    with replacing(made[-1]) as temporary, temporary.open("wb") as out:
                        np.save(out, segment.deleted.astype(np.int32), allow_pickle=False)
                    files |= file_sums(self.folder, [file])
                else:
                    files[file] = known[file]
                entry["deleted"] = file
            entries.append(entry)
        snapshot = Snapshot(segments, generation)
        terms = sum(len(segment.index.postings.docs) for segment in segments)
        about = {
            **self.collection.about,
            "documents": len(snapshot),
            "nonzero_terms": terms / max(1, int(snapshot.bases[-1])),
            "index_bytes": snapshot.nbytes,
            "generation": generation,
            "segments": entries,
            "files": files,
        }
        with writing(self.folder, self.folder):
            for path in made:
                settle(path)
            if made:
                settle(self.folder / SEGMENTS, within=False)
        with replacing(self.folder / MANIFEST) as temporary:
            write_json(temporary, about)
            settle(temporary)
        settle(self.folder, within=False)
        self.collection.about = about
        self.collection.snapshot = snapshot

    def _deleted_file(self, name: str) -> str | None:
        for entry in self.collection.about.get("segments", []):
            if entry["folder"] == name:
                return str(entry["deleted"]) if entry["deleted"] else None
        return None

    def _drop_leftovers(self) -> None:
        """Delete what no longer counts, or never came to: who searches it still has it open."""
        entries = self.collection.about.get("segments")
        if entries is None:
            return
        used = {entry["folder"] for entry in entries} | {entry["deleted"] for entry in entries}
        for path in (self.folder / SEGMENTS).glob("*"):
            if f"{SEGMENTS}/{path.name}" not in used and not path.name.startswith("."):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        if "." not in used:
            shutil.rmtree(self.folder / "index", ignore_errors=True)
            for name in ROOT_FILES:
                (self.folder / name).unlink(missing_ok=True)

    def merge(self) -> bool:
        """Merge some segments if it is time to; whether it was. Changes may go on in other threads meanwhile.

        Raises:
            InputError: no place on the disk, which leaves the collection as it was.
        """
        with self._merging:
            with self._changing:
                before = self.snapshot
                first, last = _to_merge([segment.documents for segment in before.segments], before.segments)
                if first == last:
                    return False
                number = before.generation
                name = f"{SEGMENTS}/{number:08d}-merged"
            chosen = before.segments[first:last]
            # Hidden until it counts, so that a change meanwhile does not take it for a leftover.
            hidden = self.folder / SEGMENTS / f".{number:08d}-merged"
            shutil.rmtree(hidden, ignore_errors=True)
            try:
                with replacing_folder(hidden) as temporary:
                    _write_merged(temporary, chosen)
                with writing(self.folder, self.folder):
                    settle(hidden)
                with self._changing:
                    hidden.rename(self.folder / name)
                    self._replace(chosen, first, name)
            finally:
                shutil.rmtree(hidden, ignore_errors=True)
            return True

    def _replace(self, chosen: Sequence[Segment], first: int, name: str) -> None:
        """Put the merged segment in the place of those it was made of, without what was deleted meanwhile."""
        now = self.snapshot.segments
        by_name = {segment.name: segment for segment in now}
        deleted, base = [], 0
        for segment in chosen:
            live = segment.live if len(segment.live) else np.ones(len(segment), np.bool_)
            current = by_name.get(segment.name)  # none where all of it was deleted
            gone = np.arange(len(live)) if current is None else current.deleted
            since = np.setdiff1d(gone, segment.deleted)
            deleted.append(base + (np.cumsum(live) - 1)[since])
            base += int(live.sum())
        entry = {"folder": name, "deleted": None}
        merged = load_segment(self.folder, entry, False)
        merged = replace(merged, deleted=np.concatenate(deleted).astype(np.int64))
        names = {segment.name for segment in chosen}
        places = [place for place, segment in enumerate(now) if segment.name in names]
        at = places[0] if places else first
        segments = [segment for segment in now if segment.name not in names]
        segments.insert(at, merged)
        made = [self.folder / name]
        try:
            self._commit(segments, self.snapshot.generation + 1, made)
        except BaseException:
            for path in made:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
            raise
        self._drop_leftovers()


def _to_merge(live: Sequence[int], segments: Sequence[Segment]) -> tuple[int, int]:
    """The range of segments to merge; an empty one if none has to be."""
    tail = 0
    first = last = len(live)
    for number in range(len(live) - 1, -1, -1):
        if tail >= live[number] and tail:
            first = number
        tail += live[number]
    if first < last:
        return first, last
    for number, segment in enumerate(segments):
        if 2 * len(segment.deleted) > len(segment) > 0 and segment.documents:
            return number, number + 1
    return 0, 0


def _write_merged(folder: Path, segments: Sequence[Segment]) -> None:
    parts, ids, counts = [], [], []
    for segment in segments:
        segment.index.check()
        live = segment.live if len(segment.live) else np.ones(len(segment), np.bool_)
        rows = segment.live_rows if len(segment.live) else np.ones(len(segment.index), np.bool_)
        parts.append((segment.index.postings, rows))
        ids.append(segment.doc_ids.keep(live))
        if segment.passages is not None:
            counts.append(segment.passages.counts[live])
    names = rows_of = DocumentIds.join(ids)
    if counts:
        passages = Passages.of(names, np.concatenate(counts))
        write_passages(folder, passages)
        rows_of = DocumentIds.numbers(int(passages.first[-1]))
    merge_on_disk(folder / "index", parts, rows_of, segments[0].index.vocabulary)
    write_texts(folder, _kept_texts(segments))
    if segments[0].fields is not None:
        write_table(folder / FIELDS, _kept_fields(segments))


def _kept_fields(segments: Sequence[Segment]) -> Iterator[pa.Table]:
    for segment in segments:
        if segment.fields is not None:
            yield segment.fields.filter(pa.array(segment.live)) if len(segment.live) else segment.fields


def _kept_texts(segments: Sequence[Segment]) -> Iterator[PackedTexts]:
    for segment in segments:
        for start in range(0, len(segment.index), ROWS):
            rows = np.arange(start, min(start + ROWS, len(segment.index)))
            if len(segment.live):
                rows = rows[segment.live_rows[rows]]
            yield PackedTexts.of([segment.texts[int(row)] for row in rows])
