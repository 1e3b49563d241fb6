from __future__ import annotations

import numpy as np
import pytest

from neural_sparse.mining.filters import among, compress, pick, rank_window, too_close, union_by_rank


@pytest.mark.parametrize("seed", range(4))
def test_window_equals_a_walk_down_the_ranks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    present = np.sort(rng.random((6, 12)) < 0.8, axis=1)[:, ::-1]
    known = present & (rng.random((6, 12)) < 0.3)
    first, last = 2, 5
    window, passed = rank_window(known, present, first, last)
    for query in range(6):
        rank = 0
        for column in range(12):
            expected = expected_passed = False
            if present[query, column] and known[query, column]:
                expected_passed = rank < last
            elif present[query, column]:
                rank += 1
                expected = first <= rank <= last
            assert window[query, column] == expected
            assert passed[query, column] == expected_passed


@pytest.mark.parametrize(
    "margins", [(0.2, None, None), (None, 0.1, None), (None, None, 0.3), (0.2, 0.1, 0.3)]
)
def test_margins_equal_the_formula(margins: tuple[float | None, ...]) -> None:
    rng = np.random.default_rng(0)
    scores, positive = rng.normal(size=(5, 7)).astype(np.float32), rng.normal(size=5).astype(np.float32)
    absolute, relative, highest = margins
    dropped = too_close(scores, positive, *margins)
    for query in range(5):
        known = float(positive[query])
        bounds = [np.inf]
        if absolute is not None:
            bounds.append(known - absolute)
        if relative is not None:  # NV-Retriever's percentage of the positive's score, where that is positive
            bounds.append(known * (1 - relative) if known > 0 else known * (1 + relative))
        if highest is not None:
            bounds.append(highest)
        assert dropped[query].tolist() == [float(score) > min(bounds) for score in scores[query]]
    assert 0 < dropped.sum() < dropped.size


def test_without_margins_nothing_is_too_close_and_an_equal_score_is_no_more() -> None:
    scores = np.array([[9.0, 1.0, 0.9]], np.float32)
    assert not too_close(scores, np.array([1.0], np.float32)).any()
    assert too_close(scores, np.array([1.0], np.float32), relative_margin=0.0).tolist() == [
        [True, False, False]
    ]


@pytest.mark.parametrize("seed", range(4))
def test_pick_equals_a_loop_and_judges_no_more_than_it_must(seed: int) -> None:
    rng = np.random.default_rng(seed)
    passing, bad = rng.random((5, 9)) < 0.7, rng.random((5, 9)) < 0.4
    order = np.array([rng.permutation(9) for _ in range(5)])
    seen = np.zeros((5, 9), int)

    def judge(now: np.ndarray) -> np.ndarray:
        seen[now] += 1
        return bad

    chosen, dropped = pick(passing, order, 3, judge)
    for query in range(5):
        expected: list[int] = []
        looked_at: list[int] = []
        for column in np.argsort(order[query]).tolist():
            if passing[query, column] and len(expected) < 3:
                looked_at.append(column)
                if not bad[query, column]:
                    expected.append(column)
        assert np.flatnonzero(chosen[query]).tolist() == sorted(expected)
        assert np.flatnonzero(seen[query]).tolist() == sorted(looked_at)
        assert np.flatnonzero(dropped[query]).tolist() == sorted(set(looked_at) - set(expected))
    assert seen.max() == 1


def test_pick_without_a_judge() -> None:
    passing = np.array([[True, False, True, True], [False, False, False, False]])
    chosen, dropped = pick(passing, np.array([[3, 2, 1, 0]] * 2), 2)
    assert chosen.tolist() == [[False, False, True, True], [False] * 4]
    assert not dropped.any()


def test_among_and_compress_by_hand() -> None:
    rows = np.array([[5, 2, -1], [0, 5, 2]])
    assert among(rows, [{2, 7}, set()]).tolist() == [[False, True, False], [False] * 3]
    assert among(rows, [set(), {0, 2}]).tolist() == [[False] * 3, [True, False, True]]
    assert compress(rows, rows != 5).tolist() == [[2, -1, -1], [0, 2, -1]]
    assert union_by_rank([rows, np.array([[2], [3]])]).tolist() == [[5, 2, -1, -1], [0, 3, 5, 2]]
