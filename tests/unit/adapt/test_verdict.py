"""Ship, keep BM25, not enough evidence: from values per query whose answer is known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from neural_sparse.adapt.candidates import best_strength
from neural_sparse.adapt.verdict import KEEP, SHIP, UNSURE, Choice, Standing, choose, decide, sure_lead

BM25 = {f"q{number}": 0.4 + 0.002 * (number % 50) for number in range(200)}
KINDS = {
    "BM25": "bm25",
    "BM25 over word pieces": "bm25",
    "start": "start",
    "own words": "free",
    "trained": "trained",
    "dense teacher": "teacher",
}


def moved(by: float, spread: float = 0.05, seed: int = 0) -> dict[str, float]:
    noise = np.random.default_rng(seed).normal(0, spread, len(BM25))
    noise -= noise.mean()
    return {key: value + by + more for (key, value), more in zip(BM25.items(), noise.tolist(), strict=True)}


def verdict(chosen: str, made: bool = True, **by: float):  # type: ignore[no-untyped-def]
    gains = {"pieces": -0.01, "own": 0.0, "trained": 0.0, "spread": 0.05} | by
    values = {
        "BM25": BM25,
        "BM25 over word pieces": moved(gains["pieces"], seed=1),
        "start": moved(-0.02, seed=2),
        "own words": moved(gains["own"], seed=3),
        "trained": moved(gains["trained"], gains["spread"], seed=4),
        "dense teacher": moved(0.05, seed=5),
    }
    standings = [Standing(name, kind, select=0.5) for name, kind in KINDS.items()]
    return decide(Choice(chosen, "own words"), standings, values, made)


def test_a_trained_model_that_is_better_is_shipped() -> None:
    found = verdict("trained", trained=0.03)
    assert (found.decision, found.recommended, found.queries_needed) == (SHIP, "trained", None)
    assert "made from the documents" in found.sentences[-1]
    assert "made from the documents" not in " ".join(verdict("trained", made=False, trained=0.03).sentences)
    # Holm over the whole family: each candidate against BM25, the chosen ones against the other BM25, start, teachers.
    pairs = {(one.a, one.b) for one in found.tests}
    assert len(found.tests) == len(pairs) == 5 + 2 + 2
    assert found.test("BM25", "trained").mark == 1
    assert all(one.p >= one.comparison.p_value for one in found.tests)


def test_the_untrained_one_stands_in_for_a_trained_one_that_is_not_better() -> None:
    found = verdict("trained", own=0.03)
    assert (found.decision, found.recommended) == (SHIP, "own words")
    assert "No trained model is better than BM25" in " ".join(found.sentences)


def test_a_candidate_must_be_better_than_every_bm25() -> None:
    found = verdict("trained", trained=0.03, pieces=0.03)
    assert found.baseline == "BM25 over word pieces"
    assert found.decision != SHIP


def test_bm25_is_kept_where_no_gain_is_left_in_the_interval() -> None:
    worse = verdict("trained", trained=-0.03)
    assert (worse.decision, worse.recommended) == (KEEP, "BM25")
    assert "worse" in " ".join(worse.sentences)
    assert verdict("own words", own=0.0).decision == KEEP  # the interval ends below a point


def test_made_queries_that_bm25_answers_anyway_say_nothing_against_a_model() -> None:
    standings = [Standing(name, kind, select=0.9) for name, kind in KINDS.items()]
    values = {name: dict.fromkeys(BM25, 0.9 - 0.03 * (kind != "bm25")) for name, kind in KINDS.items()}
    made, real = (decide(Choice("trained", "own words"), standings, values, one) for one in (True, False))
    assert (made.decision, made.recommended) == (UNSURE, "BM25")
    assert "share too many words" in " ".join(made.sentences)
    assert real.decision == KEEP


def test_evidence_that_is_lacking_is_counted_in_queries() -> None:
    found = verdict("trained", trained=0.02, spread=0.4)
    assert (found.decision, found.recommended) == (UNSURE, "BM25")
    assert found.queries_needed is not None
    assert found.queries_needed > 1000  # (2.8 * .4 / .02) ** 2
    assert f"{found.queries_needed:,} judged queries" in " ".join(found.sentences)


def test_queries_that_match_nothing_and_too_few_of_them() -> None:
    standings = [Standing(name, kind, select=0.0) for name, kind in KINDS.items()]
    nothing = {name: dict.fromkeys(BM25, 0.0) for name in KINDS}
    found = decide(Choice("own words", "own words"), standings, nothing, True)
    assert found.decision == KEEP
    one = {name: {"q": 0.5} for name in KINDS}
    few = decide(Choice("own words", "own words"), standings, one, True)
    assert (few.decision, few.recommended, few.queries_needed) == (UNSURE, "BM25", None)


@pytest.mark.parametrize(("most", "chosen"), [(None, "trained"), (1.5, "own words"), (0.1, "trained")])
def test_the_choice_is_among_those_cheap_enough(most: float | None, chosen: str) -> None:
    models = [
        ("own words", "free", 0.5, 1.4),
        ("own words, dearer", "free", 0.5, 1.5),
        ("trained", "trained", 0.6, 3.0),
    ]
    standings = [
        Standing("BM25", "bm25", 0.9, 1.0),
        *(
            Standing(name, kind, select, flops, of_limit=flops / most if most else 0.0, lead=select)
            for name, kind, select, flops in models
        ),
        Standing("dense teacher", "teacher", 0.8, None, lead=0.9),
    ]
    assert choose(standings) == Choice(
        chosen, "own words", [name for name, _, _, flops in models if most and flops > 1.02 * most]
    )


def test_the_choice_is_the_surest_lead() -> None:
    rng = np.random.default_rng(0)
    bm25 = dict(enumerate(rng.random(250)))
    near = {key: value + rng.normal(0.01, 0.05) for key, value in bm25.items()}
    lucky = {key: value + rng.normal(0.05, 0.5) for key, value in bm25.items()}
    lucky_mean, near_mean = (np.mean([*one.values()]) - np.mean([*bm25.values()]) for one in (lucky, near))
    assert lucky_mean > near_mean  # not by the error of either
    values = {"near": near, "lucky": lucky}
    standings = [
        Standing(name, "free", float(np.mean([*one.values()])), 1.0, lead=sure_lead(one, bm25))
        for name, one in values.items()
    ]
    assert choose(standings).chosen == "near"
    assert sure_lead(bm25, bm25) == sure_lead({}, {}) == 0.0


def test_the_usual_strength_of_own_words_unless_another_is_better_by_more_than_chance() -> None:
    rng = np.random.default_rng(0)
    usual = rng.random(200)
    noisy = usual + np.where(np.arange(200) % 2, 0.31, -0.29)  # ahead by half its error
    better = usual + rng.normal(0.05, 0.1, 200)

    def of(values: npt.NDArray[np.float64]) -> dict[str, float]:
        return {f"q{number}": value for number, value in enumerate(values.tolist())}

    assert noisy.mean() > usual.mean()
    assert best_strength({1.0: of(noisy), 4.0: of(usual)}) == 4.0
    assert best_strength({1.0: of(noisy), 2.0: of(better), 4.0: of(usual)}) == 2.0
    assert best_strength({2.0: of(usual), 4.0: of(usual)}) == 4.0
    assert best_strength({2.0: {"a": 1.0}, 4.0: {"a": 0.0}}) == 4.0
    assert best_strength({2.0: {}, 4.0: {}}) == 4.0
