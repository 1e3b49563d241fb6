"""Filters on metadata, against the plain rule applied document by document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_sparse import InputError
from neural_sparse.search.fields import (
    check_filters,
    kinds_of,
    map_table,
    matching,
    parse_filters,
    row_of,
    table_of,
    write_table,
)

KINDS = {"year": "number", "lang": "text", "open": "flag", "tags": "texts", "sizes": "numbers"}
numbers, words = st.integers(-3, 3), st.sampled_from(["", "a", "b", "é"])
documents = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "year": st.none() | numbers,
            "lang": st.none() | words,
            "open": st.none() | st.booleans(),
            "tags": st.none() | words | st.lists(words, max_size=3),
            "sizes": st.none() | st.lists(numbers, max_size=3),
        },
    ),
    max_size=12,
)


def wanted(values: Any, ranges: bool = True) -> Any:
    some = values | st.lists(values, min_size=1, max_size=3)
    bounds = st.dictionaries(st.sampled_from(["gte", "gt", "lte", "lt"]), values, min_size=1, max_size=2)
    return some | bounds if ranges else some


filters = st.fixed_dictionaries(
    {},
    optional={
        "year": wanted(numbers),
        "lang": wanted(words),
        "open": wanted(st.booleans(), False),
        "tags": wanted(words),
        "sizes": wanted(numbers),
    },
)


def passes(document: dict[str, Any], asked: dict[str, Any]) -> bool:
    """The rule in words."""
    for name, want in asked.items():
        have = document.get(name)
        values = have if isinstance(have, list) else [] if have is None else [have]
        if isinstance(want, dict):
            tests = {
                "gte": lambda a, b: a >= b,
                "gt": lambda a, b: a > b,
                "lte": lambda a, b: a <= b,
                "lt": lambda a, b: a < b,
            }
            found = any(all(tests[key](value, bound) for key, bound in want.items()) for value in values)
        else:
            found = any(value in (want if isinstance(want, list) else [want]) for value in values)
        if not found:
            return False
    return True


@settings(max_examples=60, deadline=None)
@given(rows=documents, asked=filters)
def test_filters_are_the_rule(rows: list[dict[str, Any]], asked: dict[str, Any]) -> None:
    check_filters(asked, KINDS)
    found = matching(table_of(rows, KINDS), asked)
    np.testing.assert_array_equal(found, np.array([passes(row, asked) for row in rows], bool))


def test_kinds_are_told_from_the_values() -> None:
    rows = [
        ("line 1", {"year": 2000, "tags": "a", "open": True, "left": 1}),
        ("line 2", {"year": 1.5, "tags": ["b", "c"]}),
        ("line 3", {"year": None}),
    ]
    assert kinds_of(rows, ["year", "tags", "open"]) == {"year": "number", "tags": "texts", "open": "flag"}
    with pytest.raises(InputError, match="line 2: year is a text here and a number before"):
        kinds_of([("line 1", {"year": 1}), ("line 2", {"year": "1"})], ["year"])
    with pytest.raises(InputError, match="no document has a field 'size'"):
        kinds_of(rows, ["size"])
    for value in ({"a": 1}, [[1]], [1, "a"], 2**60, float("nan")):
        with pytest.raises(InputError, match="line 1: year"):
            kinds_of([("line 1", {"year": value})], ["year"])


def test_columns_come_back(tmp_path: Path) -> None:
    rows = [{"year": 2000, "tags": "a", "open": True}, {"sizes": [1.5, 2], "lang": "é"}, {}]
    write_table(tmp_path / "fields.arrow", [table_of(rows[:1], KINDS), table_of(rows[1:], KINDS)])
    table = map_table(tmp_path / "fields.arrow")
    assert [row_of(table, row) for row in range(3)] == [{**rows[0], "tags": ["a"]}, rows[1], {}]
    (tmp_path / "fields.arrow").write_bytes(b"ARROW1")
    with pytest.raises(InputError, match=r"fields\.arrow cannot be read"):
        map_table(tmp_path / "fields.arrow")


def test_written_filters() -> None:
    written = ["year>=2000", "year < 2010", "lang=en", "tags=a,b", "open=true"]
    assert parse_filters(written, KINDS) == {
        "year": {"gte": 2000.0, "lt": 2010.0},
        "lang": "en",
        "tags": ["a", "b"],
        "open": True,
    }
    for bad, reason in [
        ("year", "is no filter"),
        ("size=1", "there are year, lang, open, tags, sizes"),
        ("year=x", "'x' is no number"),
        ("open=1", "true or false"),
        ("open>true", "has no ranges"),
        ("year>1,2", "a range has one value"),
    ]:
        with pytest.raises(InputError, match=reason):
            parse_filters([bad], KINDS)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"size": 1}, "there is no field 'size'"),
        ({"year": "2000"}, "is a number, not '2000'"),
        ({"year": None}, "is a number, not None"),
        ({"year": {}}, "a range is an object with gte, gt, lte, lt"),
        ({"year": {"from": 1}}, "a range is an object"),
        ({"lang": []}, "an empty list matches nothing"),
        ({"tags": [["a"]]}, "filters: tags"),
    ],
)
def test_refused_filters(asked: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        check_filters(asked, KINDS)


def test_values_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="document 'd1': the collection has no field 'size'"):
        table_of([{"size": 1}], KINDS, ["d1"])
    with pytest.raises(InputError, match="document 'd1': year is a text, and a number in this collection"):
        table_of([{"year": "1"}], KINDS, ["d1"])
