from __future__ import annotations

import itertools
import math
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from neural_sparse.errors import InputError
from neural_sparse.report import plots
from neural_sparse.report.plots import place_labels, plot_losses, plot_relevance_against_cost


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures as they were saved."""
    figures: list[Figure] = []
    save = plots._save
    monkeypatch.setattr(plots, "_save", lambda figure, path: (figures.append(figure), save(figure, path)))
    return figures


def _history(steps: int) -> list[dict[str, float]]:
    return [
        {
            "step": step,
            "loss": 3 / step,
            "ranking": 2 / step,
            "flops": 1 / step,
            "nonzero_terms": 90 - step / 10,
        }
        for step in range(1, steps + 1)
    ]


def test_losses_above_sparsity_in_a_png(tmp_path: Path, drawn: list[Figure]) -> None:
    path = tmp_path / "run" / "training_losses.png"
    plot_losses(_history(20), path)
    assert imread(path).shape[:2] == (int(5.8 * 150), 8 * 150)
    losses, sparsity = drawn[0].axes
    assert [line.get_label() for line in losses.lines] == ["total", "ranking", "FLOPS"]
    assert list(losses.lines[0].get_ydata()) == [3 / step for step in range(1, 21)]
    assert list(sparsity.lines[0].get_ydata()) == [row["nonzero_terms"] for row in _history(20)]
    assert sorted(file.name for file in path.parent.iterdir()) == ["training_losses.png"]


def test_every_monitor_is_drawn(tmp_path: Path, drawn: list[Figure]) -> None:
    shares = {"saturation": 0.8, "dead_dimensions": 0.4, "teacher_agreement": 0.6}
    history = [row | shares | {"grad_norm": 2.0, "learning_rate": 1e-5} for row in _history(20)]
    plot_losses(history, tmp_path / "losses.png", [{"step": 10, "ndcg10": 0.4}, {"step": 20, "ndcg10": 0.5}])
    panels = {axes.get_ylabel(): axes for axes in drawn[0].axes}
    assert list(panels) == [
        "loss", "non-zero terms\nper document", "share", "dev nDCG@10", "gradient\nnorm", "learning rate"
    ]  # fmt: skip
    lines = panels["share"].lines
    assert [line.get_ydata()[0] for line in lines] == list(shares.values())
    assert "dead dimensions" in [line.get_label() for line in lines]
    assert list(panels["gradient\nnorm"].lines[0].get_ydata()) == [2.0] * 20
    assert list(panels["dev nDCG@10"].lines[0].get_ydata()) == [0.4, 0.5]


def test_absent_and_infinite_values_are_left_out(tmp_path: Path, drawn: list[Figure]) -> None:
    history = [
        {"step": 2, "loss": 1.0},
        {"step": 1, "loss": math.nan, "learning_rate": 1e-5},
        {"step": 3, "loss": 0.5, "flops": None, "learning_rate": 2e-5},
        {"loss": 9.0},
    ]
    plot_losses(history, tmp_path / "losses.png")
    losses, learning_rate = drawn[0].axes
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in losses.lines] == [
        ([2, 3], [1.0, 0.5])
    ]
    assert list(learning_rate.lines[0].get_xdata()) == [1, 3]


def test_a_long_history_gets_its_running_mean(tmp_path: Path, drawn: list[Figure]) -> None:
    history = [{"step": step, "loss": 1.0 + step % 2} for step in range(300)]
    plot_losses(history, tmp_path / "losses.png")
    raw, mean = drawn[0].axes[0].lines
    assert list(raw.get_ydata()) == [row["loss"] for row in history]
    window = history[100 - 5 : 100 + 6]
    assert mean.get_ydata()[100] == pytest.approx(sum(row["loss"] for row in window) / 11)
    assert mean.get_ydata()[0] == 1.0
    assert mean.get_ydata()[-1] == 2.0


@pytest.mark.parametrize(("flops", "scale"), [(0.5, "linear"), (1e-4, "log"), (0.0, "linear")])
def test_losses_of_different_orders_get_a_log_axis(
    tmp_path: Path, drawn: list[Figure], flops: float, scale: str
) -> None:
    plot_losses([{"step": 1, "loss": 1.0, "flops": flops}], tmp_path / "losses.png")
    assert drawn[0].axes[0].get_yscale() == scale


def test_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no loss"):
        plot_losses([{"step": 1}], tmp_path / "losses.png")
    with pytest.raises(InputError, match="no points"):
        plot_relevance_against_cost([], tmp_path / "cost.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("largest", "scale"), [(5.0, "linear"), (50.0, "log")])
def test_cost_axis_is_logarithmic_beyond_a_decade(
    tmp_path: Path, drawn: list[Figure], largest: float, scale: str
) -> None:
    points = [
        {"name": "BM25", "cost": 1.0, "relevance": 0.5, "kind": "baseline"},
        {"name": "student", "cost": largest, "relevance": 0.6, "kind": "student"},
        {"name": "dense", "cost": None, "relevance": 0.7, "kind": "teacher"},
    ]
    plot_relevance_against_cost(points, tmp_path / "cost.png", "FLOPS", "RR@10")
    axes = drawn[0].axes[0]
    assert axes.get_xscale() == scale
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("FLOPS", "RR@10")
    assert {note.get_text() for note in axes.texts} == {"BM25", "student", "dense"}
    assert [line.get_ydata()[0] for line in axes.lines] == [0.7]
    assert imread(tmp_path / "cost.png").shape[:2] == (750, 1200)


def test_labels_cover_neither_each_other_nor_points() -> None:
    figure = Figure(figsize=(8, 5))
    axes = figure.subplots()
    points = [(1 + number % 3 * 0.02, 0.5 + number // 3 * 0.002) for number in range(9)]
    axes.scatter(*zip(*points, strict=True))
    axes.set_xlim(0, 2)
    axes.set_ylim(0.4, 0.6)
    place_labels(axes, [(f"trial {number}", x, y) for number, (x, y) in enumerate(points)])
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(note) for note in axes.texts]
    assert len(boxes) == 9
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    for box in boxes:
        assert not any(box.contains(*axes.transData.transform(point)) for point in points)


def test_no_global_state(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    plot_losses(_history(3), tmp_path / "losses.png")
    import matplotlib.pyplot as plt

    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before
