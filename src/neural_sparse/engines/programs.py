"""Packages and programs that engines need: asked for, started and ended."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from neural_sparse.errors import InputError


def require(module: str, package: str, extra: str) -> Any:
    """A module of an extra. Raises InputError: it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"this needs {package}: pip install 'neural-sparse[{extra}]' ({error})") from error


def installed_version(package: str) -> str:
    return importlib.metadata.version(package)


def unreachable(engine: str, url: str, error: Exception) -> InputError:
    """What to raise where a server does not answer as it should."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(
        f"{engine} at {url.rsplit('@', 1)[-1]} does not answer ({reason:.200}): is the address right, and is it "
        "running?"
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(process: subprocess.Popen[Any], port: int, what: str, patience: float = 60) -> None:
    """Wait until a program listens on a port of loopback. Raises InputError: it ended, or does not in time."""
    finish = time.monotonic() + patience
    while time.monotonic() < finish:
        if process.poll() is not None:
            raise InputError(f"{what} ended with {process.returncode} as soon as it was started")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise InputError(f"{what} was not ready within {patience:g} s")


def folder_size(folder: Path) -> int:
    """Bytes on disk: sparse files count what they hold."""
    return sum(512 * path.stat().st_blocks for path in folder.rglob("*") if path.is_file())


def end(process: subprocess.Popen[Any], patience: float = 10) -> None:
    """End a program that was started in a session of its own, and what it started."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sent)
        try:
            process.wait(patience)
            return
        except subprocess.TimeoutExpired:
            continue
