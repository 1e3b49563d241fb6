"""Joining a Ray cluster, or starting one on this machine."""

from __future__ import annotations

import logging
import os
import re
import socket
import subprocess
import sys
from typing import Any

from neural_sparse.errors import InputError

PATIENCE_SECONDS = 45.0  # for a cluster that does not answer
_PROBE = "import sys, ray; ray.init(sys.argv[1], log_to_driver=False, logging_level='ERROR')"


def connect(address: str | None = None, **options: Any) -> None:
    """Join the cluster at `address`, unless this process belongs to one already.

    Args:
        address: HOST:PORT of a cluster this machine is a node of, or ray://HOST:PORT; "auto" finds the one
            this machine is a node of; "local" starts one on this machine, which ends with this process.
            None: the environment variable RAY_ADDRESS, or else "local".
        options: of `ray.init`.

    Raises:
        InputError: Ray is not installed, nothing answers at the address (within a minute), or what answers
            has another version of Ray or Python.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing calls home unasked
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray 3 does; silences its notice
    try:
        import ray
    except ImportError as error:
        raise InputError(
            "--engine ray needs Ray: install the extra, pip install 'neural-sparse[ray]'"
        ) from error
    if ray.is_initialized():
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address not in ("auto", "local"):
        _check_reachable(address)
    if address == "local":
        options = {"include_dashboard": False, **options}
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError, SystemExit) as error:
        raise _not_joined(address, str(error)) from error


def _check_reachable(address: str) -> None:
    """Find out what `ray.init` would need two minutes for, and would end the process over."""
    match = re.fullmatch(r"(?:ray://)?\[?([^\[\]/]+)\]?:(\d+)", address)
    if match is None:
        raise InputError(f"--address {address}: write HOST:PORT, ray://HOST:PORT, auto or local")
    try:
        socket.create_connection((match[1], int(match[2])), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"no Ray cluster answers at {address} ({error}); `ray status` on its head node shows the address, "
            "and its port must be open to this machine"
        ) from error
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, address], capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"something listens at {address}, but does not answer as a Ray cluster within {PATIENCE_SECONDS:.0f} s"
        ) from error
    if done.returncode:
        raise _not_joined(address, done.stderr)


def _not_joined(address: str, message: str) -> InputError:
    lines = [line.strip() for line in message.strip().splitlines() if line.strip()]
    if (at := message.find("Version mismatch")) >= 0:
        return InputError(
            f"the cluster at {address} has another version of Ray or Python: {' '.join(message[at:].split())}"
        )
    where = (
        "cannot start Ray on this machine" if address == "local" else f"cannot join the cluster at {address}"
    )
    return InputError(f"{where}: {lines[-1] if lines else 'no reason given'}")
