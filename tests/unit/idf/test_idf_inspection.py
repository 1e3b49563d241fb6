"""What inspecting and comparing tables says, worked by hand, and on the published table."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from neural_sparse.cli import main as command_line
from neural_sparse.errors import InputError
from neural_sparse.idf.inspection import compare, draw_histogram, inspect
from neural_sparse.io.files import read_json, write_json

TABLE = {"the": 0.25, "list": 1.5, "rare": 4.0, "rarest": 5.0, "unseen": 1.0, "unseen too": 1.0}


class TestInspect:
    def test_by_hand(self) -> None:
        found = inspect(TABLE, top=2)
        assert (found.tokens, found.unseen) == (6, 2)
        assert (found.low, found.high) == (0.25, 5.0)
        assert found.mean == pytest.approx(12.75 / 6)
        assert found.median == 1.25
        assert found.lightest == [("the", 0.25), ("list", 1.5)]
        assert found.heaviest == [("rarest", 5.0), ("rare", 4.0)]
        assert found.documents == round(1.5 * math.exp(5) - 1)
        assert found.problems == []

    def test_default_of_another_kind(self) -> None:
        assert inspect({**TABLE, "x": 0.0, "y": 0.0}, default_idf=0.0).unseen == 2

    @pytest.mark.parametrize(
        ("table", "problem"),
        [
            ({**TABLE, "zero": 0.0}, "1 tokens weigh 0 or less"),
            ({**TABLE, "heavy": 64.5}, "1 tokens weigh more than 64"),
            (dict.fromkeys("abc", 1.0), "all weights are equal"),
            (dict.fromkeys("abc", 3.0), "all weights are equal"),
            ({**TABLE, **dict.fromkeys("abcdef", 1.0)}, "67% of the tokens occur in no document"),
            ({"a": 2.5, "b": 3.5}, "the lightest token weighs 2.50"),
        ],
    )
    def test_problems(self, table: dict[str, float], problem: str) -> None:
        assert any(said.startswith(problem) for said in inspect(table).problems)

    def test_published(self, shared_data: Path) -> None:
        found = inspect(read_json(shared_data / "tokenizers" / "bert-uncased" / "idf.json"))
        assert found.documents == pytest.approx(8_841_823, abs=5)
        assert [token for token, _ in found.lightest[:3]] == [".", "the", ","]
        assert found.problems == []


class TestCompare:
    def test_by_hand(self) -> None:
        second = {
            "the": 1.25,
            "list": 2.5,
            "rare": 9.0,
            "rarest": 6.0,
            "unseen": 3.0,
            "unseen too": 1.0,
            "b": 2,
        }
        found = compare({**TABLE, "a": 2.0}, second, top=2)
        assert (found.common, found.only_first, found.only_second) == (6, ["a"], ["b"])
        assert (found.seen_in_both, found.unseen_first, found.unseen_second) == (4, 1, 0)
        a, b = np.array([0.25, 1.5, 4, 5]), np.array([1.25, 2.5, 9, 6])
        assert found.shift == -1
        assert found.spread == 1
        assert found.largest[0] == ("rare", 4.0, 9.0)
        assert len(found.largest) == 2
        assert found.pearson == pytest.approx(stats.pearsonr(a, b).statistic)
        assert found.spearman == pytest.approx(stats.spearmanr(a, b).statistic)

    def test_ties(self) -> None:
        rng = np.random.default_rng(0)
        a, b = (rng.integers(2, 8, 40) / 2 + 0.01 for _ in range(2))
        first, second = ({str(i): float(v) for i, v in enumerate(values)} for values in (a, b))
        assert compare(first, second).spearman == pytest.approx(stats.spearmanr(a, b).statistic)

    def test_nothing_to_compare(self) -> None:
        with pytest.raises(InputError, match="no token in common"):
            compare({"a": 2.0}, {"b": 2.0})
        found = compare({"a": 1.0, "b": 1.0}, {"a": 2.0, "b": 1.0})
        assert found.seen_in_both == 0
        assert math.isnan(found.pearson)


def test_histogram(tmp_path: Path) -> None:
    draw_histogram(TABLE, tmp_path / "deep" / "one.png")
    assert (tmp_path / "deep" / "one.png").read_bytes().startswith(b"\x89PNG")
    draw_histogram(dict.fromkeys("abc", 1.0), tmp_path / "none.png")
    with pytest.raises(InputError, match="cannot write"):
        draw_histogram(TABLE, tmp_path)


def test_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["neural-sparse", "idf", *map(str, arguments)])
        with pytest.raises(SystemExit):
            command_line.main()
        return "".join(capsys.readouterr())

    monkeypatch.setenv("COLUMNS", "200")
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    write_json(first, {**TABLE, "[red]": 3.0})
    write_json(second, {**TABLE, "rare": 9.0})
    said = run("inspect", first)
    assert "IDF range: 0.25 ~ 5.00" in said
    assert "IDF mean: 2.25, median 1.50" in said
    assert "[red]" in said
    assert "nothing in it looks wrong" in said
    assert (tmp_path / "a.png").is_file()
    said = run("compare", first, second)
    assert f"only in {first}: 1 (for example [red])" in said
    assert "│ rare   │ 4.000 │  9.000 │     -5.000" in said
    write_json(first, {})
    assert "the table is empty" in run("inspect", first)
    write_json(first, {"a": -1})
    assert "the weight of 'a' is -1, not a number >= 0" in run("inspect", first)
    assert "no such file" in run("compare", second, tmp_path / "absent")
