"""Queries on disk: a queries.jsonl as every command reads it."""

from __future__ import annotations

from neural_sparse.data.fields import document_fields, id_field
from neural_sparse.errors import InputError
from neural_sparse.lines import json_lines
from neural_sparse.urls import Location


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
