from __future__ import annotations

import gc
import os
from pathlib import Path

# Before transformers is imported: no test may reach for the network, and bars would mix with captured output.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import pytest

# Importing leaves little garbage, and looking for it takes a fifth of the time.
gc.disable()


def pytest_collection_finish() -> None:
    """What was imported stays: collecting garbage looks at what tests make, not at all of torch each time."""
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real collections for development; users do not have them, so tests that need them skip."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the development collections at {folder}")
    return folder
