"""Grouping by length: nothing lost, nothing twice, bounds kept."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_sparse.model.layout import split_by_length
from neural_sparse.text.lengths import length_groups

LENGTHS = st.lists(st.integers(0, 60), max_size=60)


@settings(max_examples=150, deadline=None)
@given(LENGTHS, st.none() | st.integers(1, 300), st.integers(1, 200), st.floats(0, 0.9))
def test_groups(lengths: list[int], max_tokens: int | None, min_tokens: int, max_padding: float) -> None:
    array = np.array(lengths, np.int64)
    groups = length_groups(array, max_tokens, min_tokens, max_padding)
    assert sorted(np.concatenate([*groups, np.empty(0, np.int64)]).tolist()) == list(range(len(lengths)))
    order = [lengths[row] for group in groups for row in group]
    assert order == sorted(lengths, reverse=True)
    for group in groups:
        longest, padded = array[group[0]], array[group[0]] * len(group)
        assert array[group].max() == longest
        if max_tokens is not None:
            assert padded <= max_tokens or len(group) == 1
        # Beyond the least size, padding is within bounds.
        assert padded <= min_tokens or array[group].sum() >= (1 - max_padding) * padded - 1e-9


def test_equal_lengths_make_one_group_in_order() -> None:
    (group,) = length_groups(np.full(5, 7))
    assert group.tolist() == [0, 1, 2, 3, 4]
    assert length_groups(np.empty(0, np.int64)) == []


def test_one_long_text_does_not_pad_many_short_ones() -> None:
    groups = length_groups(np.array([500, *[10] * 1000]))
    assert [len(group) for group in groups][0] < 10  # noqa: RUF015


@settings(max_examples=60, deadline=None)
@given(LENGTHS.filter(bool), st.integers(0, 5))
def test_split_gives_every_text_back(lengths: list[int], pad_id: int) -> None:
    ids = torch.arange(100, 100 + sum(lengths))
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    seen = []
    for rows, padded, mask in split_by_length(ids, offsets, pad_id):
        assert mask.dtype == torch.int64
        for row, tokens, real in zip(rows.tolist(), padded, mask.bool(), strict=True):
            assert tokens[real].tolist() == ids[offsets[row] : offsets[row + 1]].tolist()
            assert (tokens[~real] == pad_id).all()
            assert real[: lengths[row]].all()  # padding is on the right
            seen.append(row)
    assert sorted(seen) == list(range(len(lengths)))
