"""Files of rows: JSON lines, TSV, CSV and Parquet, plain or gzipped, read in chunks of a fixed number of rows."""

from __future__ import annotations

import csv
import gzip
import logging
import re
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

import pyarrow as pa
import pyarrow.parquet as pq

from neural_sparse.corpora.qrels_file import is_header
from neural_sparse.errors import InputError
from neural_sparse.io.files import sha256_file
from neural_sparse.io.lines import decoded, json_lines, json_row, whole_characters, without_mark
from neural_sparse.io.urls import Location, Url

logger = logging.getLogger(__name__)

Chunk: TypeAlias = list[bytes] | pa.RecordBatch
FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".jsonl.gz": "jsonl",
    ".json.gz": "jsonl",
    ".tsv": "tsv",
    ".tsv.gz": "tsv",
    ".parquet": "parquet",
    ".csv": "csv",
    ".csv.gz": "csv",
}
_BLOCK = 1 << 22
_LONGEST_CELL = 1 << 26  # characters of a cell of CSV
_LARGE = 1 << 29  # worth a word before it is read
# A first line of single words, one of them such a name, is a header.
_HEADER = re.compile(
    "query|pos|positive|neg|negative|anchor|question|answer|title|text|body|document|passage|abstract|context|"
    "docs|_?id|qid|pid|query[-_]id|corpus-id|doc_id|score|label|relevance|iteration|sentence[12]"
)

_WORD = re.compile(r"[\w.-]+")


@dataclass(frozen=True)
class RowFile:
    """A file that was read through once.

    Attributes:
        rows: lines, blank ones included, or rows of Parquet or CSV.
        size: bytes on disk; plain_size: bytes of its rows when unpacked.
        header: names of a TSV file's columns, from its first line; empty without one.
    """

    path: Path
    format: str
    rows: int
    size: int
    plain_size: int
    sha256: str
    header: tuple[str, ...] = ()

    def place(self, number: int) -> str:
        """Of a row, from 0, for messages."""
        return f"{self.path}, {'line' if self.format in ('jsonl', 'tsv') else 'row'} {number + 1}"

    def describe(self) -> dict[str, Any]:
        """What of the file decides the outcome."""
        return {"name": self.path.name, "sha256": self.sha256, "bytes": self.size, "rows": self.rows}


def row_format(path: Path) -> str | None:
    """ "jsonl", "tsv", "csv" or "parquet" by the file's name; None for others."""
    return next((kind for suffix, kind in FORMATS.items() if path.name.lower().endswith(suffix)), None)


def scan(path: Path, columns: Collection[str] = ()) -> RowFile:
    """Count a file's rows and take its checksum.

    Args:
        columns: unusual names, by which the header of a TSV file is known too.

    Raises:
        InputError: no such file; not one of the formats; cut short.
    """
    path = Path(path)
    kind = row_format(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if kind is None:
        raise InputError(f"{path}: unknown kind of file; known are {', '.join(FORMATS)}")
    size = path.stat().st_size
    if size > _LARGE:
        logger.info("counting the rows of %s (%.1f GB)", path, size / 1e9)
    if kind == "parquet":
        with _readable(path):
            metadata = pq.ParquetFile(path).metadata
            groups = [metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups)]
            return RowFile(
                path,
                kind,
                rows=metadata.num_rows,
                size=size,
                plain_size=sum(groups),
                sha256=sha256_file(path),
            )
    rows = plain = 0
    if kind == "csv":
        with _readable(path):
            for row in _csv_rows(path):
                rows += 1
                plain += sum(map(len, row.values()))
        return RowFile(path, kind, rows=rows, size=size, plain_size=plain, sha256=sha256_file(path))
    last = b"\n"
    with _readable(path), _open(path) as file:
        while block := file.read(_BLOCK):
            rows += block.count(b"\n")
            plain += len(block)
            last = block[-1:]
    rows += last != b"\n"
    header: tuple[str, ...] = ()
    if kind == "tsv":
        with _open(path) as file:
            names = _cells(without_mark(file.readline(), path), f"{path}, line 1", path)
        names = [name.strip() for name in names]
        known = is_header(names) or any(name in columns or _HEADER.fullmatch(name.lower()) for name in names)
        if known and all(_WORD.fullmatch(name) for name in names):
            header = tuple(names)
    return RowFile(
        path, kind, rows=rows, size=size, plain_size=plain, sha256=sha256_file(path), header=header
    )


