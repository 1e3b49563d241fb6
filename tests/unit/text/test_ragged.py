"""The primitives of flat arrays against plain loops, which are what several modules had of their own."""

import itertools

import numpy as np
import pytest

from neural_sparse.text.ragged import RowLists, locate, offsets_of, ranges, segment_ids
from neural_sparse.text.tokens import Tokens

RNG = np.random.default_rng(3)
CASES = [
    np.empty(0, np.int64),
    np.zeros(1, np.int64),
    np.zeros(5, np.int64),
    np.array([4]),
    np.array([0, 0, 3, 0, 1, 0]),
    *(RNG.integers(0, most, count) for most, count in ((2, 50), (9, 1), (9, 200), (1000, 30))),
]


@pytest.mark.parametrize("lengths", CASES, ids=lambda lengths: f"{len(lengths)}-{lengths.sum()}")
def test_as_plain_loops(lengths: np.ndarray) -> None:
    offsets = offsets_of(lengths)
    assert offsets.dtype == np.int64
    assert offsets.tolist() == [0, *itertools.accumulate(lengths.tolist())]
    assert offsets_of(lengths.tolist()).tolist() == offsets.tolist()
    assert segment_ids(lengths).tolist() == [
        segment for segment, length in enumerate(lengths.tolist()) for _ in range(length)
    ]
    starts = RNG.integers(0, 10_000, len(lengths))
    found = ranges(starts, lengths)
    assert found.dtype == np.int64
    assert found.tolist() == [
        start + at
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
        for at in range(length)
    ]
    entries = RNG.permutation(offsets[-1])
    segments, places = locate(offsets, entries)
    plain = [(segment, at) for segment, length in enumerate(lengths.tolist()) for at in range(length)]
    assert list(zip(segments.tolist(), places.tolist(), strict=True)) == [plain[entry] for entry in entries]
    for entry in entries[:5].tolist():  # one number, as a text is asked for
        assert tuple(map(int, locate(offsets, entry))) == plain[entry]


def test_lengths_that_sum_beyond_32_bits() -> None:
    """Of 32-bit lengths too: postings and Arrow give them."""
    assert offsets_of(np.full(3, 2**31 - 1, np.int32))[-1] == 3 * (2**31 - 1)


def test_marks_are_counted_like_lengths() -> None:
    """A mask's offsets say how many entries are kept before each, what rows of a sparse matrix become."""
    keep = np.array([True, False, True, True, False])
    assert offsets_of(keep).tolist() == [0, 1, 1, 2, 3, 3]


@pytest.mark.parametrize("lengths", CASES, ids=lambda lengths: f"{len(lengths)}-{lengths.sum()}")
def test_taking_whole_segments(lengths: np.ndarray) -> None:
    """Of tokens, repeated and out of order; of lists some of which are replaced."""
    flat = RNG.integers(0, 99, lengths.sum())
    plain = [row.tolist() for row in np.split(flat, np.cumsum(lengths)[:-1])] if len(lengths) else []
    rows = RNG.integers(0, max(1, len(lengths)), 2 * len(lengths))
    tokens = Tokens(flat, offsets_of(lengths)).take(rows)
    assert tokens.ids.tolist() == [token for row in rows for token in plain[row]]
    assert tokens.lengths.tolist() == [len(plain[row]) for row in rows]
    replaced = np.flatnonzero(RNG.random(len(lengths)) < 0.5)
    others = [RNG.integers(0, 99, RNG.integers(0, 4)) for _ in replaced]
    found = RowLists.of_lengths(flat, lengths).filled(replaced, RowLists.of(others))
    for row, other in zip(replaced.tolist(), others, strict=True):
        plain[row] = other.tolist()
    assert [row.tolist() for row in found] == plain
