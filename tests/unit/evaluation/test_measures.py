from __future__ import annotations

import itertools
import logging
import math

import numpy as np
import pytest
import pytrec_eval

from neural_sparse.errors import InputError
from neural_sparse.evaluation.measures import evaluate_run

QRELS = {"q1": {"a": 1, "b": 0, "c": 2}, "q2": {"a": 1}, "q3": {"b": 0}}


def test_values_worked_by_hand() -> None:
    run = {"q1": {"b": 3.0, "a": 2.0, "x": 1.0}}
    scores = evaluate_run(run, QRELS, ("nDCG@10", "R@1000", "RR@10", "P@2"))
    ideal = 2 / math.log2(2) + 1 / math.log2(3)
    assert scores.per_query["nDCG@10"] == {"q1": pytest.approx((1 / math.log2(3)) / ideal), "q2": 0, "q3": 0}
    assert scores.per_query["R@1000"] == {"q1": 0.5, "q2": 0, "q3": 0}
    assert scores.per_query["RR@10"] == {"q1": 0.5, "q2": 0, "q3": 0}
    assert scores.means["RR@10"] == pytest.approx(0.5 / 3)  # unanswered and relevance-free queries count
    assert scores.means["P@2"] == pytest.approx(0.5 / 3)
    assert (scores.judged_queries, scores.unanswered, scores.without_relevant) == (3, 2, 1)
    assert scores.hole_rate == pytest.approx(1 / 3)
    assert list(scores.per_query["RR@10"]) == ["q1", "q2", "q3"]


def test_holes_are_counted_among_the_first_ten() -> None:
    run = {"q2": {f"x{place:02}": 50.0 - place for place in range(30)} | {"a": 100.0}, "q3": {"b": 1.0}}
    assert evaluate_run(run, QRELS).hole_rate == pytest.approx(9 / 11)


def test_agrees_with_pytrec_eval_on_random_runs_with_ties() -> None:
    rng = np.random.default_rng(7)
    docs = [f"d{number}" for number in range(40)]
    for _ in range(30):
        qrels, run = {}, {}
        for query_id in map(str, range(8)):
            judged = rng.choice(docs, rng.integers(1, 12), replace=False).tolist()
            qrels[query_id] = {
                doc_id: int(grade) for doc_id, grade in zip(judged, rng.integers(0, 4, 12), strict=False)
            }
            found = rng.choice(docs, rng.integers(0, 40), replace=False).tolist()
            run[query_id] = {
                doc_id: float(score) for doc_id, score in zip(found, rng.integers(0, 9, 40), strict=False)
            }
        expected = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut_10", "recall_1000", "recip_rank", "map"})
        reference = expected.evaluate(run)
        ours = evaluate_run(run, qrels, ("nDCG@10", "R@1000", "RR", "AP")).per_query
        names = {"nDCG@10": "ndcg_cut_10", "R@1000": "recall_1000", "RR": "recip_rank", "AP": "map"}
        for (name, theirs), query_id in itertools.product(names.items(), qrels):
            assert ours[name][query_id] == pytest.approx(
                reference.get(query_id, {}).get(theirs, 0.0), abs=1e-6
            )


def test_ties_are_ordered_alike_by_every_measure() -> None:
    # trec_eval keeps 32-bit scores (these two are equal there) and puts the last id first.
    run = {"q": {"a": 1.0 + 1e-9, "b": 1.0}}
    scores = evaluate_run(run, {"q": {"b": 1}}, ("RR", "RR@10", "nDCG@10"))
    assert scores.means == {"RR": 1.0, "RR@10": 1.0, "nDCG@10": 1.0}


def test_names_of_the_guide_are_understood() -> None:
    scores = evaluate_run({"q2": {"a": 1.0}}, QRELS, ("ndcg@10", "recall@1000", "mrr@10"))
    assert list(scores.means) == ["nDCG@10", "R@1000", "RR@10"]


def test_queries_no_one_judged_are_left_out() -> None:
    assert evaluate_run({"q2": {"a": 1.0}, "zz": {"a": 1.0}}, QRELS).per_query["RR@10"].keys() == QRELS.keys()


def test_negative_grades_count_as_zero_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        scores = evaluate_run({"q": {"a": 1.0, "b": 0.5}}, {"q": {"a": -1, "b": 1, "c": -1}})
    assert scores.means["RR@10"] == 0.5
    assert [record.getMessage() for record in caplog.records] == [
        "the judgements: 2 negative grades count as 0 (not relevant)"
    ]


@pytest.mark.parametrize(
    ("run", "qrels", "measures", "message"),
    [
        ({"q": {"a": 1.0}}, {"q": {"a": 1}}, ("nDGC@10",), "nDCG"),
        ({"q": {"a": 1.0}}, {"q": {"a": 1}}, (), "no measure"),
        ({"q": {"a": 1.0}}, {}, ("RR@10",), "no judged query"),
        ({"q": {"a": 1.0}}, {"q": {"a": 0.5}}, ("RR@10",), "no whole number"),
        ({"p": {"a": 1.0}}, {"q": {"a": 1}}, ("RR@10",), "share no query"),
        ({"q": {"a": math.nan}}, {"q": {"a": 1}}, ("RR@10",), "score nan"),
    ],
)
def test_bad_input_is_named(run, qrels, measures, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=message):
        evaluate_run(run, qrels, measures)


def test_an_empty_run_scores_zero() -> None:
    scores = evaluate_run({}, QRELS)
    assert set(scores.means.values()) == {0.0}
    assert math.isnan(scores.hole_rate)
