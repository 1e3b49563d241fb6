from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from neural_sparse.evaluation.measures import trec_order, without_ties

finite = st.floats(min_value=-(2.0**100), max_value=2.0**100, width=32)


@given(st.lists(st.lists(finite, min_size=6, max_size=6), min_size=1, max_size=4))
def test_scores_become_strictly_descending_and_stay_close(rows: list[list[float]]) -> None:
    scores = -np.sort(-np.array(rows, dtype=np.float32), axis=1)
    nudged = without_ties(scores)
    assert nudged.dtype == np.float32
    assert (np.diff(nudged, axis=1) < 0).all()
    assert (nudged <= scores).all()
    # as the plain rule: the smaller of the score and the float just below the one before
    for row, got in zip(scores, nudged, strict=True):
        before = np.float32(np.inf)
        for score, value in zip(row, got, strict=True):
            before = min(score, np.nextafter(before, np.float32(-np.inf)))
            assert value == before


def test_distinct_scores_are_left_alone() -> None:
    scores = np.array([[3.5, 1.25, 0.0, -2.0]], dtype=np.float32)
    assert np.array_equal(without_ties(scores), scores)


def test_the_engines_order_is_the_one_trec_eval_sees() -> None:
    scores = without_ties(np.array([[2.0, 1.0, 1.0, 1.0]]))[0]
    assert trec_order(dict(zip("badc", scores.tolist(), strict=True))) == ["b", "a", "d", "c"]


def test_equal_scores_go_by_id_descending() -> None:
    assert trec_order({"a": 1.0, "c": 2.0, "d": 1.0, "b": 1.0 + 1e-10}) == ["c", "d", "b", "a"]
