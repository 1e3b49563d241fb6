"""Texts by id, against a dict of them; by 64 bits of a hash, and by the 128 bits that find many at once."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from neural_sparse.data import text_table
from neural_sparse.data.text_table import RepeatedIdError, TextTable
from neural_sparse.text.keys import KeyIndex, as_keys, text_key, text_keys


@pytest.mark.parametrize("count", [0, 1, 2, 7, 300])
def test_as_a_dict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(text_table, "_ROWS", 64)  # several batches
    rng = random.Random(count)
    texts = {f"{rng.getrandbits(40):x}한": f"text {row}" for row in range(count)}
    table = TextTable.make(tmp_path / "t.arrow", texts.items())
    assert len(table) == count
    asked = [*texts, "none", "", "a"]
    assert [table.get(key) for key in asked] == [texts.get(key) for key in asked]
    rows = KeyIndex(text_keys(texts)).find(text_keys(asked))
    values = list(texts.values())
    assert [None if row < 0 else values[row] for row in rows.tolist()] == [texts.get(key) for key in asked]


def test_an_id_that_occurs_twice_in_different_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_table, "_ROWS", 2)
    with pytest.raises(RepeatedIdError, match="'b' occurs twice"):
        TextTable.make(tmp_path / "t.arrow", [("a", "1"), ("b", "2"), ("c", "3"), ("b", "4")])


def test_another_id_of_the_same_hash_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_table, "_hash", len)
    table = TextTable.make(tmp_path / "t.arrow", [("a", "1"), ("bb", "2")])
    assert (table.get("a"), table.get("x")) == ("1", None)


def test_keys_in_rows_and_one_after_another_are_the_same() -> None:
    """As they lie in a teacher cache's files, uint8 [n, 16], and as they are hashed."""
    texts = ["", "a", "bb", "a", "한국어", "\ud800"]
    together = b"".join(map(text_key, texts))
    rows = np.frombuffer(together, np.uint8).reshape(-1, 16)
    assert (as_keys(rows) == as_keys(together)).all()
    assert (as_keys(rows) == text_keys(texts)).all()
    assert as_keys(text_keys(texts).view(np.uint8).reshape(-1, 16)).tolist() == text_keys(texts).tolist()
    assert as_keys(b"").shape == (0, 2)
