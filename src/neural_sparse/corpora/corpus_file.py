"""A corpus on disk: what every command reads of it, the whole file or a range of it.

Queries on disk: a queries.jsonl as every command reads it.
"""

from __future__ import annotations

from collections.abc import Iterator

from neural_sparse.corpora.fields import document_fields, id_field, with_title
from neural_sparse.errors import InputError
from neural_sparse.io.lines import Place, decoded, json_lines, line_number, lines_between, text_lines
from neural_sparse.io.urls import Location, Url, location


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
    path = location(path)
    seen: set[str] = set()
    for place, row in json_lines(path):
        doc_id = id_field(row, place)
        if doc_id in seen:
            raise InputError(f"{place}: document id {doc_id!r} occurs twice")
        seen.add(doc_id)
        yield doc_id, *document_fields(row, place)
    if not seen:
        raise InputError(f"{path}: the corpus is empty")


def read_queries(path: str | Location) -> dict[str, str]:
    """Query id -> text.

    Raises:
        InputError: no such file, or an empty one; a malformed line or an id that occurs twice (file and line).
    """
    queries: dict[str, str] = {}
    for place, row in json_lines(path):
        query_id = id_field(row, place)
        if query_id in queries:
            raise InputError(f"{place}: query id {query_id!r} occurs twice")
        queries[query_id] = document_fields(row, place)[1]
    if not queries:
        raise InputError(f"{path}: holds no query")
    return queries
