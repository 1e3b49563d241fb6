from __future__ import annotations

import io
import json
import re

import pytest
from rich.console import Console, RenderableType

from neural_sparse.report.explained import ExplainedHit, explain_hit, explained_search
from neural_sparse.report.explained_html import explained_search_html

QUERY = {"shortest": 4.0, "path": 2.0, "graph": 1.0, "absent": 9.0, "none": 0.0, "gone": 3.0}
DOC = {"path": 1.5, "shortest": 0.5, "graph": 2.5, "route": 0.75, "network": 1.0, "gone": 0.0, "none": 1.0}


@pytest.fixture
def hit() -> ExplainedHit:
    return explain_hit(
        "nx.path", "The path is\n[red]shortest[/red]. Footpath!", QUERY, DOC, ["path", "shortest"], True
    )


def plain(renderable: RenderableType) -> str:
    console = Console(width=100, file=io.StringIO())
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_contributions_add_up_to_the_score(hit: ExplainedHit) -> None:
    assert [(match.token, match.contribution, match.in_text) for match in hit.matched] == [
        ("path", 3.0, True),
        ("graph", 2.5, False),
        ("shortest", 2.0, True),
    ]
    assert hit.score == sum(weight * DOC.get(token, 0) for token, weight in QUERY.items()) == 7.5


def test_expansion_is_what_the_text_lacks(hit: ExplainedHit) -> None:
    assert hit.expansion == (("graph", 2.5), ("network", 1.0), ("none", 1.0), ("route", 0.75))


def test_the_dict_is_json(hit: ExplainedHit) -> None:
    stored = json.loads(json.dumps(hit.to_dict()))
    assert stored["matched"][1] == {
        "token": "graph", "query_weight": 1.0, "doc_weight": 2.5, "in_text": False, "contribution": 2.5
    }  # fmt: skip
    assert stored["expansion"][0] == ["graph", 2.5]
    assert stored["relevant"] is True


def test_terminal(hit: ExplainedHit) -> None:
    text = plain(explained_search("a [bold]query", [hit]))
    assert "a [bold]query" in text
    assert "1. nx.path  7.50  relevant" in text
    assert "The path is [red]shortest[/red]. Footpath!" in text
    assert "graph (added)" in text
    assert "added by the model: graph 2.50, network 1.00, none 1.00, route 0.75" in text


def test_only_whole_matched_words_are_highlighted(hit: ExplainedHit) -> None:
    console = Console(width=100, file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print(explained_search("q", [hit]))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[1;33mpath\x1b[0m" in text
    assert "Foot\x1b" not in text


def test_html(hit: ExplainedHit) -> None:
    page = explained_search_html("a<b", [hit])
    assert "<h3>a&lt;b</h3>" in page
    assert "1. <b>nx.path</b>, score 7.50, " in page
    assert ">relevant<" in page
    assert "The path is [red]shortest[/red]. Footpath!" in page
    rows = re.findall(r"<tr><td>(.*?)</td></tr>", page)
    assert [row.split("</td><td>") for row in rows] == [
        ["path", "2.00", "1.50", "3.00"],
        ["graph (added)", "1.00", "2.50", "2.50"],
        ["shortest", "4.00", "0.50", "2.00"],
    ]
    assert "added by the model: graph 2.50, network 1.00, none 1.00, route 0.75" in page


def test_a_hit_comes_back_from_json(hit: ExplainedHit) -> None:
    assert ExplainedHit.of(json.loads(json.dumps(hit.to_dict()))) == hit


def test_long_lists_and_texts_are_cut_and_counted() -> None:
    weights = {f"t{number:02}": 1.0 + number for number in range(20)}
    hit = explain_hit("d", "word " * 200, weights, weights, [])
    for text in (plain(explained_search("q", [hit], max_tokens=3)), explained_search_html("q", [hit], 3)):
        assert "and 17 more" in text
        assert "t19 20.00, t18 19.00, t17 18.00 and 17 more" in text
        assert "t16" not in text
        assert 40 < text.count("word ") < 60
        assert "…" in text


def test_nothing_found_and_nothing_added() -> None:
    assert "no document" in plain(explained_search("q", []))
    assert "No document" in explained_search_html("q", [])
    hit = explain_hit("d", "graph", {"graph": 1}, {"graph": 1}, ["graph"])
    assert "added by the model: nothing" in explained_search_html("q", [hit])
    assert "relevant" not in explained_search_html("q", [hit])
