"""Texts in Arrow files as sequences: memory-mapped, read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa

from neural_sparse.text.ragged import Indices, locate, offsets_of


class _Texts(Sequence[str]):
    """What is common: slices are lists, negative places count from the end."""

    def _at(self, place: int) -> str:
        raise NotImplementedError

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self._at(one) for one in range(*place.indices(len(self)))]
        place = int(place)
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        return self._at(place % len(self))


class ArrowTexts(_Texts):
    """The column "text" of an Arrow file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self._columns = [reader.get_batch(at)["text"] for at in range(reader.num_record_batches)]
        lengths = [len(column) for column in self._columns]
        self._starts = offsets_of(lengths)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def _at(self, place: int) -> str:
        number, row = locate(self._starts, place)
        return str(self._columns[number][int(row)].as_py())

    def __iter__(self) -> Iterator[str]:
        for column in self._columns:
            for start in range(0, len(column), 1000):
                yield from column.slice(start, 1000).to_pylist()

    def pick(self, rows: Indices) -> list[str]:
        """The texts of some rows; quicker than one by one."""
        numbers, places = locate(self._starts, rows)
        picked = np.empty(len(rows), object)
        for number in np.unique(numbers).tolist():
            here = numbers == number
            picked[here] = self._columns[number].take(pa.array(places[here])).to_pylist()
        return list(picked)

    def __reduce__(self) -> tuple[type[ArrowTexts], tuple[Path]]:
        return ArrowTexts, (self.path,)  # other processes map the file themselves


class PickedTexts(_Texts):
    """Texts of another sequence by their rows: one per example, though each is stored once.

    Args:
        texts: the stored ones.
        rows: int64, one for each text of this sequence.
    """

    def __init__(self, texts: Sequence[str], rows: Indices) -> None:
        self.texts = texts
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def _at(self, place: int) -> str:
        return self.texts[int(self.rows[place])]

    def __iter__(self) -> Iterator[str]:
        if not isinstance(self.texts, ArrowTexts):
            yield from super().__iter__()
            return
        for start in range(0, len(self), 1000):
            yield from self.texts.pick(self.rows[start : start + 1000])


class JoinedTexts(_Texts):
    """Several sequences, one after another."""

    def __init__(self, parts: Sequence[Sequence[str]]) -> None:
        self.parts = parts
        self._starts = offsets_of([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def _at(self, place: int) -> str:
        number, row = locate(self._starts, place)
        return self.parts[number][int(row)]

    def __iter__(self) -> Iterator[str]:
        for part in self.parts:
            yield from part
