"""A part of a source on its way to a prepared folder: cleaned examples with what is compared across parts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from neural_sparse.data.cleaning import Cleaned, Counts
from neural_sparse.text.keys import Keys, text_key
from neural_sparse.text.shingles import BANDS, DOCUMENT_SHINGLE, QUERY_SHINGLE, minhash_bands

_KEY = pa.binary(16)
_BAND = pa.list_(pa.uint32(), BANDS)
SCHEMA = pa.schema(
    [
        ("query", pa.string()),  # null for documents that no query goes with
        ("documents", pa.list_(pa.string())),
        ("scores", pa.list_(pa.float32())),  # as many as documents, or none
        ("query_key", _KEY),  # of the text as it is
        ("document_keys", pa.list_(_KEY)),
        ("query_words", _KEY),  # of the normalised text
        ("document_words", _KEY),  # of the relevant document
        ("query_bands", _BAND),  # null without near-duplicate removal
        ("document_bands", _BAND),
    ]
)
COUNTS = b"counts"


def part_bytes(cleaned: Sequence[Cleaned], counts: Counts, near_duplicates: bool) -> bytes:
    """An Arrow file with the examples, and the counts in its metadata."""
    queries = [one.example.query for one in cleaned]
    documents = [one.example.documents for one in cleaned]
    bands = [pa.nulls(len(cleaned), _BAND)] * 2
    if near_duplicates:
        bands = [
            _fixed(_bands([one.query_words for one in cleaned], QUERY_SHINGLE)),
            # Documents alone are not compared: a corpus may hold nearly the same text twice.
            _fixed(
                _bands([one.document_words if one.query_words else [] for one in cleaned], DOCUMENT_SHINGLE)
            ),
        ]
    columns = [
        pa.array(queries, pa.string()),
        pa.array(documents, pa.list_(pa.string())),
        pa.array([one.example.scores for one in cleaned], pa.list_(pa.float32())),
        pa.array([text_key(query or "") for query in queries], _KEY),
        pa.array([list(map(text_key, texts)) for texts in documents], pa.list_(_KEY)),
        pa.array([text_key(" ".join(one.query_words)) for one in cleaned], _KEY),
        pa.array([text_key(" ".join(one.document_words)) for one in cleaned], _KEY),
        *bands,
    ]
    schema = SCHEMA.with_metadata({COUNTS: json.dumps(counts.to_dict())})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))
    return sink.getvalue().to_pybytes()


class Part:
    """A part's columns, memory-mapped."""

    def __init__(self, path: Path) -> None:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self.counts = Counts.from_dict(json.loads(reader.schema.metadata[COUNTS]))
        self._batch = reader.get_batch(0)
        self.asked = np.asarray(self._batch["query"].is_valid())  # bool [rows]
        self.document_counts = np.asarray(self._batch["documents"].value_lengths(), np.int64)

    def __len__(self) -> int:
        return int(self._batch.num_rows)

    def keys(self, column: str) -> Keys:
        """Keys of a column; of "document_keys" one row after another."""
        array = self._batch[column]
        if column == "document_keys":
            array = array.flatten()
        if not len(array):
            return np.empty((0, 2), np.uint64)
        return np.frombuffer(array.buffers()[1], "<u8", 2 * len(array), 16 * array.offset).reshape(-1, 2)

    def bands(self, column: str) -> npt.NDArray[np.uint32]:
        values = self._batch[column].flatten()
        return np.asarray(values).reshape(-1, BANDS)

    def scores(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Scores per row, and all scores; NaN where a teacher gave none."""
        column = self._batch["scores"]
        return (
            np.asarray(column.value_lengths(), np.int64),
            column.flatten().to_numpy(zero_copy_only=False).astype(np.float32),
        )

    def queries(self, rows: npt.NDArray[np.int64]) -> list[str]:
        return self._batch["query"].take(pa.array(rows)).to_pylist()  # type: ignore[no-any-return]

    def documents(self, places: npt.NDArray[np.int64]) -> pa.Array:
        """Documents by their place among all of the part."""
        return self._batch["documents"].flatten().take(pa.array(places))

    def query_column(self, rows: npt.NDArray[np.int64]) -> pa.Array:
        return self._batch["query"].take(pa.array(rows))


def _bands(split: Sequence[list[str]], size: int) -> npt.NDArray[np.uint32]:
    """`minhash_bands`, each text once."""
    numbers: dict[tuple[str, ...], int] = {}
    rows = [numbers.setdefault(tuple(text), len(numbers)) for text in split]
    return minhash_bands(list(numbers), size)[np.array(rows, np.int64)]


def _fixed(bands: npt.NDArray[np.uint32]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(bands.reshape(-1)), type=_BAND)
