"""A prepared folder: queries.arrow, documents.arrow, examples.arrow and manifest.json."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from neural_sparse.data.arrow_texts import ArrowTexts
from neural_sparse.data.assembly import DOCUMENTS, EXAMPLES, QUERIES
from neural_sparse.data.row_lists import RowLists
from neural_sparse.errors import InputError
from neural_sparse.files import check_sums, read_json, reading_folder
from neural_sparse.urls import Location

MANIFEST = "manifest.json"
ADVICE = "prepare the data again"


@dataclass(frozen=True)
class PreparedSet:
    """Prepared training data, memory-mapped.

    Attributes:
        queries, documents: unique texts.
        query_rows, positives: int64 [examples].
        negatives: rows of documents per example, as the source orders them.
        scores: float32 per example, of the positive and then of the negatives; empty without scores.
        sources: int32 [examples], number of the source.
        manifest: counts, licences, settings and checksums.
    """

    folder: Path
    queries: ArrowTexts
    documents: ArrowTexts
    query_rows: npt.NDArray[np.int64]
    positives: npt.NDArray[np.int64]
    negatives: RowLists
    scores: RowLists
    sources: npt.NDArray[np.int32]
    manifest: dict[str, Any]

    @classmethod
    def load(cls, folder: str | Path) -> PreparedSet:
        """Map a folder; sizes are checked, contents by `verify`.

        Raises:
            InputError: no prepared folder, or one that is incomplete.
        """
        return reading_folder(folder, lambda: cls._load(Path(folder)))

    @classmethod
    def _load(cls, folder: Path) -> PreparedSet:
        if not is_prepared(folder):
            raise InputError(f"{folder}: no prepared data; make them with `neural-sparse data prepare`")
        manifest = read_json(folder / MANIFEST)
        check_sums(folder, manifest["files"], False, ADVICE)
        examples = pa.ipc.open_file(pa.memory_map(str(folder / EXAMPLES))).get_batch(0)
        return cls(
            folder,
            ArrowTexts(folder / QUERIES),
            ArrowTexts(folder / DOCUMENTS),
            examples["query"].to_numpy(),
            examples["positive"].to_numpy(),
            _lists(examples["negatives"]),
            _lists(examples["scores"]),
            examples["source"].to_numpy(),
            manifest,
        )

    def __len__(self) -> int:
        return len(self.positives)

    def verify(self) -> None:
        """
        Raises:
            InputError: a file is not what was written.
        """
        check_sums(self.folder, self.manifest["files"], True, ADVICE)


def is_prepared(folder: Location) -> bool:
    """Whether a folder holds prepared data."""
    return (folder / MANIFEST).is_file() and (folder / EXAMPLES).is_file()


def _lists(column: pa.Array) -> RowLists:
    return RowLists(column.flatten().to_numpy(zero_copy_only=False), column.offsets.to_numpy())
