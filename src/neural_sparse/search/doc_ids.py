"""Document ids in flat arrays: they are mapped from disk like the postings, not a list of objects.

They are hashed where they lie, by compiled code. `text.keys.KeyIndex` needs each as an object first: to see that 4
million differ takes it 4.2 s instead of 0.9 s (Intel Xeon with AMX, one of 2 shared cores, other work beside it).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from typing import overload

import numpy as np
from numpy.typing import NDArray

from neural_sparse.errors import InputError, refuse_one_string
from neural_sparse.search.compiled import compiled
from neural_sparse.text.ragged import offsets_of

_AT_ONCE = 1 << 16


class DocumentIds(Sequence[str]):
    """The ids of the document rows, a sequence of distinct str.

    Attributes:
        text: uint8 [bytes], all ids in UTF-8, one after another.
        offsets: int64 [documents + 1]; id i is text[offsets[i]:offsets[i + 1]].
    """

    def __init__(self, text: NDArray[np.uint8], offsets: NDArray[np.int64]) -> None:
        self.text = text
        self.offsets = offsets
        for array in (text, offsets):  # one type for numba, as in Postings
            array.flags.writeable = False
        self._by_hash: tuple[NDArray[np.uint64], NDArray[np.int64]] | None = None

    @classmethod
    def of(cls, ids: Iterable[str]) -> DocumentIds:
        """Raises InputError on an id that is not a str, is empty or occurs twice."""
        refuse_one_string(ids, "ids")
        result = _encoded(ids)
        result.check_distinct()
        return result

    @classmethod
    def numbers(cls, count: int) -> DocumentIds:
        """The numbers from 0, for documents that are known by their rows."""
        parts, lengths = [np.array([48], np.uint8)[:count]], [np.ones(min(count, 1), np.int64)]
        digits = 1
        while 10 ** (digits - 1) < count:
            numbers = np.arange(10 ** (digits - 1), min(count, 10**digits))
            powers = 10 ** np.arange(digits - 1, -1, -1)
            parts.append((numbers[:, None] // powers % 10 + 48).astype(np.uint8).ravel())
            lengths.append(np.full(len(numbers), digits))
            digits += 1
        return cls(np.concatenate(parts), offsets_of(np.concatenate(lengths)))

    @classmethod
    def join(cls, parts: Sequence[DocumentIds]) -> DocumentIds:
        """One after another. Raises InputError on an id that occurs twice."""
        result = cls(
            np.concatenate([part.text for part in parts]) if parts else np.empty(0, np.uint8),
            offsets_of(np.concatenate([np.diff(part.offsets) for part in parts] or [np.empty(0, np.int64)])),
        )
        result.check_distinct()
        return result

    def keep(self, rows: NDArray[np.bool_]) -> DocumentIds:
        """Those of the rows marked True in bool [documents]."""
        lengths = np.diff(self.offsets)
        return DocumentIds(self.text[np.repeat(rows, lengths)], offsets_of(lengths[rows]))

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

    def take(self, rows: NDArray[np.integer]) -> list[str]:
        """The ids of some rows, in their order; faster than one by one."""
        starts, ends = self.offsets[rows].tolist(), self.offsets[rows + 1].tolist()
        text = self.text.data
        return [str(text[start:end], "utf-8") for start, end in zip(starts, ends, strict=True)]

    def __iter__(self) -> Iterator[str]:
        text = self.text.tobytes()
        for start, end in pairwise(self.offsets.tolist()):
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
            InputError: an id that is not here.
        """
        refuse_one_string(ids, "ids")
        wanted = _encoded(ids)
        rows = self._found(wanted)
        if (rows < 0).any():
            raise InputError(f"the index holds no document {wanted[int(np.flatnonzero(rows < 0)[0])]!r}")
        return rows

    def find(self, ids: Iterable[str]) -> NDArray[np.int64]:
        """Row of each id, -1 where it is not here."""
        return self._found(_encoded(ids))

    def _found(self, wanted: DocumentIds) -> NDArray[np.int64]:
        hashes, order = self._sorted_hashes()
        return _find(
            self.text,
            self.offsets,
            hashes=hashes,
            order=order,
            wanted=wanted.text,
            wanted_offsets=wanted.offsets,
            wanted_hashes=_hash(wanted.text, wanted.offsets),
        )

    def check_distinct(self) -> None:
        """Raises InputError on an id that occurs twice."""
        hashes = _hash(self.text, self.offsets)
        hashes.sort()  # in place and without their rows, which only equal hashes need
        if not (hashes[1:] == hashes[:-1]).any():
            return
        first, second = _equal_pair(self.text, self.offsets, *self._sorted_hashes())
        if second >= 0:
            raise InputError(f"document id {self[first]!r} occurs twice, in rows {first} and {second}")

    def _sorted_hashes(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        if self._by_hash is None:
            hashes = _hash(self.text, self.offsets)
            order = np.argsort(hashes, kind="stable")
            self._by_hash = hashes[order], order
        return self._by_hash


def _encoded(ids: Iterable[str]) -> DocumentIds:
    texts, lengths = [b""], [np.empty(0, np.int64)]
    rest, first = iter(ids), 0
    while part := list(islice(rest, _AT_ONCE)):  # an object for each id only so many at a time
        try:
            text = "".join(part)
        except TypeError:  # one is no str
            text = ""
        if not text or not all(part):
            row, bad = next((row, one) for row, one in enumerate(part) if not isinstance(one, str) or not one)
            raise InputError(f"document ids are non-empty str; row {first + row} has {bad!r}")
        sizes = map(len, part if text.isascii() else map(str.encode, part))
        texts.append(text.encode())
        lengths.append(np.fromiter(sizes, np.int64, len(part)))
        first += len(part)
    return DocumentIds(np.frombuffer(b"".join(texts), np.uint8), offsets_of(np.concatenate(lengths)))


@compiled
def _hash(text: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.uint64]:
    """FNV-1a, 64 bits, of each id."""
    hashes = np.empty(len(offsets) - 1, np.uint64)
    for row in range(len(hashes)):
        value = np.uint64(0xCBF29CE484222325)
        for i in range(offsets[row], offsets[row + 1]):
            value = (value ^ np.uint64(text[i])) * np.uint64(0x100000001B3)
        hashes[row] = value
    return hashes


@compiled
def _same(
    a: NDArray[np.uint8], start: int, end: int, b: NDArray[np.uint8], other_start: int, other_end: int
) -> bool:
    if end - start != other_end - other_start:
        return False
    for i in range(end - start):  # noqa: SIM110  (numba compiles the loop, not `all`)
        if a[start + i] != b[other_start + i]:
            return False
    return True


@compiled
def _equal_pair(
    text: NDArray[np.uint8], offsets: NDArray[np.int64], hashes: NDArray[np.uint64], order: NDArray[np.int64]
) -> tuple[int, int]:
    """Two rows with the same id, or (-1, -1)."""
    for i in range(len(order)):
        j = i + 1
        while j < len(order) and hashes[j] == hashes[i]:
            a, b = order[i], order[j]
            if _same(
                text, offsets[a], end=offsets[a + 1], b=text, other_start=offsets[b], other_end=offsets[b + 1]
            ):
                return a, b
            j += 1
    return -1, -1


@compiled
def _find(
    text: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    order: NDArray[np.int64],
    wanted: NDArray[np.uint8],
    wanted_offsets: NDArray[np.int64],
    wanted_hashes: NDArray[np.uint64],
) -> NDArray[np.int64]:
    """Row of each wanted id, or -1."""
    rows = np.full(len(wanted_hashes), -1, np.int64)
    places = np.searchsorted(hashes, wanted_hashes)
    for i in range(len(rows)):
        place = places[i]
        while place < len(order) and hashes[place] == wanted_hashes[i]:
            row = order[place]
            if _same(
                text,
                offsets[row],
                end=offsets[row + 1],
                b=wanted,
                other_start=wanted_offsets[i],
                other_end=wanted_offsets[i + 1],
            ):
                rows[i] = row
                break
            place += 1
    return rows
