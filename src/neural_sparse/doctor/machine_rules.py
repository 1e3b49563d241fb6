"""Rules for a machine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from neural_sparse.doctor.finding import Finding, ok, problem, warning

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
