"""Metadata of documents beside their text, in columns, and filters on it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from neural_sparse.errors import InputError

# Kind of a field -> its column. Plural ones hold a list per document.
KINDS: dict[str, pa.DataType] = {
    "text": pa.string(),
    "number": pa.float64(),
    "flag": pa.bool_(),
    "texts": pa.list_(pa.string()),
    "numbers": pa.list_(pa.float64()),
}
_SAID = {
    "text": "a text",
    "number": "a number",
    "flag": "true or false",
    "texts": "texts",
    "numbers": "numbers",
}
_RANGES = {"gte": pc.greater_equal, "gt": pc.greater, "lte": pc.less_equal, "lt": pc.less}
_WRITTEN = re.compile(r"([^<>=]+?)(<=|>=|<|>|=)(.*)", re.DOTALL)
_OPERATORS = {"<=": "lte", ">=": "gte", "<": "lt", ">": "gt"}
EXACT = 2**53  # whole numbers up to here are themselves as float64

# Field -> kind.
Kinds = Mapping[str, str]


def kind_of(value: Any, where: str) -> str | None:
    """Kind of one value; None for null and empty lists.

    Raises:
        InputError: an object, a list of lists, a number that cannot be held.
    """
    if value is None:
        return None
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, int | float):
        if not math.isfinite(value) or (isinstance(value, int) and abs(value) > EXACT):
            raise InputError(f"{where}: {value} is no number that can be held exactly; write it as a text")
        return "number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, list | tuple):
        kinds = {kind_of(one, where) for one in value}
        if kinds <= {"text"} or kinds == {"number"}:
            return "texts" if kinds == {"text"} else "numbers" if kinds else None
    raise InputError(f"{where}: fields hold texts, numbers, true or false, or lists of texts or of numbers")


def kinds_of(values: Iterable[tuple[object, Mapping[str, Any]]], names: Sequence[str]) -> dict[str, str]:
    """Kind of each field over all documents; a field that holds both one value and lists holds lists.

    Args:
        values: where each document is from, and its fields.

    Raises:
        InputError: a field that holds values of two kinds (with the place), or none at all.
    """
    kinds: dict[str, str] = {}
    for where, fields in values:
        for name in names:
            kind = kind_of(fields.get(name), f"{where}: {name}")
            before = kinds.get(name)
            if kind is None or kind == before:
                continue
            if before is None or kind == f"{before}s":
                kinds[name] = kind
            elif before != f"{kind}s":
                raise InputError(f"{where}: {name} is {_SAID[kind]} here and {_SAID[before]} before")
    for name in names:
        if name not in kinds:
            raise InputError(f"no document has a field {name!r}")
    return kinds


def check_kinds(values: Iterable[tuple[object, Mapping[str, Any]]], kinds: Kinds) -> None:
    """
    Args:
        values: where each document is from, and its fields.

    Raises:
        InputError: a value of another kind (with the place).
    """
    for where, fields in values:
        for name, value in fields.items():
            found = kind_of(value, f"{where}: {name}")
            if found is not None and found not in (kinds[name], kinds[name].removesuffix("s")):
                raise InputError(
                    f"{where}: {name} is {_SAID[found]}, and {_SAID[kinds[name]]} in this collection"
                )


def table_of(rows: Sequence[Mapping[str, Any]], kinds: Kinds, where: Sequence[str] | None = None) -> pa.Table:
    """Columns of documents' fields.

    Args:
        where: names the documents in errors.

    Raises:
        InputError: a field that the collection does not have, or a value of another kind.
    """
    columns: dict[str, list[Any]] = {name: [] for name in kinds}
    for number, row in enumerate(rows):
        place = f"document {where[number]!r}" if where is not None else f"document {number}"
        if unknown := [name for name in row if name not in kinds]:
            there = ", ".join(kinds) or "none; encode with --field NAME"
            raise InputError(f"{place}: the collection has no field {unknown[0]!r}; there are {there}")
        for name, kind in kinds.items():
            value = row.get(name)
            found = kind_of(value, f"{place}: {name}")
            if found is not None and found not in (kind, kind.removesuffix("s")):
                raise InputError(f"{place}: {name} is {_SAID[found]}, and {_SAID[kind]} in this collection")
            if kind.endswith("s") and value is not None and not isinstance(value, list | tuple):
                value = [value]
            columns[name].append(list(value) if isinstance(value, tuple) else value)
    return pa.table(
        {name: pa.array(values, KINDS[kinds[name]]) for name, values in columns.items()},
        schema=pa.schema([(name, KINDS[kind]) for name, kind in kinds.items()]),
    )


def write_table(path: Path, tables: Iterable[pa.Table]) -> None:
    """One after another, into one file; at least one."""
    parts = iter(tables)
    first = next(parts)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, first.schema) as writer:
        writer.write_table(first)
        for part in parts:
            writer.write_table(part)


def map_table(path: Path) -> pa.Table:
    """Columns on disk, mapped. Raises InputError where there are none."""
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path} cannot be read ({error}); encode the corpus again") from error


def kinds_in(table: pa.Table) -> dict[str, str]:
    """Kind of each column."""
    kinds = {kind: name for name, kind in KINDS.items()}
    return {field.name: kinds[field.type] for field in table.schema}


def row_of(table: pa.Table, row: int) -> dict[str, Any]:
    """Fields of one document, those it lacks left out; whole numbers as such."""
    values = {name: table.column(name)[row].as_py() for name in table.column_names}
    return {name: _plain(value) for name, value in values.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) <= EXACT else value


def parse_filters(written: Sequence[str], kinds: Kinds) -> dict[str, Any]:
    """Filters as a command line has them, "year>=2000", "lang=en", "tags=a,b", as `check_filters` takes them.

    Raises:
        InputError: no such field, or what is no filter.
    """
    filters: dict[str, Any] = {}
    for one in written:
        match = _WRITTEN.fullmatch(one)
        if match is None:
            raise InputError(f"{one!r} is no filter; write FIELD=VALUE, FIELD=A,B or FIELD>=VALUE")
        name, operator, text = match[1].strip(), match[2], match[3].strip()
        kind = _kind(name, kinds)
        values = [_value(part, kind, one) for part in text.split(",")]
        if operator == "=":
            if name in filters:
                raise InputError(f"{one!r}: {name} has a filter already; values of one are A,B")
            filters[name] = values if len(values) > 1 else values[0]
            continue
        bounds = filters.setdefault(name, {})
        if len(values) > 1 or not isinstance(bounds, dict):
            raise InputError(f"{one!r}: a range has one value, and no = beside it")
        bounds[_OPERATORS[operator]] = values[0]
    check_filters(filters, kinds)
    return filters


def _value(text: str, kind: str, where: str) -> Any:
    if kind == "flag":
        if text in ("true", "false"):
            return text == "true"
        raise InputError(f"{where!r}: true or false, not {text!r}")
    if kind.startswith("number"):
        try:
            return float(text)
        except ValueError:
            raise InputError(f"{where!r}: {text!r} is no number") from None
    return text


def _kind(name: str, kinds: Kinds) -> str:
    if name not in kinds:
        there = ", ".join(kinds) or "none; encode with --field NAME"
        raise InputError(f"filters: there is no field {name!r}; there are {there}")
    return kinds[name]


def check_filters(filters: Mapping[str, Any], kinds: Kinds) -> None:
    """
    Args:
        filters: field -> a value, a list of values of which one is enough, or {"gte", "gt", "lte", "lt"}. A field that
            holds a list matches where one of its values does; a document that lacks the field does not match.

    Raises:
        InputError: no such field, a value of another kind, or what is no filter.
    """
    for name, wanted in filters.items():
        kind = _kind(name, kinds).removesuffix("s")
        where = f"filters: {name}"
        if isinstance(wanted, Mapping):
            if not wanted or not set(wanted) <= set(_RANGES):
                raise InputError(f"{where}: a range is an object with {', '.join(_RANGES)}")
            if kind == "flag":
                raise InputError(f"{where} is true or false and has no ranges")
            values = list(wanted.values())
        else:
            values = list(wanted) if isinstance(wanted, list | tuple) else [wanted]
            if not values:
                raise InputError(f"{where}: an empty list matches nothing; leave the filter out")
        for value in values:
            if kind_of(value, where) != kind:
                raise InputError(f"{where} is {_SAID[kind]}, not {value!r:.60}")


def matching(table: pa.Table, filters: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Which documents pass all filters (`check_filters`), bool [documents]."""
    mask = np.ones(len(table), np.bool_)
    for name, wanted in filters.items():
        if not len(table):
            continue
        column = table.column(name).combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = column.chunk(0)
        if not pa.types.is_list(column.type):
            mask &= _matches(column, wanted)
            continue
        found = _matches(column.flatten(), wanted)
        parents = pc.list_parent_indices(column).to_numpy(zero_copy_only=False)
        own = np.zeros(len(table), np.bool_)
        own[parents[found]] = True
        mask &= own
    return mask


def _matches(column: pa.Array, wanted: Any) -> NDArray[np.bool_]:
    if isinstance(wanted, Mapping):
        mask = np.ones(len(column), np.bool_)
        for bound, value in wanted.items():
            mask &= _true(_RANGES[bound](column, pa.scalar(value, column.type)))
        return mask
    values = list(wanted) if isinstance(wanted, list | tuple) else [wanted]
    return _true(pc.is_in(column, value_set=pa.array(values, column.type)))


def _true(column: pa.Array) -> NDArray[np.bool_]:
    filled: NDArray[np.bool_] = pc.fill_null(column, False).to_numpy(zero_copy_only=False).astype(np.bool_)
    return filled
