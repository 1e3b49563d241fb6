"""Documents and queries on disk as every command reads them: a whole file, a range of it, rows of any format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from neural_sparse.corpora.fields import document_fields, id_field, with_title
from neural_sparse.errors import InputError
from neural_sparse.io.lines import Place, decoded, json_lines, line_number, lines_between, text_lines
from neural_sparse.io.urls import Location, Url, location


def corpus_file(corpus: Location) -> Location:
    """The corpus.jsonl that a path or URL means. Raises InputError for a folder on this disk without one."""
    if isinstance(corpus, Url) and corpus.suffix in (".jsonl", ".txt"):
        return corpus  # without asking a server twice
    if not corpus.is_dir():
        return corpus
    file = corpus / "corpus.jsonl"
    if not isinstance(corpus, Url) and not file.is_file():
        there = ", ".join(sorted(path.name for path in corpus.iterdir())[:8]) or "nothing"
        raise InputError(
            f"{file}: no such file (there is {there}); a corpus is a {{_id, title, text}} per line. `neural-sparse "
            f"adapt` reads folders of .txt and .md, and its OUTPUT/corpus is such a folder"
        )
    return file


def corpus_texts(file: Location, start: int = 0, end: int | None = None) -> Iterator[str]:
    """Texts of a corpus.jsonl ({text, title?} per line) or a .txt (one per line), streamed.

    Args:
        start, end: only the lines whose first byte is in this range of the file.

    Raises:
        InputError: no such file; a malformed line (file and line).
    """
    if file.suffix == ".txt":
        yield from (text.strip() for _, text in text_lines(file, start, end))
        return
    for place, row in json_lines(file, start, end):
        yield with_title(*document_fields(row, place))


def corpus_documents(file: Location, start: int = 0, end: int | None = None) -> Iterator[tuple[str, str]]:
    """Id and text of each document, as `corpus_texts`; that of a .txt has its line number as id.

    Raises:
        InputError: as `corpus_texts`, and a document without an id.
    """
    if file.suffix != ".txt":
        for place, row in json_lines(file, start, end):
            yield id_field(row, place), with_title(*document_fields(row, place))
        return
    first = 0
    for number, (offset, line) in enumerate(lines_between(file, start, end)):
        first = first or line_number(file, offset)
        if text := decoded(line, Place(file, offset), file).strip():
            yield str(first + number), text


def corpus_fields(file: Location, names: Sequence[str]) -> Iterator[tuple[object, dict[str, Any]]]:
    """Metadata of each document of a corpus.jsonl: where it is from, and those of the names that it has.

    A name is looked for in BEIR's `metadata` object, then in the row itself.

    Raises:
        InputError: as `corpus_texts`; metadata that is no object; lines of plain text, which have none.
    """
    if file.suffix == ".txt":
        raise InputError(f"{file}: lines of text have no fields; give a corpus.jsonl")
    for place, row in json_lines(file):
        metadata = row.get("metadata") if isinstance(row, Mapping) else None
        if metadata is not None and not isinstance(metadata, Mapping):
            raise InputError(f"{place}: metadata must be an object")
        both = {**(row if isinstance(row, Mapping) else {}), **(metadata or {})}
        yield place, {name: both[name] for name in names if name in both}


def read_corpus(path: str | Location) -> tuple[list[str], list[str]]:
    """Ids and texts (title + " " + text) of a corpus.jsonl.

    Raises:
        InputError: malformed line, duplicate id (both with the line), empty corpus.
    """
    parts = list(read_documents(path))
    return [one for one, _, _ in parts], [with_title(title, text) for _, title, text in parts]


def read_documents(path: str | Location) -> Iterator[tuple[str, str, str]]:
    """Id, title and text of each document of a corpus.jsonl.

    Raises:
        InputError: as `read_corpus`.
    """
    documents = documents_of(json_lines(location(path)))
    if (first := next(documents, None)) is None:
        raise InputError(f"{path}: the corpus is empty")
    yield first
    yield from documents


def documents_of(
    rows: Iterable[tuple[object, Any]], what: str = "document"
) -> Iterator[tuple[str, str, str]]:
    """Id, title and text of rows, each with the place it is from.

    Raises:
        InputError: a malformed row, or an id that occurs twice (with the place).
    """
    seen: set[str] = set()
    for place, row in rows:
        key = id_field(row, place)
        if key in seen:
            raise InputError(f"{place}: {what} id {key!r} occurs twice")
        seen.add(key)
        yield key, *document_fields(row, place)


def read_queries(path: str | Location) -> dict[str, str]:
    """Query id -> text of a file of rows, or of a .txt: a query per line, whose number from 1 is its id.

    Raises:
        InputError: no such file, or an empty one; a malformed line or an id that occurs twice (file and line).
    """
    place = location(path)
    if place.suffix == ".txt":
        queries = dict(corpus_documents(place))
    elif place.suffix == ".jsonl":
        queries = queries_of(json_lines(place))
    else:
        from neural_sparse.corpora.row_file import rows_of  # pyarrow comes with it

        queries = queries_of(rows_of(place))
    if not queries:
        raise InputError(f"{path}: holds no query")
    return queries


def queries_of(rows: Iterable[tuple[object, Any]]) -> dict[str, str]:
    """Query id -> text of rows; errors as of `documents_of`."""
    return {key: text for key, _, text in documents_of(rows, "query")}
