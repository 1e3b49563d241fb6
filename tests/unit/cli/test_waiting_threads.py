"""Threads of OpenMP that wait for one another do not spin for long: set before torch is imported."""

from __future__ import annotations

import os

import pytest
from typer.testing import CliRunner

from neural_sparse.cli.main import app


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ({}, "1000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, None),  # whoever has decided it is left alone
    ],
)
def test_spinning(before: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # so that it is as before at the end
        monkeypatch.delenv(name)
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    assert CliRunner().invoke(app, ["recipes"]).exit_code == 0
    assert os.environ.get("GOMP_SPINCOUNT") == expected
