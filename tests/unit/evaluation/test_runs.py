from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neural_sparse.errors import InputError
from neural_sparse.evaluation.runs import read_run, write_run


def test_scores_come_back_exactly(tmp_path: Path) -> None:
    scores = np.sort(np.random.default_rng(1).normal(size=200).astype(np.float32))[::-1]
    run = {"q 1".replace(" ", "-"): {f"d{number}": float(score) for number, score in enumerate(scores)}}
    write_run(tmp_path / "run.trec", run, tag="my system")
    assert read_run(tmp_path / "run.trec") == run
    assert (tmp_path / "run.trec").read_text().splitlines()[0].split()[3:] == [
        "1",
        f"{float(scores[0]):.9g}",
        "my-system",
    ]


def test_the_score_decides_not_the_rank_or_the_line(tmp_path: Path) -> None:
    (tmp_path / "r").write_text("q Q0 a 1 1.0 t\nq\tQ0\tb\t2\t2.0\tt\n\n")
    assert read_run(tmp_path / "r") == {"q": {"a": 1.0, "b": 2.0}}
    write_run(tmp_path / "s", read_run(tmp_path / "r"))
    assert [line.split()[2] for line in (tmp_path / "s").read_text().splitlines()] == ["b", "a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q Q0 a 1 1.0 t\nq Q0 b 2 1.0\n", "r, line 2: expected 6 columns"),
        ("q Q0 a 1 one t\n", "r, line 1: the score 'one'"),
        ("q Q0 a 1 nan t\n", "r, line 1: the score 'nan'"),
        ("q Q0 a 1 2 t\nq Q0 a 2 1 t\n", "r, line 2: query q has document a twice"),
        ("\n", "the run is empty"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r").write_text(text)
    with pytest.raises(InputError, match=message):
        read_run(tmp_path / "r")


def test_ids_the_format_cannot_hold(tmp_path: Path) -> None:
    for bad in ("a\tb", ""):
        with pytest.raises(InputError, match="cannot hold the id"):
            write_run(tmp_path / "r", {"q": {bad: 1.0}})
    assert not (tmp_path / "r").exists()
    with pytest.raises(InputError, match="no such file"):
        read_run(tmp_path / "r")
