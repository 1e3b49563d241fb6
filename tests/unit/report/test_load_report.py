"""Tables and the picture of a load test: what is missing is shown as missing."""

from __future__ import annotations

from pathlib import Path

from neural_sparse.evaluation.load import Cell, Load
from neural_sparse.evaluation.tail import Quantile
from neural_sparse.report.load import load_table, plot_load, ratio_table, remarks


def load(system: str, rate: float, clients: int, value: float | None, remark: str = "") -> Load:
    figures = {"p50": Quantile(2.0, 1.5, 2.5), "p99": Quantile(value, None if value is None else 8.0, None)}
    latency = None if remark else figures
    return Load(
        system,
        rate,
        clients,
        100,
        rate,
        rate,
        latency,
        latency,
        figures,
        {"429": 3},
        0.5,
        0.2,
        rate > 40,
        remark,
    )


CELLS = [
    Cell(
        rate,
        clients,
        [load("sparse", rate, clients, 10.0), load("match", rate, clients, None if rate > 40 else 9.0)],
        {"match": {"p50": Quantile(1.0, 0.9, 1.1), "p99": Quantile(None, None, None)}},
    )
    for rate in (20.0, 50.0)
    for clients in (1, 8)
]


def test_tables() -> None:
    headings, rows = load_table(CELLS)
    assert len(rows) == 8
    first = dict(zip(headings, rows[0], strict=True))
    assert first["p50"] == "2.0 [1.5, 2.5]"
    assert first["p99"] == "10.0 [≥ 8.0]"
    assert first["failed"] == "3 429"
    assert "failed" in rows[-1]
    assert rows[-1][-1] == "saturated"
    headings, rows = ratio_table(CELLS)
    assert rows[0] == ["sparse / match", "20", "1", "1.00 [0.90, 1.10]", "failed"]


def test_what_has_no_figures_says_why() -> None:
    cells = [Cell(20, 1, [load("sparse", 20, 1, 1.0, "the generator was late")])]
    assert load_table(cells)[1][0][-1] == "no figures"
    assert remarks(cells) == ["sparse, 20/s, 1 clients: the generator was late"]


def test_the_picture_is_drawn_whatever_is_missing(tmp_path: Path) -> None:
    bare = [Cell(20, 1, [load("sparse", 20, 1, 1.0, "late")])]
    for name, cells in (("all", CELLS), ("bare", bare)):
        plot_load(cells, tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
