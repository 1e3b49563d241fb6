"""Experiments: interleaving is fair, tests keep their level under daily looks, plans keep their power."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from neural_sparse import InputError
from neural_sparse.cli.ab_test import plan
from neural_sparse.evaluation import ab_design as design
from neural_sparse.evaluation.ab_analysis import analyse_clicks
from neural_sparse.evaluation.click_log import read_click_log, read_ubi
from neural_sparse.evaluation.interleaving import Placed, credit, seed_of, team_draft
from neural_sparse.evaluation.sequential import difference_of_means, share_of_wins

A = [f"a{place}" for place in range(6)]
B = ["a0", "b1", "a2", "b3", "a1", "b5"]


def test_interleaving_holds_the_best_of_both_once() -> None:
    for seed in range(50):
        placed = team_draft(A, B, 8, seed)
        ids = [one.doc_id for one in placed]
        assert len(set(ids)) == len(ids) == 8
        teams = Counter(one.team for one in placed)
        assert abs(teams["a"] - teams["b"]) <= 1
        for team, ranking in (("a", A), ("b", B)):  # each team picks in its own order
            picked = [ranking.index(one.doc_id) for one in placed if one.team == team]
            assert picked == sorted(picked)


def test_interleaving_is_a_function_and_pages_follow_on_one_another() -> None:
    seed = seed_of("secret", "session", "query")
    whole = team_draft(A, B, 8, seed)
    assert whole == team_draft(list(A), list(B), 8, seed)
    assert all(team_draft(A, B, k, seed) == whole[:k] for k in range(1, 8))
    assert len({tuple(team_draft(A, B, 8, seed)) for seed in range(40)}) > 4


def test_a_coin_gives_each_team_the_first_place_half_of_the_time() -> None:
    first = [team_draft(["x"], ["y"], 2, seed_of("secret", str(n)))[0].team for n in range(4000)]
    assert binomtest(first.count("a"), 4000).pvalue > 1e-4


def test_what_only_one_list_has_left_is_nobodys() -> None:
    assert team_draft(["x"], [], 3, 0) == [Placed("x", None)]
    placed = team_draft(["x"], ["x", "y", "z"], 3, 0)
    assert [one.doc_id for one in placed] == ["x", "y", "z"]
    assert placed[-1].team is None
    assert team_draft([], [], 3, 0) == []


@pytest.mark.parametrize(("a", "k", "message"), [(["x", "x"], 3, "twice"), (["x"], 0, "at least 1")])
def test_interleaving_refuses(a: list[str], k: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        team_draft(a, ["y"], k, 0)


def test_a_random_click_favours_nobody() -> None:
    """Whoever clicks without looking at documents, at places or on everything, gives both teams as much."""
    balance = 0
    for number in range(3000):
        placed = team_draft(A, B, 6, seed_of("secret", str(number)))
        teams = {one.doc_id: one.team for one in placed}
        a, b = credit(teams, [placed[0].doc_id, placed[2].doc_id])
        balance += b - a
    assert abs(balance) < 5 * math.sqrt(2 * 3000)


# ---- plans ----


def test_plans_keep_their_power() -> None:
    rng = np.random.default_rng(0)
    queries = design.queries_needed(0.05, 0.2, power=0.8)
    drawn = rng.normal(0.05, 0.2, (2000, queries))
    means = drawn.mean(axis=1) / (drawn.std(axis=1, ddof=1) / math.sqrt(queries))
    assert np.mean(np.abs(means) > 1.97) == pytest.approx(0.8, abs=0.035)

    sessions = design.sessions_needed(0.6, ties=0.4)
    outcomes = rng.choice([1, -1, 0], (2000, sessions), p=[0.36, 0.24, 0.4])
    wins, losses = (outcomes == 1).sum(axis=1), (outcomes == -1).sum(axis=1)
    found = [binomtest(int(w), int(w + n)).pvalue < 0.05 for w, n in zip(wins, losses, strict=True)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.035)

    users = design.users_needed(0.3, 0.05)
    a, b = rng.binomial(users, 0.3, 4000) / users, rng.binomial(users, 0.35, 4000) / users
    middle = (a + b) / 2
    z = (b - a) / np.sqrt(2 * middle * (1 - middle) / users)
    assert np.mean(np.abs(z) > 1.96) == pytest.approx(0.8, abs=0.03)


def test_plans_and_their_inverses_agree() -> None:
    assert design.queries_needed(design.queries_effect(300, 0.2), 0.2) == pytest.approx(300, abs=1)
    assert design.users_effect(design.users_needed(0.3, 0.02), 0.3) == pytest.approx(0.02, rel=1e-3)
    share = design.sessions_effect(2000, ties=0.5)
    assert design.sign_power(1000, share) == pytest.approx(0.8, abs=1e-6)
    for looks in ("once", "any"):
        needed = design.sessions_needed(0.56, looks=looks)  # type: ignore[arg-type]
        assert design.sign_power(needed, 0.56, looks=looks) >= 0.8  # type: ignore[arg-type]
    assert design.sessions_needed(0.55, looks="any") > design.sessions_needed(0.55)


def test_known_numbers() -> None:
    assert design.queries_needed(0.5, 1) == 34  # Cohen 1988, table 2.4.1 for matched pairs
    assert design.queries_needed(0.2, 1) == 199
    assert design.users_needed(0.3, 0.02) == 8394  # Fleiss et al., formula 4.14


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: design.queries_needed(0, 1), "other than 0"),
        (lambda: design.queries_needed(1e-9, 1), "too small"),
        (lambda: design.queries_needed(0.1, 1, alpha=1.5), "alpha"),
        (lambda: design.sessions_needed(0.5), "not one half"),
        (lambda: design.sessions_needed(0.6, ties=1), "ties"),
        (lambda: design.sessions_effect(3), "cannot find"),
        (lambda: design.users_needed(0.99, 0.02), "rates"),
        (lambda: design.users_effect(5, 0.99), "cannot find"),
    ],
)
def test_plans_refuse(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_a_gain_is_no_share_of_wins() -> None:
    with pytest.raises(InputError, match=r"above \.5"):
        plan(0.01, None, "clicks", [], "nDCG@10", None, 0.5, 0.3, 0.05, 0.8)


# ---- sequential tests ----


def ever_decided(outcomes: np.ndarray, days: int) -> tuple[float, float]:
    """Share of experiments that the sequential test decides at some day's end, and that a daily z test does."""
    always = naive = 0
    for row in outcomes:
        wins, losses = np.cumsum(row == 1), np.cumsum(row == -1)
        looks = np.linspace(len(row) / days, len(row), days).astype(int) - 1
        always += any(share_of_wins(int(wins[at]), int(losses[at])).log_e >= math.log(20) for at in looks)
        counts = np.maximum(wins[looks] + losses[looks], 1)
        naive += bool(np.any(np.abs(wins[looks] - losses[looks]) / np.sqrt(counts) > 1.96))
    return always / len(outcomes), naive / len(outcomes)


