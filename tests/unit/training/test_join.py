"""Meeting the other processes of a launcher: what is missing is said, and soon."""

from __future__ import annotations

import socket
from datetime import timedelta

import pytest

from neural_sparse.errors import InputError
from neural_sparse.work import ranks

pytestmark = pytest.mark.integration  # takes seconds


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of one of two processes, whose port nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    for name, value in (("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", str(port))):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ranks, "MEET", timedelta(seconds=2))
    return monkeypatch


@pytest.mark.parametrize("rank", ["0", "1"])
def test_the_others_never_come(place: pytest.MonkeyPatch, rank: str) -> None:
    place.setenv("RANK", rank)
    with pytest.raises(InputError, match=r"cannot be reached .*torchrun.*MASTER_ADDR"):
        ranks.join()
    assert ranks.world_size() == 1


def test_incomplete_settings(place: pytest.MonkeyPatch) -> None:
    place.delenv("RANK", raising=False)
    with pytest.raises(InputError, match=r"RANK expected.*torchrun"):
        ranks.join()


def test_one_process_meets_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    ranks.join()
    assert ranks.world_size() == 1
