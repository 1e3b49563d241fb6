"""Rows found by keys, against dicts of texts."""

from __future__ import annotations

import numpy as np

from neural_sparse.text.keys import GrowingIndex, KeyIndex, first_occurrence, first_rows, text_keys

TEXTS = ["a", "", "b", "a", "\ud800 half a pair", "한국어", "", "b", "a"]


def test_first_rows_are_those_of_a_dict() -> None:
    seen: dict[str, int] = {}
    assert first_rows(TEXTS).tolist() == [seen.setdefault(text, row) for row, text in enumerate(TEXTS)]
    assert first_rows([]).tolist() == []


def test_texts_are_found_where_they_first_are() -> None:
    index = KeyIndex(text_keys(TEXTS))
    assert index.find(text_keys(["b", "c", "", "a"])).tolist() == [2, -1, 1, 0]
    assert index.find(text_keys([])).tolist() == []
    assert KeyIndex(text_keys([])).find(text_keys(["a"])).tolist() == [-1]


def test_keys_added_bit_by_bit_are_found_as_in_a_dict() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        index, latest, added, first = GrowingIndex(), {}, 0, 0
        for _ in range(rng.integers(1, 25)):
            keys = rng.integers(0, 7, (rng.integers(0, 9), 2)).astype(np.uint64)
            new = {tuple(key) for key in keys.tolist()} - {key for key, row in latest.items() if row >= first}
            keys = np.array(sorted(new), np.uint64).reshape(
                -1, 2
            )  # as a table has them: none twice at a time
            index.add(keys)
            latest |= {tuple(key): added + row for row, key in enumerate(keys.tolist())}
            added += len(keys)
            if rng.random() < 0.3:
                count = int(rng.integers(0, added - first + 1))
                index.forget(count)
                first += count
            wanted = rng.integers(0, 7, (12, 2)).astype(np.uint64)
            rows = [latest.get(tuple(key), -1) for key in wanted.tolist()]
            assert index.find(wanted).tolist() == [row if row >= first else -1 for row in rows]
        assert len(index._runs) <= max(1, added).bit_length()


def test_keys_that_share_a_half() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        keys, wanted = (rng.integers(0, 4, (size, 2)).astype(np.uint64) for size in (rng.integers(1, 30), 40))
        rows = [tuple(key) for key in keys.tolist()]
        assert first_occurrence(keys).tolist() == [rows.index(key) for key in rows]
        expected = [rows.index(key) if (key := tuple(one)) in rows else -1 for one in wanted.tolist()]
        assert KeyIndex(keys).find(wanted).tolist() == expected
