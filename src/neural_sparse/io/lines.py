"""Lines of text files, and what JSON is in them: one rule for encodings, blank lines and files that are cut short.

Text is UTF-8, with or without a byte order mark; lines end with \\n or \\r\\n; blank lines are skipped. What is in
another encoding is refused with the command that converts it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any, NamedTuple

from neural_sparse.errors import InputError
from neural_sparse.io.urls import Location, location

_BOM = b"\xef\xbb\xbf"
_WIDE = (b"\xff\xfe", b"\xfe\xff")
# What files that are no lines of text begin with, what they are, and what makes JSON lines of them.
_PACKED = {
    b"\x1f\x8b": ("packed with gzip", "unpack it with: gzip -dc {path} > converted"),
    b"PK\x03\x04": ("a zip archive or an Excel workbook", "unpack it, or save the sheet as CSV in UTF-8"),
    b"PAR1": (
        "a Parquet file, but is read as lines here",
        'convert it with: python -c "import json, sys, pyarrow.parquet as p; [print(json.dumps(r, default=str)) '
        'for r in p.read_table(sys.argv[1]).to_pylist()]" {path} > converted.jsonl',
    ),
}
_ARRAY = (
    'one JSON array, but an object per line is expected; convert it with: python -c "import json, sys; '
    "[print(json.dumps(r)) for r in json.load(open(sys.argv[1], encoding='utf-8-sig'))]\" {path} > converted.jsonl"
)
_CELLS = (
    "not JSON but, it seems, cells parted by {name}; if the first line names them, convert it with: "
    'python -c "import csv, json, sys; [print(json.dumps(r)) for r in csv.DictReader(open(sys.argv[1], '
    "encoding='utf-8-sig', newline=''), delimiter='{delimiter}')]\" {path} > converted.jsonl"
)


class Place(NamedTuple):
    """Where a line is, as messages say it: the file is only read up to there if they do."""

    path: Location
    offset: int

    def __str__(self) -> str:
        return f"{self.path}, line {line_number(self.path, self.offset)}"


def lines_between(
    path: str | Location, start: int = 0, end: int | None = None
) -> Iterator[tuple[int, bytes]]:
    """Offset and bytes of each line whose first byte is in [start, end): ranges that meet share no line.

    Raises:
        InputError: no such file; one in UTF-16.
    """
    path = location(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with path.open("rb") as file:
        offset = start
        if start:  # the line that holds the byte before began in an earlier range
            file.seek(start - 1)
            offset += len(file.readline()) - 1
        for line in file:
            if end is not None and offset >= end:
                return
            yield offset, without_mark(line, path) if offset == 0 else line
            offset += len(line)


def line_number(path: str | Location, offset: int) -> int:
    """Number, from 1, of the line at a byte offset; reads the file up to there."""
    with location(path).open("rb") as file:
        lines = 1
        while offset > 0 and (block := file.read(min(offset, 1 << 20))):
            lines += block.count(b"\n")
            offset -= len(block)
        return lines


def without_mark(line: bytes, path: object) -> bytes:
    """A file's first line without the byte order mark. Raises InputError for one of UTF-16."""
    if line.startswith(_WIDE):
        raise InputError(f"{path}, line 1: {_wide(path)}")
    for magic, (what, way_out) in _PACKED.items():
        # Of the three only PAR1 could begin a text, but not with what is not printed behind it.
        if line.startswith(magic) and not line[: len(magic) + 1].decode("latin-1").isprintable():
            raise InputError(f"{path}, line 1: {what}; {way_out.format(path=shlex.quote(str(path)))}")
    return line.removeprefix(_BOM)


