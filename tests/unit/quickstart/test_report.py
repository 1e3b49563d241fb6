from __future__ import annotations

import io
import json
import math
import re
from typing import Any

import numpy as np
import pytest
from rich.console import Console, RenderableType

from neural_sparse.quickstart.report import results_dict, results_markdown, results_table

BM25 = {
    "nDCG@10": 0.6004,
    "R@1000": 0.98,
    "FLOPS": 0.5,
    "L1": 9.0,
    "doc_terms": 50.0,
    "index_bytes": 2_500_000,
}
STUDENT = {
    "nDCG@10": 0.71,
    "R@1000": 0.9801,
    "FLOPS": 1.25,
    "L1": 5.0,
    "doc_terms": 72.04,
    "index_bytes": 1_000_000,
}
DENSE = {"nDCG@10": 0.65, "R@1000": 0.9}


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return [
        {"system": "BM25", **BM25},
        {"system": "student [a]", **STUDENT},
        {"system": "dense|teacher", **DENSE},
    ]


def rendered(renderable: RenderableType) -> str:
    """With the codes for bold."""
    console = Console(width=120, file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_markdown(rows: list[dict[str, Any]]) -> None:
    assert results_markdown(rows).splitlines() == [
        "| system | nDCG@10 | R@1000 | FLOPS | mean L1 | terms/doc | index MB |",
        "|---|---:|---:|---:|---:|---:|---:|",
        # R@1000 is equal as shown, so both are best; L1 of different systems does not compare.
        "| BM25 | 0.600 | **0.980** | **0.50** | 9.0 | **50.0** | 2.5 |",
        "| student [a] | **0.710** | **0.980** | 1.25 | 5.0 | 72.0 | **1.0** |",
        "| dense\\|teacher | 0.650 | 0.900 | – | – | – | – |",
    ]


def test_terminal_table_sets_the_best_in_bold(rows: list[dict[str, Any]]) -> None:
    text = rendered(results_table(rows, title="500 queries"))
    assert "500 queries" in text
    assert "student [a]" in text
    bold = [found.strip() for found in re.findall(r"\x1b\[1m([^\x1b]*)\x1b", text)]
    assert [found for found in bold if found[:1].isdigit()] == [
        "0.980",
        "0.50",
        "50.0",
        "0.710",
        "0.980",
        "1.0",
    ]
    assert "RR@10" not in text


def test_the_dict_is_json_in_full_precision(rows: list[dict[str, Any]]) -> None:
    rows[0]["nDCG@10"] = np.float32(0.5)
    rows[0]["L1"] = math.inf
    stored = json.loads(json.dumps(results_dict(rows, seconds=3), allow_nan=False))
    assert stored["seconds"] == 3
    assert stored["systems"][0]["nDCG@10"] == 0.5
    assert stored["systems"][0]["L1"] is None
    assert stored["systems"][1]["doc_terms"] == 72.04
    assert stored["systems"][2]["FLOPS"] is None


def test_one_system_has_no_best() -> None:
    assert "**" not in results_markdown([{"system": "only", **BM25}])
    assert results_markdown([]) == "| system |\n|---|\n"
