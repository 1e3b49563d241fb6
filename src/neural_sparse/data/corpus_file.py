"""A corpus on disk: its texts one after another, of the whole file or of a range of it."""

from __future__ import annotations

from collections.abc import Iterator

from neural_sparse.data.collection import with_title
from neural_sparse.errors import InputError
from neural_sparse.files import line_number, lines_between, read_jsonl
from neural_sparse.urls import Location, Url


def corpus_file(corpus: Location) -> Location:
    """The corpus.jsonl that a path or URL means."""
    if isinstance(corpus, Url) and corpus.suffix in (".jsonl", ".txt"):
        return corpus  # without asking a server twice
    return corpus / "corpus.jsonl" if corpus.is_dir() else corpus


def corpus_texts(file: Location, start: int = 0, end: int | None = None) -> Iterator[str]:
    """Texts of a corpus.jsonl ({text, title?} per line) or a .txt (one per line), streamed.

    Args:
        start, end: only the lines whose first byte is in this range of the file.

    Raises:
        InputError: no such file; a malformed line (file and line).
    """
    if file.suffix == ".txt":
        yield from (text for _, text in text_lines(file, start, end))
        return
    for row in read_jsonl(file, ("text",), start, end):
        yield with_title(row.get("title"), row["text"])


def corpus_documents(file: Location, start: int = 0, end: int | None = None) -> Iterator[tuple[str, str]]:
    """Id and text of each document, as `corpus_texts`; that of a .txt has its line number as id.

    Raises:
        InputError: as `corpus_texts`, and a document without `_id`.
    """
    if file.suffix != ".txt":
        for row in read_jsonl(file, ("_id", "text"), start, end):
            if not isinstance(row["text"], str):
                found = type(row["text"]).__name__
                raise InputError(f"{file}: the text of document {row['_id']!r} is {found}, not a string")
            yield str(row["_id"]), with_title(row.get("title"), row["text"])
        return
    first = 0
    for place, (offset, line) in enumerate(lines_between(file, start, end)):
        first = first or line_number(file, offset)
        if text := _decoded(file, offset, line):
            yield str(first + place), text


def text_lines(file: Location, start: int = 0, end: int | None = None) -> Iterator[tuple[int, str]]:
    """Offset and text of each line that is not blank."""
    for offset, line in lines_between(file, start, end):
        if text := _decoded(file, offset, line):
            yield offset, text


def _decoded(file: Location, offset: int, line: bytes) -> str:
    try:
        return line.decode().strip()
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 (line {line_number(file, offset)}: {error})") from error