def chunks(file: RowFile, size: int) -> Iterator[Chunk]:
    """The file's rows, `size` at a time, not yet parsed.

    Raises:
        InputError: the file is cut short.
    """
    with _readable(file.path):
        if file.format == "parquet":
            yield from _batches(file.path, size)
            return
        if file.format == "csv":
            of_csv = _csv_rows(file.path)
            while rows := list(islice(of_csv, size)):
                yield pa.RecordBatch.from_pylist(rows)
            return
        with _open(file.path) as lines:
            chunk: list[bytes] = []
            for line in lines:
                chunk.append(line)
                if len(chunk) == size:
                    yield chunk
                    chunk = []
            if chunk:
                yield chunk


def _batches(path: Path, size: int) -> Iterator[pa.RecordBatch]:
    """Batches of exactly `size` rows, the last one perhaps fewer; pyarrow's own end at row groups."""
    waiting: list[pa.RecordBatch] = []
    held = 0
    for batch in pq.ParquetFile(path).iter_batches(batch_size=size):
        waiting.append(batch)
        held += batch.num_rows
        if held >= size:
            table = pa.Table.from_batches(waiting).combine_chunks()
            yield table.slice(0, size).to_batches()[0]
            rest = table.slice(size)
            waiting, held = rest.to_batches(), rest.num_rows
    if held:
        yield pa.Table.from_batches(waiting).combine_chunks().to_batches()[0]


def _csv_rows(path: Path) -> Iterator[dict[str, str]]:
    """Rows of CSV (RFC 4180), whose cells may hold ends of lines; the first line names the columns and is parted by
    what it has most of: commas, semicolons or tabs.
    """
    with _open(path) as file:
        first = without_mark(file.readline(), path)
        delimiter = max(",;\t", key=decoded(first, f"{path}, line 1", path).count)
        numbered = enumerate(chain([first], file), start=1)
        csv.field_size_limit(_LONGEST_CELL)
        lines = (decoded(line, f"{path}, line {number}", path) for number, line in numbered)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            names = next(reader, [])
            if not names or len(set(names)) < len(names):
                raise InputError(f"{path}, line 1: has to name every column, each by another name")
            for cells in filter(None, reader):
                if len(cells) != len(names):
                    raise InputError(
                        f"{path}, line {reader.line_num}: {len(cells)} cells, but the header names {len(names)}"
                    )
                yield dict(zip(names, cells, strict=True))
        except csv.Error as error:
            raise InputError(
                f"{path}, line {reader.line_num}: {error}; is a quotation mark missing, or the file cut short?"
            ) from error


def parse(file: RowFile, chunk: Chunk, first: int) -> Iterator[tuple[int, Any]]:
    """Number (from 0) and value of each row; blank lines and a header are skipped.

    JSON gives what it holds, TSV a list of cells or with a header a mapping, Parquet and CSV a mapping.

    Args:
        first: number of the chunk's first row.

    Raises:
        InputError: malformed JSON, not UTF-8, or a line with more or fewer cells than the header.
    """
    if not isinstance(chunk, list):
        yield from enumerate(map(whole_characters, chunk.to_pylist()), start=first)
        return
    line: bytes
    for number, line in enumerate(chunk, start=first):
        if not line.strip() or (number == 0 and file.header):
            continue
        where = file.place(number)
        if number == 0:
            line = without_mark(line, file.path)
        if file.format == "tsv":
            cells = _cells(line, where, file.path)
            if not file.header:
                yield number, cells
                continue
            if len(cells) != len(file.header):
                raise InputError(f"{where}: {len(cells)} cells, but the header names {len(file.header)}")
            yield number, dict(zip(file.header, cells, strict=True))
            continue
        yield number, json_row(line, where, file.path)


def rows_of(file: Location) -> Iterator[tuple[object, Any]]:
    """Place and value of each row of a file, whatever its format; a URL or an unknown ending is JSON lines.

    Raises:
        InputError: as `scan` and `parse`.
    """
    if isinstance(file, Url) or (row_format(file) in ("jsonl", None) and file.suffix != ".gz"):
        yield from json_lines(file)
        return
    scanned, first = scan(file), 0
    for chunk in chunks(scanned, 10_000):
        for number, row in parse(scanned, chunk, first):
            yield scanned.place(number), row
        first += len(chunk)


def _cells(line: bytes, where: str, path: Path) -> list[str]:
    return decoded(line, where, path).rstrip("\r\n").split("\t")


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb"))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, pa.ArrowInvalid) as error:
        raise InputError(
            f"{path}: cut short or damaged ({error}); delete it and download it again"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
