"""A corpus on disk: its texts one after another, of the whole file or of a range of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from neural_sparse.data.collection import with_title
from neural_sparse.errors import InputError
from neural_sparse.files import line_number, lines_between, read_jsonl


def corpus_file(corpus: Path) -> Path:
    """The corpus.jsonl that a path means."""
    return corpus / "corpus.jsonl" if corpus.is_dir() else corpus


def corpus_texts(file: Path, start: int = 0, end: int | None = None) -> Iterator[str]:
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


def text_lines(file: Path, start: int = 0, end: int | None = None) -> Iterator[tuple[int, str]]:
    """Offset and text of each line that is not blank."""
    for offset, line in lines_between(file, start, end):
        try:
            text = line.decode().strip()
        except UnicodeDecodeError as error:
            raise InputError(f"{file}: not UTF-8 (line {line_number(file, offset)}: {error})") from error
        if text:
            yield offset, text
