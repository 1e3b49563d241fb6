"""Texts by id, memory-mapped: what judgements and triples are joined with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from neural_sparse.errors import InputError
from neural_sparse.io.files import replacing
from neural_sparse.text.ragged import locate, offsets_of

_ROWS = 50_000
_SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string())])


class RepeatedIdError(InputError):
    """An id that occurs twice; the reader of the files can say where."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the id {key!r} occurs twice")
        self.key = key


class TextTable:
    """Texts of a corpus or of queries, found by their ids; only 16 bytes a text are in memory.

    Of one at a time: by one 64-bit hash, which the id in the file confirms, in less memory and two thirds of the time
    that `text.keys.KeyIndex` takes, which is made for many at once.
    """

    def __init__(self, path: Path) -> None:
        self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self._batches = [self._reader.get_batch(at) for at in range(self._reader.num_record_batches)]
        counts = [batch.num_rows for batch in self._batches]
        self._starts = offsets_of(counts)
        ids = (key for batch in self._batches for key in batch["id"].to_pylist())
        hashes = np.fromiter(map(_hash, ids), np.uint64, len(self))
        self._order = np.argsort(hashes, kind="stable")
        self._sorted = hashes[self._order]
        if len(hashes) > 1 and (same := np.flatnonzero(self._sorted[1:] == self._sorted[:-1])).size:
            raise RepeatedIdError(self._id(int(self._order[same[0]])))

    @classmethod
    def make(cls, path: Path, rows: Iterable[tuple[str, str]]) -> TextTable:
        """Write (id, text) rows, streamed, unless `path` is there already."""
        if not path.is_file():
            with replacing(path) as temporary, pa.ipc.new_file(str(temporary), _SCHEMA) as writer:
                for batch in _grouped(rows):
                    writer.write_batch(batch)
        return cls(path)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def get(self, key: str) -> str | None:
        """The text of an id, or None."""
        wanted = np.uint64(_hash(key))
        at = int(np.searchsorted(self._sorted, wanted))
        if at == len(self._sorted) or self._sorted[at] != wanted:
            return None
        row = int(self._order[at])
        batch, place = self._place(row)
        return str(batch["text"][place].as_py()) if batch["id"][place].as_py() == key else None

    def _id(self, row: int) -> str:
        batch, place = self._place(row)
        return str(batch["id"][place].as_py())

    def _place(self, row: int) -> tuple[pa.RecordBatch, int]:
        number, place = locate(self._starts, row)
        return self._batches[number], int(place)


def _grouped(rows: Iterable[tuple[str, str]]) -> Iterator[pa.RecordBatch]:
    ids: list[str] = []
    texts: list[str] = []
    for key, text in rows:
        ids.append(key)
        texts.append(text)
        if len(ids) == _ROWS:
            yield pa.record_batch([pa.array(ids), pa.array(texts)], schema=_SCHEMA)
            ids, texts = [], []
    if ids:
        yield pa.record_batch([pa.array(ids), pa.array(texts)], schema=_SCHEMA)


def _hash(key: str) -> int:
    return xxhash.xxh3_64_intdigest(key.encode())
