"""The student against each other system: what the table and the sentence below it say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from neural_sparse.evaluation.cost import Cost
from neural_sparse.evaluation.evaluation import Evaluation
from neural_sparse.evaluation.significance import compare_scores
from neural_sparse.quickstart.lead import Lead, leads, legend, verdict
from neural_sparse.quickstart.report import results_dict, results_markdown


def system(name: str, values: list[float], flops: float | None = None) -> Evaluation:
    per_query = {f"q{number}": value for number, value in enumerate(values)}
    cost = None
    if flops is not None:
        cost = Cost(
            documents=10,
            queries=len(values),
            flops=flops,
            doc_l1=1.0,
            doc_terms=10.0,
            query_terms=3.0,
            empty_documents=0,
            saturation=0.1,
            longest_postings=(),
            index_bytes=100,
        )
    return Evaluation(name, "c", {"nDCG@10": float(np.mean(values))}, {"nDCG@10": per_query}, cost=cost)


@pytest.fixture
def systems() -> list[Evaluation]:
    """BM25 a little worse than the student on most queries, the start as good but for noise."""
    rng = np.random.default_rng(0)
    student = rng.uniform(0.3, 0.9, 200)
    bm25 = student - 0.05 + rng.normal(0, 0.05, 200)
    start = student + rng.normal(0, 0.2, 200)
    return [
        system("BM25", bm25.tolist(), 0.5),
        system("dense teacher", (student + 0.1).tolist()),
        system("start, untrained", start.tolist(), 2.0),
        system("trained student", student.tolist(), 0.75),
    ]


def test_leads_are_paired_tests_with_holm(systems: list[Evaluation]) -> None:
    found = leads(systems)
    assert list(found) == ["BM25", "dense teacher", "start, untrained"]
    plain = compare_scores(systems[0].per_query["nDCG@10"], systems[-1].per_query["nDCG@10"])
    assert found["BM25"].comparison == plain
    assert plain.difference == pytest.approx(0.05, abs=0.02)
    assert found["BM25"].p == pytest.approx(min(1, 3 * plain.p_value))  # one of the two smallest of three
    assert found["BM25"].significant
    assert found["dense teacher"].significant
    assert found["dense teacher"].comparison.difference == pytest.approx(-0.1)
    assert not found["start, untrained"].significant
    assert found["start, untrained"].p == found["start, untrained"].comparison.p_value


def test_the_table_has_them_in_bold_where_they_are_no_chance(systems: list[Evaluation]) -> None:
    found = leads(systems)
    rows = [{"system": one.name, **one.summary(), "lead": found.get(one.name)} for one in systems]
    header, _, *lines = results_markdown(rows).splitlines()
    assert header.endswith("| lead |")
    assert lines[0].endswith(f"| **{found['BM25']}** |")
    assert lines[1].endswith("p < .001** |")
    assert "| **-10.0 [-10.0, -10.0]," in lines[1]
    assert lines[2].endswith(f"| {found['start, untrained']} |")
    assert lines[3].endswith("| – |")
    stored = json.loads(json.dumps(results_dict(rows)))["systems"]
    assert stored[0]["lead"]["difference"] == found["BM25"].comparison.difference
    assert stored[0]["lead"]["p_adjusted"] == found["BM25"].p
    assert stored[3]["lead"] is None


@pytest.mark.parametrize(
    ("p", "shown"), [(0.0004, "p < .001"), (0.0126, "p = .013"), (0.5, "p = .500"), (1.0, "p = 1.000")]
)
def test_how_a_lead_reads(p: float, shown: str) -> None:
    comparison = compare_scores({"a": 0.5, "b": 0.5}, {"a": 0.5, "b": 0.52})
    assert str(Lead(comparison, p)) == f"+1.0 [+0.0, +2.0], {shown}"


def test_the_verdict_says_what_is_chance(systems: list[Evaluation]) -> None:
    found = leads(systems)
    text = verdict(systems, found)
    points = 100 * found["BM25"].comparison.difference
    assert f"stands {points:.1f} points of nDCG@10 above BM25 (p < .001)" in text
    assert "its untrained start (p = " in text
    assert ", within chance)" in text
    assert text.endswith("at 1.50 times BM25's FLOPS and 0.38 times its start's FLOPS.")


def test_the_verdict_does_not_hide_a_loss(systems: list[Evaluation]) -> None:
    worse = [systems[3], systems[2], systems[0]]
    worse[0].name, worse[2].name = "BM25", "trained student"
    assert "points of nDCG@10 below BM25 (p < .001)" in verdict(worse, leads(worse))


def test_the_legend_counts(systems: list[Evaluation]) -> None:
    assert "over 1,234 queries" in legend(3, 1234)
    assert "adjusted for 3 comparisons" in legend(3, 1234)
