"""What there is on this machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

from neural_sparse import memory
from neural_sparse.doctor import machine_rules as rules
from neural_sparse.doctor.finding import Finding
from neural_sparse.errors import InputError
from neural_sparse.processes import available_cores

HUB_SECONDS = 3.0
COMPILE_SECONDS = 180.0
COMPILE = """
import sys, torch
multiply = torch.compile(lambda x: torch.nn.functional.gelu(x @ x).sum())
x = torch.ones(8, 8, device=sys.argv[1], requires_grad=True)
multiply(x).backward()
assert x.grad.isfinite().all()
"""


def machine_findings(folder: Path = Path(), compile_too: bool = True) -> list[Finding]:
    """
    Args:
        folder: where runs would be written.
        compile_too: try torch.compile, which takes a while.
    """
    import torch
    from huggingface_hub import constants, get_token

    from neural_sparse.model.precision import native_bf16

    cuda = torch.cuda.is_available()
    mps = torch.backends.mps.is_available()
    kind = "cuda" if cuda else "mps" if mps else "cpu"
    findings = [rules.versions(*_versions())]
    cores = available_cores()
    if cuda:
        for number in range(torch.cuda.device_count()):
            found = rules.device(
                torch.cuda.get_device_name(number),
                torch.cuda.get_device_capability(number),
                torch.cuda.get_arch_list(),
            )
            findings.append(found)
            findings.append(rules.memory("GPU memory", *torch.cuda.mem_get_info(number)))
        findings += rules.several_devices(torch.cuda.device_count())
    else:
        driver = shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia/version").exists()
        findings.append(rules.device("Apple GPU" if mps else None, cores=cores, driver=driver))
    devices = [f"cuda:{number}" for number in range(torch.cuda.device_count())] if cuda else [kind]
    findings.append(rules.bf16(all(map(native_bf16, devices)), accelerator=cuda))
    if compile_too:
        findings.append(rules.compilation(try_compile(kind)))
    findings.append(rules.memory("memory", *_memory()))
    cache = Path(constants.HF_HUB_CACHE)
    findings.append(
        rules.disk("outputs", _free(folder), "output= and teacher_cache= on another disk, save_total_limit=1")
    )
    findings.append(rules.disk("models", _free(cache), "HF_HOME on another disk"))
    offline = bool(constants.HF_HUB_OFFLINE)
    error = None if offline else reach(constants.ENDPOINT)
    findings.append(rules.hub(error, offline, str(cache)))
    findings.append(rules.token(get_token() is not None))
    return findings


def _versions() -> tuple[dict[str, str | None], dict[str, str]]:
    """Installed and wanted versions of Python, this package and what it needs."""
    from packaging.requirements import Requirement

    installed: dict[str, str | None] = {"Python": platform.python_version()}
    try:
        requirements = list(map(Requirement, importlib.metadata.requires("neural-sparse") or ()))
        installed["neural-sparse"] = importlib.metadata.version("neural-sparse")
    except importlib.metadata.PackageNotFoundError:  # run from its sources
        requirements = []
    wanted = {
        requirement.name: str(requirement.specifier)
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    }
    for name in wanted:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed[name] = None
    return installed, wanted


def _memory() -> tuple[int | None, int | None]:
    try:
        return memory.available_memory(), memory.total_memory()
    except InputError:
        return None, None


def _free(folder: Path) -> int:
    """Bytes free where a folder is, or would be."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def try_compile(device: str, code: str = COMPILE, seconds: float = COMPILE_SECONDS) -> str | None:
    """Why torch.compile does not work, None if it does; in a process of its own, for it may crash or hang."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, device],
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env={**os.environ, "TORCHDYNAMO_VERBOSE": "0"},
        )
    except subprocess.TimeoutExpired:
        return f"not done after {seconds:.0f} seconds"
    if done.returncode == 0:
        return None
    # The last lines are dynamo's hints; the error itself begins at the left margin with its type.
    lines = [
        line.strip() for line in done.stderr.splitlines() if "Error" in line and not line.startswith(" ")
    ]
    return (lines or [f"exit status {done.returncode}"])[-1][:160]


def reach(address: str, seconds: float = HUB_SECONDS) -> str | None:
    """Why an HTTPS address does not answer within so many seconds; None if it does, with whatever status."""
    outcome: list[str | None] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=seconds):
                outcome.append(None)
        except urllib.error.HTTPError:
            outcome.append(None)
        except (OSError, ValueError) as error:
            outcome.append(f"{address} does not answer ({getattr(error, 'reason', error)})")

    # Looking up a name has no time limit of its own.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    return outcome[0] if outcome else f"{address} does not answer within {seconds:g} seconds"
