"""Ids and texts in rows of any file: one rule for null, numbers, lists and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neural_sparse.errors import InputError

ID = ("_id", "id", "docid", "doc_id", "passage_id", "pid", "query_id", "qid")
TEXT = ("text", "passage", "contents", "body")
_SHAPE = "; rows are {_id, text} with perhaps a title: rename these fields"
_KINDS = {dict: "a JSON object", list: "a list", bool: "true or false", int: "a number", float: "a number"}


def as_text(value: Any, where: object, name: str = "text") -> str:
    """A text as it is, null as the empty text.

    Raises:
        InputError: a number, a list, anything else.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    raise InputError(f"{where}: {name} must be a text, found {_kind(value)}: {value!r:.60}")


def as_id(value: Any, where: object, name: str = "_id") -> str:
    """A text that is not empty as it is, a whole number as its decimal digits.

    Raises:
        InputError: anything else; null is no id.
    """
    if isinstance(value, str) and value:
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise InputError(f"{where}: {name} must be a text or a whole number, found {_kind(value)}: {value!r:.60}")


def _kind(value: Any) -> str:
    return "null" if value is None else "an empty text" if value == "" else _KINDS.get(type(value), "no text")


def with_title(title: str, text: str) -> str:
    """BEIR's document text: title, a space, body."""
    return f"{title} {text}".strip()


def document_fields(row: Any, where: object) -> tuple[str, str]:
    """Title ("" if it has none) and text of a row of a corpus, or of queries.

    Args:
        row: a mapping, or [id, text] as of a TSV file without a header.

    Raises:
        InputError: no text (what is there is named), or a value that is none.
    """
    if not isinstance(row, Mapping):
        return "", as_text(_pair(row, where)[1], where)
    name = next((name for name in TEXT if name in row), None)
    if name is None:
        raise InputError(f"{where}: lacks 'text' (has {', '.join(map(repr, row)) or 'nothing'}){_SHAPE}")
    return as_text(row.get("title"), where, "title"), as_text(row[name], where, name)


def id_field(row: Any, where: object) -> str:
    """Id of a row of a corpus or of queries.

    Raises:
        InputError: no id (what is there is named), or a value that is none.
    """
    if not isinstance(row, Mapping):
        return as_id(_pair(row, where)[0], where)
    name = next((name for name in ID if name in row), None)
    if name is None:
        raise InputError(f"{where}: lacks '_id' (has {', '.join(map(repr, row)) or 'nothing'}){_SHAPE}")
    return as_id(row[name], where, name)


def _pair(row: Any, where: object) -> Sequence[Any]:
    if isinstance(row, Sequence) and not isinstance(row, str):
        if len(row) == 2:
            return row
        raise InputError(f"{where}: expected id and text parted by a tab, found {len(row)} cells")
    raise InputError(f"{where}: expected {{_id, text}}, found {_kind(row)}: {row!r:.60}")
