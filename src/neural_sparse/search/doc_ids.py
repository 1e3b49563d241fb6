"""Document ids in two flat arrays: they are mapped from disk like the postings, not a list of objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import overload

import numpy as np
from numpy.typing import NDArray

from neural_sparse.errors import InputError


class DocumentIds(Sequence[str]):
    """The ids of the document rows, a sequence of str.

    Attributes:
        text: uint8 [bytes], all ids in UTF-8, one after another.
        offsets: int64 [documents + 1]; id i is text[offsets[i]:offsets[i + 1]].
    """

    def __init__(self, text: NDArray[np.uint8], offsets: NDArray[np.int64]) -> None:
        self.text = text
        self.offsets = offsets
        self._rows: dict[str, int] | None = None

    @classmethod
    def of(cls, ids: Iterable[str]) -> DocumentIds:
        """Raises InputError on an id that is not a str, is empty or occurs twice."""
        encoded: list[bytes] = []
        for row, doc_id in enumerate(ids):
            if not isinstance(doc_id, str) or not doc_id:
                raise InputError(f"document ids are non-empty str; row {row} has {doc_id!r}")
            encoded.append(doc_id.encode())
        if len(set(encoded)) < len(encoded):
            raise InputError(_first_duplicate(encoded))
        offsets = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(one) for one in encoded], out=offsets[1:])
        return cls(np.frombuffer(b"".join(encoded), np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        if row < 0:
            row += len(self)
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} documents")
        return self.text[self.offsets[row] : self.offsets[row + 1]].tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        text = self.text.tobytes()
        offsets = self.offsets.tolist()
        for start, end in pairwise(offsets):
            yield text[start:end].decode()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    @property
    def nbytes(self) -> int:
        return self.text.nbytes + self.offsets.nbytes

    def rows(self, ids: Iterable[str]) -> NDArray[np.int64]:
        """Row of each id.

        Raises:
            InputError: an id the index does not hold.
        """
        if self._rows is None:
            self._rows = {doc_id: row for row, doc_id in enumerate(self)}
        try:
            return np.array([self._rows[doc_id] for doc_id in ids], np.int64)
        except KeyError as error:
            raise InputError(f"the index holds no document {error.args[0]!r}") from error


def _first_duplicate(ids: Sequence[bytes]) -> str:
    seen: dict[bytes, int] = {}
    for row, doc_id in enumerate(ids):
        if doc_id in seen:
            return f"document id {doc_id.decode()!r} occurs twice, in rows {seen[doc_id]} and {row}"
        seen[doc_id] = row
    raise AssertionError("no duplicate")
