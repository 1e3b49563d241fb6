"""What a sweep writes and prints: means over seeds, the table, JSON, CSV and the picture."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from matplotlib.image import imread
from rich.console import Console

from neural_sparse.config import Recipe
from neural_sparse.io.files import read_json
from neural_sparse.tuning.choice import Point
from neural_sparse.tuning.grid import Trial
from neural_sparse.tuning.judging import Reference
from neural_sparse.tuning.result import FAILED, FINISHED, Outcome, SweepResult, sweep_table

BM25 = {"nDCG@10": 0.55, "FLOPS": 0.6, "doc_terms": 50.0}


def outcome(lam: float, seed: int, relevance: float | None, cost: float = 1.0) -> Outcome:
    recipe = Recipe("m", ("a",), output=f"o/{lam}-{seed}", ranking={"info_nce": 1})
    run = Trial(f"{lam:g}, {seed}", f"{lam:g}", {"lambda_flops": lam, "seed": seed}, recipe)
    if relevance is None:
        return Outcome(run, FAILED, reason="documents have\nbecome empty, all of them")
    # Nine queries that each seed moves to and fro, around the same mean.
    values = [relevance + (0.02 if (query + seed) % 3 else -0.04) for query in range(9)]
    per_query = [{f"q{query}": value for query, value in enumerate(values)}]
    figures = {"nDCG@10": relevance, "FLOPS": cost, "doc_terms": 80.0}
    return Outcome(run, FINISHED, figures, 90.0, per_query=per_query)


@pytest.fixture
def result(tmp_path: Path) -> SweepResult:
    outcomes = [
        outcome(0.01, 1, 0.60, 2.0),
        outcome(0.01, 2, 0.62, 2.4),
        outcome(0.02, 1, 0.60, 1.0),
        outcome(0.02, 2, 0.612, 1.2),
        outcome(0.05, 1, 0.59, 1.4),
        outcome(0.05, 2, None),
    ]
    references = [Reference("old [2]", 0.58, 1.9), Reference("published", 0.57)]
    return SweepResult(tmp_path, ("lambda_flops", "seed"), "docs", [{}], BM25, outcomes, references)


def test_runs_that_differ_in_their_seed_are_one_point(result: SweepResult) -> None:
    assert result.points == [
        Point("0.01", pytest.approx(0.61), pytest.approx(2.2)),
        Point("0.02", pytest.approx(0.606), pytest.approx(1.1)),
        Point("0.05", 0.59, 1.4),  # of the run that did not fail
    ]
    assert [point.name for point in result.front] == ["0.02", "0.01"]
    result.within = 0.005
    assert (
        result.recommendation
        == "0.02: within 0.4 points of the best (0.01) at 50% of the FLOPS; 1 run failed."
    )
    result.within = 0.001
    assert result.chosen is not None
    assert result.chosen.name == "0.01"


def test_a_cheaper_run_is_recommended_unless_it_is_significantly_worse(result: SweepResult) -> None:
    # Every query of 0.02 is .004 below that of 0.01: little, and no chance.
    assert result.chosen is not None
    assert result.chosen.name == "0.01"
    assert "and every cheaper run is significantly worse" in result.recommendation
    for one in result.outcomes[2:4]:  # the same means, but now some queries gain and some lose
        one.per_query = [
            {
                name: value + (0.2 if place % 2 else -0.16)
                for place, (name, value) in enumerate(values.items())
            }
            for values in one.per_query
        ]
    assert result.chosen.name == "0.02"
    assert re.search(
        r"0\.02: within 0\.4 points of the best \(0\.01\) at 50% of the FLOPS \(not significantly worse on 9 queries: "
        r"-0\.4 points, 95% interval -\d+\.\d to \+\d+\.\d, p [\d.]+\)",
        result.recommendation,
    )


def test_files(result: SweepResult) -> None:
    result.within = 0.005
    result.write()
    result.draw()
    written = read_json(result.output / "sweep.json")
    assert written["front"] == ["0.02", "0.01"]
    assert written["references"] == {"old [2]": [0.58, 1.9], "published": [0.57, None]}
    assert written["runs"][5]["status"] == "failed"
    rows = list(csv.DictReader(io.StringIO((result.output / "sweep.csv").read_text())))
    assert [(row["lambda_flops"], row["seed"], row["FLOPS"], row["front"]) for row in rows[3:]] == [
        ("0.02", "2", "1.2", "1"),
        ("0.05", "1", "1.4", "0"),
        ("0.05", "2", "", "0"),
    ]
    assert rows[5]["reason"] == result.outcomes[5].reason
    assert imread(result.output / "pareto.png").ndim == 3


def test_nothing_finished_is_written_without_a_picture(result: SweepResult) -> None:
    result.outcomes = result.outcomes[-1:]
    result.write()
    result.draw()
    assert sorted(file.name for file in result.output.iterdir()) == ["sweep.csv", "sweep.json"]
    assert "nothing to recommend" in result.recommendation


def test_the_table_marks_the_front_and_the_recommended(result: SweepResult) -> None:
    result.within = 0.005
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(sweep_table(result))
    lines = console.export_text().splitlines()
    (chosen,) = [line for line in lines if line.strip().startswith("0.02, mean of 2")]
    assert chosen.split()[-5:] == ["0.606", "1.10", "80", "front,", "recommended"]
    (failed,) = [line for line in lines if line.strip().startswith("0.05, 2")]
    assert failed.split()[-1] == "failed"
    assert any(line.split()[:4] == ["old", "[2]", "0.580", "1.90"] for line in lines)
    assert any(line.split()[:3] == ["published", "0.570", "–"] for line in lines)
    result.outcomes = [result.outcomes[0], result.outcomes[2]]
    console.print(sweep_table(result))
    assert not any("mean of" in line for line in console.export_text().splitlines())