def test_false_positives_stay_at_the_level_although_one_looks_daily() -> None:
    rng = np.random.default_rng(1)
    outcomes = rng.choice([1, -1, 0], (300, 3000), p=[0.3, 0.3, 0.4])
    always, naive = ever_decided(outcomes, days=30)
    assert always <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 300)
    assert naive > 0.15  # what daily looks make of a test for one look


def test_a_plan_for_daily_looks_keeps_its_power() -> None:
    rng = np.random.default_rng(2)
    sessions = design.sessions_needed(0.58, ties=0.4, looks="any")
    outcomes = rng.choice([1, -1, 0], (300, sessions), p=[0.348, 0.252, 0.4])
    always, _ = ever_decided(outcomes, days=20)
    assert always >= 0.8 - 2 * math.sqrt(0.16 / 300)


def test_the_confidence_sequence_holds_the_truth_at_all_times() -> None:
    rng = np.random.default_rng(3)
    missed = 0
    for _ in range(200):
        wins = np.cumsum(rng.random(1000) < 0.62)
        for at in range(49, 1000, 50):
            found = share_of_wins(int(wins[at]), at + 1 - int(wins[at]))
            if not found.low <= 0.62 <= found.high:
                missed += 1
                break
    assert missed <= 0.05 * 200 + 2 * math.sqrt(0.05 * 0.95 * 200)


def test_interval_and_test_say_the_same() -> None:
    for wins, losses in ((0, 0), (5, 0), (60, 40), (90, 60), (100, 50), (0, 200)):
        found = share_of_wins(wins, losses)
        assert (found.low <= 0.5 <= found.high) == (found.log_e < math.log(20))


def test_difference_of_rates_under_daily_looks() -> None:
    rng = np.random.default_rng(4)
    decided = {0.3: 0, 0.36: 0}
    for rate in decided:
        for _ in range(300):
            a, b = np.cumsum(rng.random(4000) < 0.3), np.cumsum(rng.random(4000) < rate)
            for at in range(199, 4000, 200):
                groups = [(at + 1, p := float(one[at] / (at + 1)), p * (1 - p)) for one in (a, b)]
                if difference_of_means(groups[0], groups[1]).log_e >= math.log(20):
                    decided[rate] += 1
                    break
    assert decided[0.3] <= 300 * 0.05 + 2 * math.sqrt(300 * 0.05 * 0.95)
    assert decided[0.36] >= 0.95 * 300


