"""Rules of drift: silent on more of the same, loud on what the document side has not learned."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from neural_sparse.refresh.drift import DocumentSide, drift_of, rules

RNG = random.Random(1)
WORDS = [
    "sort",
    "list",
    "file",
    "open",
    "stream",
    "error",
    "document",
    "string",
    "build",
    "object",
    "fox",
    "dog",
    "lazy",
    "order",
    "pay",
    "leave",
    "once",
]
USUAL = DocumentSide(
    1000, unseen=0.05, unknown=0.0, pieces=1.3, cut=0.1, terms=120.0, empty=0.0, saturation=0.5
)


def texts(words: list[str], count: int = 60) -> list[str]:
    return [" ".join(RNG.choices(words, k=30)) for _ in range(count)]


def vectors(count: int, terms: int, tokens: int = 50) -> sp.csr_matrix:
    rows = np.zeros((count, tokens), np.float32)
    for row in rows:
        row[RNG.sample(range(tokens), terms)] = 1.0
    return sp.csr_matrix(rows)


def test_more_of_the_same_is_no_drift(bert_tokenizer: Any) -> None:
    found = drift_of((texts(WORDS), vectors(60, 9)), (texts(WORDS), vectors(60, 10)), bert_tokenizer, 64)
    assert not found.warnings
    assert found.old.documents == 30
    assert found.new.documents == 60
    assert found.old.terms == 9


def test_another_language_is(bert_tokenizer: Any) -> None:
    strange = texts(["목록", "정렬", "파일", "zebra", "quark"])
    found = drift_of((texts(WORDS), vectors(60, 9)), (strange, vectors(60, 30)), bert_tokenizer, 64)
    told = {one.check for one in found.warnings}
    assert {"unseen words", "unknown tokens", "terms per document", "saturation"} <= told
    assert found.new.unseen == 1.0


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"unseen": 0.16}, "unseen words"),
        ({"unknown": 0.02}, "unknown tokens"),
        ({"pieces": 1.8}, "tokens per word"),
        ({"cut": 0.3}, "cut documents"),
        ({"terms": 60.0}, "terms per document"),
        ({"empty": 0.02}, "empty documents"),
        ({"saturation": 0.7}, "saturation"),
    ],
)
def test_each_rule(change: dict[str, float], check: str) -> None:
    (one,) = [found for found in rules(USUAL, replace(USUAL, **change)) if found.verdict != "ok"]
    assert one.check == check
    assert one.advice
    assert all(found.verdict == "ok" for found in rules(USUAL, USUAL))
    few = rules(USUAL, replace(USUAL, documents=5, **change))
    assert [found.verdict for found in few] == ["ok"]
