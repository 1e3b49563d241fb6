"""Runs of a few steps, whose picture would take longer than they do."""

from __future__ import annotations

import pytest

from neural_sparse.training import run_folder


@pytest.fixture
def drawn() -> None:
    """Asked for by tests that look at a run's picture; what it shows is tested in report/test_plots.py."""


@pytest.fixture(autouse=True)
def _undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(run_folder, "plot_losses", lambda *given: None)
