from __future__ import annotations

import itertools
import logging

import numpy as np
import pytest
from scipy.stats import bootstrap, permutation_test

from neural_sparse.errors import InputError
from neural_sparse.evaluation.significance import (
    bootstrap_interval,
    compare_macro,
    compare_scores,
    holm,
    randomisation_test,
)


def mean_of(values, axis=-1):  # type: ignore[no-untyped-def]
    return np.mean(values, axis=axis)


def scipy_p(differences: np.ndarray, samples: int) -> float:
    return permutation_test(
        (differences,), mean_of, permutation_type="samples", n_resamples=samples, vectorized=True, rng=1
    ).pvalue


def test_three_wins_out_of_three_worked_by_hand() -> None:
    # 8 sign patterns; only +++ and --- are as extreme as the observed one
    assert randomisation_test([0.1, 0.2, 0.3]) == pytest.approx(2 / 8)
    # |sum| >= 0 always
    assert randomisation_test([0.1, -0.1]) == 1.0
    # +.3 -.1: sums .4 .2 -.2 -.4 -> all of them reach .2
    assert randomisation_test([0.3, -0.1]) == 1.0
    # equal values: sums are -3, -1, 1, 3 (times .1) with 1, 3, 3, 1 patterns; |1| is reached by all
    assert randomisation_test([0.1, 0.1, -0.1]) == 1.0


def test_exact_values_are_scipys() -> None:
    rng = np.random.default_rng(5)
    for size in (2, 5, 9, 13):
        for _ in range(5):
            differences = np.round(rng.normal(0.1, 0.3, size), 1)  # ties and zeros among them
            expected = scipy_p(differences, 2**20)
            assert randomisation_test(differences) == pytest.approx(expected, abs=1e-12)


def test_sampled_values_are_close_to_scipys() -> None:
    rng = np.random.default_rng(6)
    for shift in (0.0, 0.05, 0.08):
        differences = rng.normal(shift, 0.3, 120)
        expected = scipy_p(differences, 20_000)
        got = randomisation_test(differences, samples=20_000)
        assert got == pytest.approx(expected, abs=4 * np.sqrt(0.25 / 20_000) * 2 * max(expected, 0.02) ** 0.5)


def test_sampled_and_exact_agree() -> None:
    differences = np.random.default_rng(8).normal(0.15, 0.3, 14)
    assert randomisation_test(differences, samples=2**14 - 1) == pytest.approx(
        randomisation_test(differences, samples=2**14), abs=0.01
    )


def test_the_seed_decides_and_p_is_never_zero() -> None:
    differences = np.full(200, 0.5)
    assert randomisation_test(differences, samples=999) == pytest.approx(1 / 1000)
    noise = np.random.default_rng(1).normal(0.02, 0.3, 100)
    assert randomisation_test(noise, 999, seed=3) == randomisation_test(noise, 999, seed=3)
    assert len({randomisation_test(noise, 999, seed=seed) for seed in range(5)}) > 1


def test_no_difference_at_all() -> None:
    assert randomisation_test([0.0, 0.0]) == 1.0
    assert randomisation_test([]) == 1.0
    assert bootstrap_interval([0.0, 0.0]) == (0.0, 0.0)
    assert bootstrap_interval([0.5, 0.5], [0.1]) == (pytest.approx(0.3), pytest.approx(0.3))


def test_under_the_null_hypothesis_small_p_values_are_as_rare_as_they_should_be() -> None:
    rng = np.random.default_rng(11)
    p_values = [randomisation_test(rng.normal(0, 1, 40), samples=500, seed=seed) for seed in range(400)]
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=0.03)


def test_the_interval_is_scipys() -> None:
    differences = np.random.default_rng(9).normal(0.05, 0.2, 150)
    expected = bootstrap((differences,), np.mean, n_resamples=20_000, method="percentile", rng=2)
    low, high = bootstrap_interval(differences, resamples=20_000)
    assert low == pytest.approx(expected.confidence_interval.low, abs=0.002)
    assert high == pytest.approx(expected.confidence_interval.high, abs=0.002)
    narrow = bootstrap_interval(differences, confidence=0.5)
    assert low < narrow[0] < differences.mean() < narrow[1] < high


def test_holm_worked_by_hand() -> None:
    adjusted = holm({"a": 0.04, "b": 0.01, "c": 0.03})
    assert adjusted == {"a": pytest.approx(0.06), "b": pytest.approx(0.03), "c": pytest.approx(0.06)}
    assert holm({"a": 0.5, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_comparison_counts_wins_and_losses(caplog: pytest.LogCaptureFixture) -> None:
    a = {"q1": 0.5, "q2": 0.0, "q3": 1.0, "q4": 0.1}
    b = {"q1": 1.0, "q2": 0.5, "q3": 1.0}
    with caplog.at_level(logging.WARNING):
        result = compare_scores(a, b)
    assert "only 3 queries" in caplog.text
    assert (result.queries, result.wins, result.ties, result.losses) == (3, 2, 1, 0)
    assert result.difference == pytest.approx(1 / 3)
    assert result.p_value == pytest.approx(0.5)  # the two differing queries: 2 of 4 patterns
    assert 0 <= result.low <= result.difference <= result.high <= 0.5
    with pytest.raises(InputError, match="no query in common"):
        compare_scores({"x": 1.0}, {"y": 1.0})


def test_each_data_set_weighs_the_same() -> None:
    large_a, large_b = {str(n): 0.0 for n in range(90)}, {str(n): 0.1 for n in range(90)}
    small_a, small_b = {"x": 0.5, "y": 0.5}, {"x": 0.2, "y": 0.2}
    result = compare_macro([(large_a, large_b), (small_a, small_b)])
    assert result.difference == pytest.approx((0.1 - 0.3) / 2)
    assert (result.low, result.high) == (pytest.approx(-0.1), pytest.approx(-0.1))
    assert (result.wins, result.losses) == (90, 2)
    with pytest.raises(InputError, match="share no data set"):
        compare_macro([])


def test_macro_over_one_data_set_is_the_plain_comparison() -> None:
    rng = np.random.default_rng(2)
    a = {str(n): float(value) for n, value in enumerate(rng.random(10))}
    b = {str(n): float(value) for n, value in enumerate(rng.random(10))}
    assert compare_macro([(a, b)]) == compare_scores(a, b)


def test_the_macro_p_value_counts_sign_patterns_of_weighted_differences() -> None:
    rng = np.random.default_rng(13)
    for _ in range(5):
        pairs, weighted = [], []
        for size in (2, 7):
            a, b = rng.random(size), rng.random(size)
            pairs.append(
                (
                    dict(zip(map(str, range(size)), a, strict=True)),
                    dict(zip(map(str, range(size)), b, strict=True)),
                )
            )
            weighted += ((b - a) / size / 2).tolist()
        sums = [abs(np.dot(signs, weighted)) for signs in itertools.product((1, -1), repeat=len(weighted))]
        expected = np.mean(np.array(sums) >= abs(sum(weighted)) - 1e-12)
        assert compare_macro(pairs).p_value == pytest.approx(expected)
