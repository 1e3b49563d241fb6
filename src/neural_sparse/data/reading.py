"""Chunks of a source made cleaned parts, each a pure function of source, settings and number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import xxhash

from neural_sparse.corpora.fields import document_fields
from neural_sparse.corpora.overlap import TestTexts
from neural_sparse.corpora.qrels_file import cells_of, judgement
from neural_sparse.corpora.row_file import Chunk, RowFile, chunks, parse
from neural_sparse.data.cleaning import Cleaner, Cleaning, Counts
from neural_sparse.data.from_documents import Document, Generator, examples_from, load_generator
from neural_sparse.data.layouts import Example, examples_of
from neural_sparse.data.part import part_bytes
from neural_sparse.data.source import DocumentFiles, Section, Source
from neural_sparse.data.text_table import TextTable
from neural_sparse.errors import InputError
from neural_sparse.io.lines import decoded, without_mark


@dataclass(frozen=True)
class Piece:
    """A chunk of a source: rows of one section that become one part."""

    number: int
    section: int
    first: int
    chunk: Chunk | Sequence[Path]
    rows: int


def piece_count(source: Source, size: int) -> int:
    return sum(-(-section.file.rows // size) for section in source.sections)


def pieces(source: Source, size: int, wanted: frozenset[int]) -> Iterator[Piece]:
    """The wanted chunks in order; files with none of them are not opened."""
    number = 0
    for at, section in enumerate(source.sections):
        count = -(-section.file.rows // size)
        here = [one - number for one in wanted if number <= one < number + count]
        if here:
            for place, chunk in enumerate(islice(_chunks(section, size), max(here) + 1)):
                if number + place in wanted:
                    yield Piece(number + place, at, first=place * size, chunk=chunk, rows=len(chunk))
        number += count


def _chunks(section: Section, size: int) -> Iterator[Chunk | Sequence[Path]]:
    if isinstance(section.file, DocumentFiles):
        paths = section.file.paths
        yield from (paths[start : start + size] for start in range(0, len(paths), size))
    else:
        yield from chunks(section.file, size)


def documents_of(source: Source, size: int = 10_000) -> Iterator[Document]:
    """The documents of a source that queries are made from.

    Raises:
        InputError: a row that cannot be read (file and line).
    """
    for piece in pieces(source, size, frozenset(range(piece_count(source, size)))):
        section = source.sections[piece.section]
        if isinstance(section.file, DocumentFiles):
            yield from (Document("", _read(path)) for path in cast(Sequence[Path], piece.chunk))
        elif section.kind == "generated":
            for number, row in parse(section.file, piece.chunk, piece.first):  # type: ignore[arg-type]
                yield Document(*document_fields(row, section.file.place(number)))


class Reader:
    """Makes parts of a source's pieces.

    Args:
        tables: files of the texts that judgements name: "corpus" and "queries".
        queries_from: how queries are made where there are none; see `examples_from`, or "module:function".
        thin: share of the examples' rows that is read at all, drawn by seed and row number.
        tests: folder of the test texts to keep clear of.
    """

    def __init__(
        self,
        source: Source,
        cleaning: Cleaning,
        seed: int,
        tables: Mapping[str, Path],
        queries_from: str,
        thin: float,
        tests: Mapping[str, Path],
    ) -> None:
        self.source = source
        self.seed = seed
        self.thin = thin
        self.queries_from = queries_from
        self._generator: Generator | None = load_generator(queries_from) if ":" in queries_from else None
        self._tables = {name: TextTable(path) for name, path in tables.items()}
        self._near = cleaning.near_duplicates is not None
        loaded = {name: TestTexts.load(path, name == "queries") for name, path in tests.items()}
        self._cleaner = Cleaner(cleaning, loaded.get("queries"), loaded.get("documents"))

    def make(self, piece: Piece) -> bytes:
        """The part of a piece.

        Raises:
            InputError: a row that cannot be read (file and line).
        """
        counts = Counts()
        examples = list(self._examples(piece, counts))
        return part_bytes(self._cleaner.clean(examples, counts), counts, self._near)

    def _examples(self, piece: Piece, counts: Counts) -> Iterator[Example]:
        section = self.source.sections[piece.section]
        if isinstance(section.file, DocumentFiles):
            for path in cast(Sequence[Path], piece.chunk):
                document = Document("", _read(path))
                yield from examples_from(document, self.queries_from, self._generator)
            return
        chunk = piece.chunk
        drawn = np.ones(piece.rows, bool)
        if self.thin < 1 and section.kind not in ("documents", "generated"):
            drawn = uniform(self._seed_of("thin", piece), piece.first, piece.rows) < self.thin
            if piece.first == 0 and section.file.header:
                drawn[0] = True  # no example to be left out
            left_out = piece.rows - int(drawn.sum())
            counts.read += left_out
            counts.dropped["not_sampled"] += left_out
            if isinstance(chunk, list):
                chunk = [line if keep else b"" for line, keep in zip(chunk, drawn.tolist(), strict=True)]
        for number, row in parse(section.file, chunk, piece.first):  # type: ignore[arg-type]
            if drawn[number - piece.first]:
                yield from self._of_row(section, row, number, counts)

    def _of_row(self, section: Section, row: Any, number: int, counts: Counts) -> Iterator[Example]:
        assert isinstance(section.file, RowFile)
        where = section.file.place(number)
        if section.kind in ("documents", "generated"):
            document = Document(*document_fields(row, where))
            if section.kind == "documents":
                yield Example(None, (document.whole,))
            else:
                yield from examples_from(document, self.queries_from, self._generator)
        elif section.kind == "examples":
            found = examples_of(row, self.source.fields, where, self._draw(section, number))
            if not found:
                counts.read += 1
                few = isinstance(row, Mapping) and "set" in row
                counts.dropped["too_few_texts" if few else "not_relevant"] += 1
            yield from found
        else:
            if section.kind == "judgements":
                cells = cells_of("\t".join(row)) if isinstance(row, list) else row
                query_id, doc_id, grade = judgement(cells, where)
                if grade <= 0:
                    return
                ids = [query_id, doc_id]
            else:
                ids = _triple(row, where)
            query = self._tables["queries"].get(ids[0])
            documents = [self._tables["corpus"].get(key) for key in ids[1:]]
            if query is None or documents[0] is None:
                counts.read += 1
                counts.dropped["unknown_id"] += 1
                return
            yield Example(query, tuple(text for text in documents if text is not None))

    def _draw(self, section: Section, number: int) -> int:
        assert isinstance(section.file, RowFile)
        return xxhash.xxh3_64_intdigest(f"{self.seed} {section.file.sha256} {number}".encode())

    def _seed_of(self, purpose: str, piece: Piece) -> int:
        file = self.source.sections[piece.section].file
        name = file.sha256 if isinstance(file, RowFile) else self.source.name
        return xxhash.xxh3_64_intdigest(f"{purpose} {self.seed} {name}".encode())


def uniform(seed: int, first: int, count: int) -> npt.NDArray[np.float64]:
    """Numbers in [0, 1) that depend on the seed and the position alone (splitmix64)."""
    with np.errstate(over="ignore"):
        state = (np.arange(first, first + count, dtype=np.uint64) + np.uint64(1)) * np.uint64(
            0x9E3779B97F4A7C15
        ) + np.uint64(seed)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (state ^ (state >> np.uint64(31))).astype(np.float64) / 2.0**64


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    return decoded(without_mark(content, path), path, path)


def _triple(row: Any, where: str) -> list[str]:
    """Ids of a query, a relevant document and negatives."""
    cells = list(row.values()) if isinstance(row, Mapping) else row
    if len(cells) < 3:
        raise InputError(
            f"{where}: expected ids of a query, a document and a negative, found {len(cells)} cells"
        )
    return [str(cell) for cell in cells]
