"""What there is on this machine, and the rules that judge it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from neural_sparse.errors import InputError
from neural_sparse.finding import Finding, ok, problem, warning
from neural_sparse.io.resources import available_memory, total_memory
from neural_sparse.work.workers import available_cores

GB = 10**9
# A run of tiny-cpu (4.4M parameters) was measured at 1.3 GB; the weights, gradients and moments of the multilingual
# model (168M parameters) alone take 2.7 GB.
MEMORY = 4 * GB
# One checkpoint of the multilingual model (168M parameters, their gradients' two moments) takes 2 GB; three are kept.
DISK = 10 * GB
DISK_NEEDED = GB
SMALLER = "cache_tokens=8192, gradient_checkpointing=true, max_length=128, batch_size=16 or auto_batch=true"
CPU_ADVICE = (
    "for small students (recipe tiny-cpu); the guide's recipes are made for a GPU. If there is one, install "
    "torch for it (pytorch.org) and check its driver with nvidia-smi"
)


def versions(installed: Mapping[str, str | None], wanted: Mapping[str, str]) -> Finding:
    """
    Args:
        installed: {package: version, None if it is missing}.
        wanted: {package: specifier, such as ">=2.6"}.
    """
    from packaging.specifiers import SpecifierSet

    shown = ", ".join(f"{name} {version}" for name, version in installed.items() if name not in wanted)
    bad = [
        f"{name}{specifier} (is {installed.get(name) or 'missing'})"
        for name, specifier in wanted.items()
        if not (version := installed.get(name))
        or not SpecifierSet(specifier).contains(version, prereleases=True)
    ]
    if bad:
        return problem(
            "versions", f"{shown}; needed: {', '.join(bad)}", "pip install -c constraints.txt neural-sparse"
        )
    main = ("torch", "sentence-transformers", "transformers")
    return ok(
        "versions", ", ".join([shown, *(f"{name} {installed[name]}" for name in main if name in wanted)])
    )


def device(
    name: str | None,
    capability: tuple[int, int] | None = None,
    built_for: Sequence[str] = (),
    cores: int = 1,
    driver: bool = False,
) -> Finding:
    """
    Args:
        name: of the accelerator; None without one.
        capability: of a CUDA device, such as (12, 1).
        built_for: what torch has code for, such as ["sm_90", "compute_90"].
        cores: of the processor.
        driver: whether there is a driver of NVIDIA's.
    """
    if name is None and driver:
        return warning(
            "device",
            f"CPU, {cores} cores; there is an NVIDIA driver, but this torch does not use it",
            "install torch for CUDA (pytorch.org), and see that CUDA_VISIBLE_DEVICES is not empty",
        )
    if name is None:
        return ok("device", f"CPU, {cores} cores, no GPU", CPU_ADVICE)
    if capability is None:
        return ok("device", name)
    found = f"{name}, compute capability {capability[0]}.{capability[1]}"
    if built_for and not runs_on(capability, built_for):
        return problem(
            "device",
            f"{found}; this torch was built for {', '.join(built_for)}",
            "install a torch that is built for it (CUDA 13 for the GB10 of a DGX Spark)",
        )
    return ok("device", found)


def several_devices(count: int) -> list[Finding]:
    """How training uses all of several GPUs; nothing to say of one."""
    if count < 2:
        return []
    how = f"torchrun --nproc-per-node {count} -m neural_sparse train ... uses all; `encode` and `teach` do so anyway"
    return [ok("devices", f"{count} GPUs, of which a training process uses one", how)]


def runs_on(capability: tuple[int, int], built_for: Sequence[str]) -> bool:
    """Machine code runs on its own and later minor versions, intermediate code (compute_) on all later ones."""
    for target in built_for:
        if not (match := re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", target)):
            continue
        kind, version = match[1], (int(match[2]), int(match[3]))
        if match[4] == "a":  # for that very device
            if version == capability:
                return True
        elif version <= capability and (kind == "compute" or version[0] == capability[0]):
            return True
    return False


def bf16(native: bool, accelerator: bool) -> Finding:
    if native:
        return ok("bf16", "multiplied in hardware, so it is used; bf16=false turns it off")
    if accelerator:
        return warning(
            "bf16",
            "not in this GPU's hardware: training is in float32",
            f"it takes about twice the memory and more time: {SMALLER}",
        )
    return ok("bf16", "not in this processor's hardware: float32 is used")


def compilation(error: str | None) -> Finding:
    if error is None:
        return ok("torch.compile", "works", "compile=true is faster in long runs on a GPU")
    return warning(
        "torch.compile",
        f"does not work ({error})",
        "leave compile=false, as it is by default; it needs a C++ compiler (g++), on a GPU also triton and Python.h",
    )


def memory(kind: str, free: int | None, total: int | None) -> Finding:
    """
    Args:
        kind: "memory" or "GPU memory".
        free, total: bytes; None if the system does not say.
    """
    if free is None or total is None:
        return ok(kind, "this system does not say")
    found = f"{free / GB:.1f} of {total / GB:.1f} GB free"
    if free < MEMORY:
        return warning(kind, found, f"little for training; close other programs, or {SMALLER}")
    return ok(kind, found)


def disk(place: str, free: int, advice: str) -> Finding:
    """
    Args:
        place: what is written there.
        advice: how to have it elsewhere.
    """
    found = f"{free / GB:.1f} GB free"
    if free < DISK_NEEDED:
        return problem(f"disk ({place})", found, f"a run would stop: {advice}")
    if free < DISK:
        return warning(
            f"disk ({place})", found, f"three checkpoints of a 168M-parameter model are 6 GB: {advice}"
        )
    return ok(f"disk ({place})", found)


def hub(error: str | None, set_offline: bool, cache: str) -> Finding:
    """Being offline is no fault: models may be folders, or be in the cache (guide, troubleshooting 3)."""
    if set_offline:
        return ok(
            "hub",
            "offline, for HF_HUB_OFFLINE is set",
            f"models are looked for in folders and in {cache}; HF_HOME names another cache",
        )
    if error is not None:
        return ok(
            "hub",
            f"offline: {error}",
            f"models have to be folders, or be in {cache} (HF_HOME names another cache); HF_HUB_OFFLINE=1 saves "
            "waiting. With a network: HTTPS_PROXY, HF_ENDPOINT",
        )
    return ok("hub", "reachable")


def token(present: bool) -> Finding:
    """Whether there is one; never which."""
    if present:
        return ok("hub token", "yes")
    return ok("hub token", "no", "only private and gated models need one: HF_TOKEN, or `hf auth login`")


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
    findings = [versions(*_versions())]
    cores = available_cores()
    if cuda:
        for number in range(torch.cuda.device_count()):
            found = device(
                torch.cuda.get_device_name(number),
                torch.cuda.get_device_capability(number),
                torch.cuda.get_arch_list(),
            )
            findings.append(found)
            findings.append(memory("GPU memory", *torch.cuda.mem_get_info(number)))
        findings += several_devices(torch.cuda.device_count())
    else:
        driver = shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia/version").exists()
        findings.append(device("Apple GPU" if mps else None, cores=cores, driver=driver))
    devices = [f"cuda:{number}" for number in range(torch.cuda.device_count())] if cuda else [kind]
    findings.append(bf16(all(map(native_bf16, devices)), accelerator=cuda))
    if compile_too:
        findings.append(compilation(try_compile(kind)))
    findings.append(memory("memory", *_memory()))
    cache = Path(constants.HF_HUB_CACHE)
    findings.append(
        disk("outputs", _free(folder), "output= and teacher_cache= on another disk, save_total_limit=1")
    )
    findings.append(disk("models", _free(cache), "HF_HOME on another disk"))
    offline = bool(constants.HF_HUB_OFFLINE)
    error = None if offline else reach(constants.ENDPOINT)
    findings.append(hub(error, offline, str(cache)))
    findings.append(token(get_token() is not None))
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
        return available_memory(), total_memory()
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
