from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from neural_sparse.errors import InputError
from neural_sparse.evaluation.compare import Report, System, compare_systems
from neural_sparse.evaluation.cost import Cost, Latency
from neural_sparse.evaluation.evaluation import Evaluation
from neural_sparse.evaluation.significance import holm
from neural_sparse.report.comparison import (
    by_collection,
    comparisons,
    cost_ratios,
    markdown,
    print_report,
    relevance,
    timing_note,
)
from neural_sparse.report.html_page import html_page, write_report

NASTY = "<script>alert('x')</script> | \n pipe"


def evaluation(name: str, collection: str, scores: list[float], flops: float | None = None) -> Evaluation:
    per_query = {f"q{number}": score for number, score in enumerate(scores)}
    cost = None
    if flops is not None:
        cost = Cost(10, len(scores), flops, 2.0, 30.0, 4.0, 0, 0.5, [("the", 0.9)], 1000)
    explanations = {
        query_id: {
            "query": f"{NASTY} {query_id}",
            "documents": [
                {"doc": "d1", "grade": 1, "rank": 2, "text": NASTY, "terms": [["fox", 1.5]]},
                {"doc": "d2", "grade": None, "rank": None, "text": "", "terms": []},
            ],
        }
        for query_id in per_query
    }
    mean = sum(scores) / len(scores)
    return Evaluation(
        name,
        collection,
        {"nDCG@10": mean, "RR@10": mean / 2},
        {"nDCG@10": per_query, "RR@10": {query_id: value / 2 for query_id, value in per_query.items()}},
        cost=cost,
        hole_rate=0.25,
        explanations=explanations,
    )


@pytest.fixture
def systems() -> list[System]:
    low, high = [0.1] * 12, [0.4] * 12
    mixed = [0.5, 0.3] * 6
    return [
        System.of(evaluation("base", "one", low, 2.0), evaluation("base", "two", [0.4] * 12, 4.0)),
        System.of(evaluation("better", "one", high, 1.0), evaluation("better", "two", mixed, 1.0)),
        System.of(evaluation("foreign", "one", low), evaluation("foreign", "two", [0.4] * 11 + [0.2])),
    ]


def test_significance_is_marked_where_it_is(systems: list[System]) -> None:
    report = compare_systems(systems)
    pair = report.pair("base", "better")
    assert pair.collections["one"].difference == pytest.approx(0.3)
    assert pair.collections["one"].p_value == pytest.approx(2 / 2**12)
    assert report.tests == 3 * 2 * (2 + 1)  # pairs, measures, collections and their mean
    assert pair.adjusted["one"] == pytest.approx(
        16 * 2 / 2**12
    )  # four that are as small: 18 tests, 16 from the third
    assert pair.macro_adjusted == report.to_dict()["comparisons"][0]["mean"]["p_holm"]
    assert (pair.verdict("one"), pair.verdict("two"), pair.macro_verdict()) == (1, 0, 1)
    assert report.pair("better", "foreign").verdict("one") == -1
    assert len(report.pairs) == 3 * 2  # every pair by both measures
    heading, rows = by_collection(report)
    assert heading == ["nDCG@10", "one", "two", "mean"]
    assert [row[1].strip() for row in rows] == ["0.1000", "0.4000\u00a0▲", "0.1000"]


def _simulated(rng: np.random.Generator, better: float) -> list[System]:
    """Five systems on two collections of 40 queries by two measures that agree; the last is better by so much."""
    names = ["one", "two"]
    difficulty = {name: rng.beta(1, 1, 40) for name in names}
    systems = []
    for number in range(5):
        scores = {
            name: np.clip(difficulty[name] + rng.normal(better * (number == 4), 0.2, 40), 0, 1)
            for name in names
        }
        systems.append(
            System.of(*(evaluation(f"system {number}", name, list(scores[name])) for name in names))
        )
    return systems


def _has_mark(report: Report) -> bool:
    return any(pair.macro_verdict() or any(map(pair.verdict, report.collections)) for pair in report.pairs)


@pytest.mark.integration  # for it takes seconds
def test_equal_systems_are_seldom_marked() -> None:
    """The family-wise error rate: of reports of five equal systems at most 5 in 100 hold any mark."""
    marked = marked_before = 0
    for number in range(80):
        systems = _simulated(np.random.default_rng(number), better=0.0)
        report = compare_systems(systems, shown=0, seed=number, samples=5000, resamples=10)
        marked += _has_mark(report)
        for pair in report.pairs:  # corrected over collections alone
            pair.adjusted = holm({name: one.p_value for name, one in pair.collections.items()})
            pair.macro_adjusted = pair.macro.p_value
        marked_before += _has_mark(report)
    assert marked <= 8  # binomial(80, .05): more with a probability of 2%
    assert marked_before > 24


def test_a_better_system_is_marked() -> None:
    report = compare_systems(_simulated(np.random.default_rng(0), better=0.25), samples=5000, resamples=10)
    assert all(report.pair(f"system {number}", "system 4").macro_verdict() == 1 for number in range(4))