def decoded(line: bytes, where: object, path: object = "FILE") -> str:
    """The text of a line, or of a whole file.

    Args:
        where: what the message begins with, such as a `Place`.
        path: the file, for the command that converts it.

    Raises:
        InputError: it is not UTF-8, or holds NUL bytes.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        if line.startswith(_WIDE) or b"\0" in line:
            raise InputError(f"{where}: {_wide(path)}") from error
        raise InputError(
            f"{where}: not UTF-8 (byte {error.object[error.start]:#04x}); text of Windows or in latin-1 is converted "
            f"with: iconv -f WINDOWS-1252 -t UTF-8 {shlex.quote(str(path))} > converted"
        ) from error
    if "\0" in text:
        # Half of the bytes of such text in UTF-16 are NUL; a few are what a crash or a broken export left.
        if text.count("\0") * 4 < len(text) or not text.strip("\0\r\n"):
            raise InputError(
                f"{where}: holds NUL bytes, which no text has; was its writing cut short? Take them out with: "
                f"tr -d '\\000' < {shlex.quote(str(path))} > converted"
            )
        raise InputError(f"{where}: {_wide(path)}")
    return text


def _wide(path: object) -> str:
    return (
        "not UTF-8 text: it holds NUL bytes or the mark of UTF-16, in which PowerShell and Excel write; convert it "
        f"with: iconv -f UTF-16 -t UTF-8 {shlex.quote(str(path))} > converted (PowerShell: Set-Content -Encoding utf8)"
    )


def text_lines(path: str | Location, start: int = 0, end: int | None = None) -> Iterator[tuple[Place, str]]:
    """Place and text of each line that is not blank, without the line's end; arguments as `lines_between`.

    Raises:
        InputError: as `lines_between` and `decoded`.
    """
    path = location(path)
    for offset, line in lines_between(path, start, end):
        if line.strip():
            place = Place(path, offset)
            yield place, decoded(line, place, path).rstrip("\r\n")


def json_lines(path: str | Location, start: int = 0, end: int | None = None) -> Iterator[tuple[Place, Any]]:
    """Place and value of each line that is not blank; arguments as `lines_between`.

    Raises:
        InputError: as `lines_between` and `json_value`.
    """
    path = location(path)
    for offset, line in lines_between(path, start, end):
        if line.strip():
            place = Place(path, offset)
            yield place, json_row(line, place, path)


def json_row(line: bytes, where: object, path: object = "FILE") -> Any:
    """The JSON of one line of a file of rows.

    Raises:
        InputError: as `json_value`; a file that is an array or a table says how it becomes lines.
    """
    try:
        value = json_value(line, where, path)
    except InputError as error:
        if told := _no_lines(line, where, path):
            raise InputError(f"{where}: {told}") from error
        raise
    if isinstance(value, list) and value and isinstance(value[0], dict):
        raise InputError(f"{where}: {_ARRAY.format(path=shlex.quote(str(path)))}")
    return value


def _no_lines(line: bytes, where: object, path: object) -> str | None:
    """What a file seems to be of which a line is no JSON, and the command that converts it."""
    text = decoded(line, where, path).strip()
    quoted = shlex.quote(str(path))
    if text.endswith("},"):
        return f"ends with a comma; lines hold one object each: sed 's/,[[:space:]]*$//' {quoted} > converted"
    if not str(where).endswith(", line 1"):
        return None
    if text == "{":
        return (
            f"an object over several lines, but one per line is expected: jq -c . {quoted} > converted.jsonl"
        )
    if text == "[" or (text[:1] == "[" and text[1:].lstrip().startswith("{")):
        return _ARRAY.format(path=quoted)
    delimiter = max(",;\t", key=text.count)
    if text[:1] in ("[", "{") or text.count(delimiter) == 0:
        return None
    name = {",": "commas (CSV)", ";": "semicolons (CSV)", "\t": "tabs (TSV)"}[delimiter]
    return _CELLS.format(name=name, delimiter=delimiter.replace("\t", "\\t"), path=quoted)


def json_value(line: bytes, where: object, path: object = "FILE") -> Any:
    """What a line, or a whole file, holds as JSON; half a surrogate pair in it becomes U+FFFD.

    JSON of a text that was cut inside an emoji holds such halves, and no encoding of files can.

    Raises:
        InputError: as `decoded`; what is no JSON, or nested too deeply.
    """
    text = decoded(line, where, path)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{where}: not valid JSON ({error}); is the file cut short or its download unfinished?"
        ) from error
    except (RecursionError, ValueError) as error:  # a number of more than 4,300 digits
        raise InputError(f"{where}: no JSON that can be read ({error})") from error
    return whole_characters(value) if "\\ud" in text or "\\uD" in text else value


def whole_characters(value: Any) -> Any:
    """Half surrogate pairs in a JSON value's texts replaced by U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [whole_characters(one) for one in value]
    if isinstance(value, dict):
        return {whole_characters(key): whole_characters(one) for key, one in value.items()}
    return value


def read_jsonl(
    path: str | Location, required: tuple[str, ...] = (), start: int = 0, end: int | None = None
) -> Iterator[dict[str, Any]]:
    """Yield one object per non-blank line.

    Args:
        required: keys that every object must have.
        start, end: only the lines whose first byte is in this range of the file.

    Raises:
        InputError: as `json_lines`; a line that is no JSON object, or one that lacks a `required` key;
            the message names the file and the line.
    """
    for place, row in json_lines(path, start, end):
        if not isinstance(row, dict):
            raise InputError(f"{place}: expected a JSON object, found {type(row).__name__}")
        if missing := [key for key in required if key not in row]:
            raise InputError(
                f"{place}: lacks {', '.join(map(repr, missing))} (has {', '.join(map(repr, row))})"
            )
        yield row