def test_no_click_at_all_is_no_certainty() -> None:
    found = difference_of_means((500, 0.0, 0.0), (500, 0.0, 0.0))
    assert math.isinf(found.low)
    assert found.p_value == 1.0


# ---- logs ----


def lines(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def page(number: int, teams: str = "ab", minute: int = 0, **more: Any) -> dict[str, Any]:
    hits = [{"id": f"d{place}", "team": None if team == "-" else team} for place, team in enumerate(teams)]
    time = f"2026-05-{1 + minute // 1440:02}T{minute // 60 % 24:02}:{minute % 60:02}:00Z"
    return {
        "type": "impression", "time": time, "query_id": f"q{number}", "session_id": f"s{number}", "hits": hits, **more
    }  # fmt: skip


def click(number: int, doc: str, minute: int = 1, **more: Any) -> dict[str, Any]:
    time = f"2026-05-{1 + minute // 1440:02}T{minute // 60 % 24:02}:{minute % 60:02}:00Z"
    return {"type": "click", "time": time, "query_id": f"q{number}", "doc_id": doc, **more}


def test_an_experiment_from_its_log(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(1200):
        minute = number * 5
        rows.append(page(number, "ab" if number % 2 else "ba", minute))
        if rng.random() < 0.7:
            team = "b" if rng.random() < 0.65 else "a"
            place = ("ab" if number % 2 else "ba").index(team)
            rows += [click(number, f"d{place}", minute + 1)] * 2  # the same click twice counts once
    found = analyse_clicks(read_click_log(lines(tmp_path / "log.jsonl", rows)))
    assert found.kind == "interleaving"
    assert found.winner == "b"
    assert found.units + found.open == 1200
    assert found.wins + found.ties + found.losses == found.units
    assert found.days[-1].value == found.wins / (found.wins + found.losses)
    assert len(found.days) == 5
    low = found.days[-1].low
    assert low is not None
    assert 0.5 < low < 0.65
    assert [day.p_value for day in found.days] == sorted((day.p_value for day in found.days), reverse=True)
    assert not found.remarks


def test_units_count_once_and_when_their_window_has_passed(tmp_path: Path) -> None:
    rows = [
        page(1, minute=0, session_id="s"),
        page(2, minute=10, session_id="s"),
        click(1, "d1", 5),
        click(2, "d1", 12),
        click(2, "d0", 90),  # beyond the window of an hour
        page(3, minute=80, session_id="late"),
        click(3, "d0", 85),
    ]
    log = read_click_log(lines(tmp_path / "log.jsonl", rows))
    found = analyse_clicks(log)
    assert (found.units, found.open, found.wins, found.losses) == (1, 1, 1, 0)
    by_query = analyse_clicks(log, "query", window=600)
    assert (by_query.units, by_query.wins, by_query.losses) == (3, 2, 1)
    with pytest.raises(InputError, match="no user id"):
        analyse_clicks(log, "user")
    with pytest.raises(InputError, match="minutes old"):
        analyse_clicks(log, window=1e6)


def test_a_split_test_and_its_sample_ratio(tmp_path: Path) -> None:
    rows = []
    rng = np.random.default_rng(5)
    for number in range(3000):
        arm = "b" if rng.random() < 0.5 else "a"
        rows.append(page(number, "--", number, arm=arm))
        if rng.random() < (0.3 if arm == "a" else 0.45):
            rows.append(click(number, "d0", number + 1))
    found = analyse_clicks(read_click_log(lines(tmp_path / "log.jsonl", rows)))
    assert found.kind == "split"
    assert found.winner == "b"
    assert found.groups["b"][1] - found.groups["a"][1] == pytest.approx(found.days[-1].value)
    assert not found.remarks
    kept = [row for row in rows if row.get("arm") != "b" or int(row["query_id"][1:]) % 4]
    lost = analyse_clicks(read_click_log(lines(tmp_path / "lost.jsonl", kept)))
    assert any("sample ratio mismatch" in remark for remark in lost.remarks)


def test_what_does_not_belong_is_left_out_and_said(tmp_path: Path) -> None:
    rows = [
        page(1), page(2), page(2, minute=1), page(3), page(3, "ba", minute=1), page(9, minute=200),
        click(1, "d1"), click(1, "elsewhere"), click(77, "d0"),
    ]  # fmt: skip
    log = read_click_log(lines(tmp_path / "log.jsonl", rows))
    assert set(log.impressions) == {"q1", "q2", "q9"}
    assert [remark.split(" ")[0] for remark in log.remarks] == ["1", "1", "1"]
    assert analyse_clicks(log).wins == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "not valid JSON"),
        ({"type": "view"}, '"type" is'),
        ({**page(1), "time": "yesterday"}, "neither ISO 8601"),
        ({**page(1), "hits": None}, '"hits"'),
        ({**page(1), "hits": [{"id": "d0"}]}, 'no "team"'),
        ({**page(1), "hits": [{"id": "d0", "team": "c"}]}, '"a" and "b"'),
        ({**page(1), "hits": [{"id": "d0", "team": "a"}] * 2}, "twice"),
        ({**page(1), "query_id": None}, "query_id"),
        ({"type": "click", "time": 0, "query_id": "q1"}, "doc_id"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, row: Any, message: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(page(5)) + "\n\n" + (row if isinstance(row, str) else json.dumps(row)) + "\n")
    with pytest.raises(InputError, match=r"log\.jsonl, line 3: .*") as told:
        read_click_log(path)
    assert message in str(told.value)


def test_an_empty_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("")
    with pytest.raises(InputError, match="no impression"):
        read_click_log(tmp_path / "log.jsonl")


def ubi_query(number: int, teams: str | None, **more: Any) -> dict[str, Any]:
    attributes = {} if teams is None else {"teams": teams}
    source = {
        "query_id": f"q{number}", "client_id": f"c{number}", "timestamp": 1_777_600_000_000 + number,
        "user_query": "red shoes", "query_response_hit_ids": ["d0", "d1"], "query_attributes": attributes,
    }  # fmt: skip
    return {"_index": "ubi_queries", "_source": {**source, **more}}


def ubi_event(number: int, action: str = "click", doc: str = "d1", **more: Any) -> dict[str, Any]:
    return {
        "action_name": action, "query_id": f"q{number}", "client_id": f"c{number}", "session_id": f"s{number}",
        "timestamp": "2026-05-01T00:20:00.000Z",
        "event_attributes": {"object": {"object_id": doc, "object_id_field": "id"}, "position": {"ordinal": 2}},
        **more,
    }  # fmt: skip


def test_user_behaviour_insights(tmp_path: Path) -> None:
    queries = lines(tmp_path / "q.jsonl", [ubi_query(n, "ab" if n % 2 else "b-") for n in range(20)])
    events = lines(
        tmp_path / "e.jsonl",
        [ubi_event(n, timestamp=1_777_600_010_000) for n in range(20)]
        + [ubi_event(3, "hover"), ubi_event(3, "purchase", timestamp=1_777_700_000_000)],
    )
    log = read_ubi(queries, events)
    found = analyse_clicks(log, "session", window=100, until=log.last + 1000)
    assert (found.wins, found.ties, found.losses) == (10, 10, 0)
    assert any("1 events of hover" in remark for remark in log.remarks)
    with_sales = read_ubi(queries, events, actions=("click", "purchase"))
    assert with_sales.last > log.last


def test_teams_from_our_log_and_clicks_from_ubi(tmp_path: Path) -> None:
    log = lines(tmp_path / "log.jsonl", [{"type": "test", "name": "t"}, page(1), page(2)])
    events = lines(tmp_path / "e.jsonl", [ubi_event(1), ubi_event(2, doc="d0")])
    found = analyse_clicks(read_ubi(None, events, log), window=1200)
    assert (found.wins, found.losses) == (1, 1)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (ubi_query(1, None), '"teams"'),
        (ubi_query(1, "abb"), '"teams"'),
        (ubi_query(1, "ab", timestamp=None), "time"),
        (ubi_query(1, "ab", query_response_hit_ids="d0"), "list of ids"),
    ],
)
def test_a_bad_ubi_query_is_named(tmp_path: Path, row: Any, message: str) -> None:
    queries = lines(tmp_path / "q.jsonl", [ubi_query(0, "ab"), row])
    with pytest.raises(InputError, match=r"q\.jsonl, line 2: ") as told:
        read_ubi(queries, lines(tmp_path / "e.jsonl", [ubi_event(0)]))
    assert message in str(told.value)


def test_a_bad_ubi_event_is_named(tmp_path: Path) -> None:
    queries = lines(tmp_path / "q.jsonl", [ubi_query(0, "ab")])
    for row, message in (
        ({"query_id": "q0"}, "action_name"),
        (ubi_event(0, event_attributes={}), "object_id"),
    ):
        with pytest.raises(InputError, match=r"e\.jsonl, line 1: ") as told:
            read_ubi(queries, lines(tmp_path / "e.jsonl", [row]))
        assert message in str(told.value)