def test_gains_and_losses_carry_texts_and_terms(systems: list[System]) -> None:
    report = compare_systems(systems, shown=3)
    gains = report.gains["base", "better"]
    assert len(gains) == 3
    assert all(one.b - one.a == pytest.approx(0.3) and one.collection == "one" for one in gains)
    assert gains[0].query == f"{NASTY} q0"
    assert gains[0].documents_b[0]["terms"] == [["fox", 1.5]]
    losses = report.losses["base", "foreign"]
    assert [(one.collection, one.query_id) for one in losses] == [("two", "q11")]


def test_costs_are_set_against_the_first(systems: list[System]) -> None:
    heading, rows = cost_ratios(compare_systems(systems))
    assert rows[0][heading.index("FLOPS")] == "0.33x"
    assert rows[1][heading.index("FLOPS")] == "–"
    assert cost_ratios(compare_systems(systems[:1]))[1] == []


def test_how_the_index_searched_is_said(systems: list[System]) -> None:
    assert timing_note(compare_systems(systems)) == ""
    report = compare_systems(systems)
    first, *others = report.collections

    def timed(modes: dict[str, str]) -> str:
        for system in report.systems:
            for name, one in system.evaluations.items():
                one.latency = Latency(1.0, 1.0, 2.0, None, 10.0, 10, 5, mode=modes.get(name, ""))
        return timing_note(report)

    assert "by one exact index: block maxima skip" in timed({})
    assert "(here: every posting)" in timed(dict.fromkeys(report.collections, "every posting"))
    mixed = timed(dict.fromkeys(others, "every posting") | {first: "block maxima"})
    assert f"block maxima on {first}" in mixed
    assert f"every posting on {', '.join(others)}" in mixed


def test_the_report_in_all_its_forms(systems: list[System], tmp_path: Path) -> None:
    report = compare_systems(systems)
    write_report(report, tmp_path, title=NASTY)
    values = json.loads((tmp_path / "report.json").read_text())
    assert [system["name"] for system in values["systems"]] == ["base", "better", "foreign"]
    assert values["comparisons"][0]["collections"]["one"]["verdict"] == 1
    text = (tmp_path / "report.md").read_text()
    assert text == markdown(report, NASTY)
    gains = text[text.index("Largest gains") :].splitlines()[2:5]
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in gains] == [7, 7, 7]
    assert "alert('x')</script> \\|   pipe q0" in gains[2]
    console = Console(record=True, width=200, file=(tmp_path / "terminal").open("w"))
    print_report(report, console)
    assert "better against base" in console.export_text()
    assert len(comparisons(report.pairs)[1]) == 6 * 3


def test_the_page_is_self_contained_and_escapes_what_it_shows(systems: list[System]) -> None:
    page = html_page(compare_systems(systems), NASTY)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    addresses = set(re.findall(r"https?://[^\"'\s<)]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names, not links
    pictures = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(pictures) == 2 + 2 * 3  # bars, cost; intervals and queries for each pair
    for picture in pictures:
        ET.fromstring(picture)
        assert "currentColor" in picture
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))


def test_one_system_on_one_collection_needs_no_comparison(systems: list[System]) -> None:
    alone = System.of(next(iter(systems[2].evaluations.values())))
    report = compare_systems([alone])
    assert relevance(report)[1] == [["foreign", "0.1000", "0.0500", "25%"]]
    assert "<svg" not in html_page(report)  # nothing to set against anything
    assert "Differences" not in markdown(report)


def test_many_systems_are_only_set_against_the_first(systems: list[System]) -> None:
    many = [System(f"s{number}", systems[number % 3].evaluations) for number in range(7)]
    report = compare_systems(many, measures=["RR@10"])
    assert [(pair.a, pair.b) for pair in report.pairs] == [("s0", f"s{number}") for number in range(1, 7)]
    assert report.measures == ["RR@10"]


def test_many_collections_go_downwards() -> None:
    names = [f"c{number}" for number in range(8)]
    both = [
        System.of(*(evaluation(name, one, [score]) for one in names))
        for name, score in (("a", 0.1), ("b", 0.2))
    ]
    heading, rows = by_collection(compare_systems(both))
    assert heading == ["nDCG@10", "a", "b"]
    assert [row[0] for row in rows] == [*names, "mean"]
    assert [cell.strip() for cell in rows[0][1:]] == ["0.1000", "0.2000"]


def test_bad_input_is_named(systems: list[System], tmp_path: Path) -> None:
    base = systems[0]
    with pytest.raises(InputError, match="nothing to compare"):
        compare_systems([])
    with pytest.raises(InputError, match="same name"):
        compare_systems([base, base])
    with pytest.raises(InputError, match="share no collection"):
        compare_systems([base, System.of(evaluation("x", "three", [0.1]))])
    with pytest.raises(InputError, match="P@5"):
        compare_systems(systems, measures=["P@5"])
    with pytest.raises(InputError, match="holds no evaluation"):
        System.load(tmp_path)


def test_folders_of_evaluations_are_loaded(systems: list[System], tmp_path: Path) -> None:
    for name, one in systems[1].evaluations.items():
        one.save(tmp_path / "several" / name)
    systems[1].evaluations["one"].save(tmp_path / "single")
    several = System.load(tmp_path / "several")
    assert several == systems[1]
    assert System.load(tmp_path / "single", name="other").name == "other"
    systems[0].evaluations["one"].save(tmp_path / "several" / "stray")
    with pytest.raises(InputError, match="several systems"):
        System.load(tmp_path / "several")
