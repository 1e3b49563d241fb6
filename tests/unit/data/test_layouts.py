"""Rows in the layouts of real data sets."""

from __future__ import annotations

import math
from typing import Any

import pytest

from neural_sparse.data.layouts import Example, examples_of
from neural_sparse.errors import InputError


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        # sentence-transformers/embedding-training-data
        (["q", "d"], [Example("q", ("d",))]),
        (["q", "d", "n"], [Example("q", ("d", "n"))]),
        ({"query": "q", "pos": ["a", "b"]}, [Example("q", ("a",)), Example("q", ("b",))]),
        (
            {"query": "q", "pos": ["a", "b"], "neg": ["n", "m"]},
            [Example("q", ("a", "n", "m")), Example("q", ("b", "n", "m"))],
        ),
        ({"title": "t", "text": "body"}, [Example("t", ("body",))]),
        ({"title": "t", "abstract": "a"}, [Example("t", ("a",))]),
        # the sentence-transformers organisation's Parquet
        ({"anchor": "q", "positive": "d", "negative": "n"}, [Example("q", ("d", "n"))]),
        ({"question": "q", "answer": "d"}, [Example("q", ("d",))]),
        (
            {"query": "q", "positive": "d", "negative_1": "n", "negative_2": "m"},
            [Example("q", ("d", "n", "m"))],
        ),
        # Tevatron's
        (
            {
                "query_id": "7",
                "query": "q",
                "positive_passages": [{"docid": "1", "title": "T", "text": "d"}],
                "negative_passages": [{"docid": "2", "title": "", "text": "n"}],
            },
            [Example("q", ("T d", "n"))],
        ),
        # own data
        ({"query": "q", "pos": "d", "negs": ["n"]}, [Example("q", ("d", "n"))]),
        ({"query": "q", "pos": "d", "negs": None}, [Example("q", ("d",))]),
        (
            {"query": "q", "docs": ["x", "y", "z"], "scores": [1, None, 3.5]},
            [Example("q", ("z", "x", "y"), (3.5, 1.0, None))],
        ),
        ({"query": "q", "pos": []}, []),
        ({"set": ["only"]}, []),
    ],
)
def test_layouts(row: Any, expected: list[Example]) -> None:
    assert examples_of(row, {}, "here") == expected


def test_a_set_gives_two_different_texts_and_over_draws_all_pairs() -> None:
    seen = set()
    for draw in range(500):
        (example,) = examples_of({"set": ["a", "b", "c"]}, {}, "here", draw)
        seen.add((example.query, *example.documents))
    assert seen == {(x, y) for x in "abc" for y in "abc" if x != y}


def test_named_columns() -> None:
    fields = {"query": "frage", "positive": "antwort", "negative": "falsch"}
    row = {"frage": "q", "antwort": "d", "falsch": "n", "query": "x"}
    assert examples_of(row, fields, "here") == [Example("q", ("d", "n"))]


@pytest.mark.parametrize(
    ("row", "fields", "message"),
    [
        ({"frage": "q", "antwort": "d"}, {}, "f:3: no column for a query; found: frage, antwort"),
        ({"query": "q", "foo": 1}, {}, "no column for a relevant document; found: query, foo"),
        ({"query": "q", "pos": "d"}, {"query": "frage"}, "no column for a query; found: query, pos"),
        ({"query": "q", "pos": "d"}, {"negative": "falsch"}, "no column 'falsch'; found: query, pos"),
        ({"query": "q", "pos": 3}, {}, "f:3: pos must be a text, found a number: 3"),
        ({"query": ["a", "b"], "pos": "d"}, {}, "f:3, query: expected one text, found 2"),
        ({"query": "q", "docs": ["a"], "scores": [1, 2]}, {}, "must be lists of one length"),
        ({"query": "q", "docs": ["a", "a"], "scores": [1, 2]}, {}, "'a' has two scores, 1.0 and 2.0"),
        ({"query": "q", "pos": "d", "label": {}}, {}, "f:3: label must be a number"),
        ({"query": "q", "pos": "d", "score": math.nan}, {}, "f:3: score must be a number"),
        ({"query": "q", "pos": ["a", "b"], "label": [1]}, {}, "1 labels for 2 texts of pos"),
        ({"query": "q", "docs": ["a"], "scores": [math.nan]}, {}, "finite numbers or null, found nan"),
        (["q"], {}, "a list must hold a query"),
        (3, {}, "expected .* found int"),
        ({"set": "text"}, {}, "a set must be a list of texts"),
    ],
)
def test_refuses(row: Any, fields: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        examples_of(row, fields, "f:3")


@pytest.mark.parametrize(
    ("row", "documents"),
    [
        ({"sentence1": "q", "sentence2": "d", "label": 1}, [("d",)]),
        ({"sentence1": "q", "sentence2": "d", "label": 0}, []),
        ({"query": "q", "document": "d", "score": "0.0"}, []),
        ({"query": "q", "document": "d", "score": -1}, []),
        ({"query": "q", "document": "d", "score": 0.5}, [("d",)]),
        ({"query": "q", "document": "d", "is_relevant": False}, []),
        ({"query": "q", "document": "d", "label": "contradiction"}, []),
        ({"query": "q", "document": "d", "label": "politics"}, [("d",)]),
        ({"query": "q", "document": "d", "label": None}, [("d",)]),
        ({"query": "q", "pos": ["a", "b"], "negs": ["n"], "label": [1, 0]}, [("a", "n", "b")]),
        (["q", "d", "0"], []),
        (["q", "d", 1], [("d",)]),
        (["q", "d", "n", "1.0"], [("d", "n")]),
        ({"query": "q", "docs": ["a", "b", "c"], "labels": [0, 1, 1]}, [("b", "a"), ("c", "a")]),
        ({"query": "q", "docs": ["a", "b"], "scores": [0, 0]}, []),
        ({"query": "q", "docs": ["a", "b", "c"], "scores": [1, 1, 0]}, [("a", "c"), ("b", "c")]),
        ({"query": "q", "docs": ["a", "b"], "scores": [-3.5, -1.0]}, [("b", "a")]),
        ({"query": "q", "docs": ["a"], "scores": [None]}, []),
    ],
)
def test_what_a_label_or_score_denies_is_no_positive(row: Any, documents: list[tuple[str, ...]]) -> None:
    assert [example.documents for example in examples_of(row, {}, "here")] == documents


def test_an_unusual_column_of_labels() -> None:
    row = {"query": "q", "document": "d", "richtig": 0}
    assert examples_of(row, {"label": "richtig"}, "here") == []


@pytest.mark.parametrize("row", [{"query": None, "pos": "d"}, {"query": "q", "pos": None}, [None, "d"]])
def test_null_is_an_empty_text(row: Any) -> None:
    ((query, documents, _),) = examples_of(row, {}, "here")
    assert "" in (query, documents[0])
    assert "None" not in (query, *documents)
