"""Machines to plan for: known ones, this one, or those a file describes."""

from __future__ import annotations

import difflib
import shutil
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from neural_sparse.errors import InputError

SHEETS = "vendor's data sheet"


@dataclass(frozen=True)
class Hardware:
    """One machine, or several equal ones.

    Attributes:
        name: in tables.
        nodes: machines; corpus work runs on several with `--engine ray`, training with torchrun.
        cores: per node.
        core_speed: of a core, against one of the machine that the figures per core were measured on (an
            Intel Xeon with AVX-512).
        memory_gb: main memory per node, in 10^9 bytes.
        disk_gb: per node.
        devices: accelerators per node; 0: the cores compute.
        device_memory_gb: of each; 0 where it is the node's main memory.
        tflops: peak of one device in dense bfloat16 products, 10^12 a second.
        utilisation: share of that peak which the models here reach.
        exchange_gb_s: at which gradients are summed over devices, per device.
        step_seconds: of a training step, whatever its size: launching kernels, waiting for each other.
        batch_seconds: of a batch that a device encodes, whatever its size.
        price_per_hour: of one node, in USD.
        source: where the figures come from.
    """

    name: str
    nodes: int = 1
    cores: int = 1
    core_speed: float = 1.0
    memory_gb: float = 16.0
    disk_gb: float = 100.0
    devices: int = 0
    device_memory_gb: float = 0.0
    tflops: float = 0.0
    utilisation: float = 0.35
    exchange_gb_s: float = 10.0
    step_seconds: float = 0.0
    batch_seconds: float = 0.0
    price_per_hour: float = 0.0
    source: str = "as given"

    def __post_init__(self) -> None:
        for key in ("nodes", "cores"):
            if getattr(self, key) < 1:
                raise InputError(f"hardware {self.name}: {key} must be at least 1, not {getattr(self, key)}")
        for key in ("core_speed", "memory_gb", "disk_gb", "exchange_gb_s"):
            if getattr(self, key) <= 0:
                raise InputError(f"hardware {self.name}: {key} must be above 0, not {getattr(self, key)}")
        if self.devices and not (self.tflops > 0 and 0 < self.utilisation <= 1):
            raise InputError(
                f"hardware {self.name}: devices need tflops (peak of dense bfloat16) and a utilisation up to 1"
            )

    @property
    def all_cores(self) -> int:
        return self.nodes * self.cores

    @property
    def all_devices(self) -> int:
        return self.nodes * self.devices


_DGX = {
    "cores": 112,
    "memory_gb": 2000.0,
    "disk_gb": 30_000.0,
    "devices": 8,
    "device_memory_gb": 80.0,
    "tflops": 989.0,
    "step_seconds": 0.05,
    "batch_seconds": 0.01,
    "price_per_hour": 20.0,
}
KNOWN = {
    "gb10": Hardware(
        "gb10",
        cores=20,
        memory_gb=128.0,
        disk_gb=4000.0,
        devices=1,
        tflops=125.0,
        step_seconds=0.05,
        batch_seconds=0.01,
        price_per_hour=0.25,
        source=f"DGX Spark, {SHEETS}: 20 cores, 128 GB shared with the GPU, 4 TB, 1 PFLOPS in FP4 with sparsity, of "
        "which an eighth in dense bfloat16 (derived); 0.25 USD/h: 4,700 USD over three years and power (2026-11)",
    ),
    "h100x8": Hardware(
        "h100x8",
        exchange_gb_s=200.0,
        source=f"DGX H100, {SHEETS}: 112 cores, 2 TB, 30 TB, 8 x 80 GB, 989 TFLOPS in dense bfloat16 each; 2.50 USD "
        "per GPU and hour (2026-11)",
        **_DGX,  # type: ignore[arg-type]
    ),
    "cluster32": Hardware(
        "cluster32",
        nodes=32,
        exchange_gb_s=25.0,
        source="32 nodes as h100x8, each GPU with a 400 Gb/s link of which half is reached",
        **_DGX,  # type: ignore[arg-type]
    ),
}


def hardware_of(name: str) -> Hardware:
    """The hardware that `name` means: "gb10", "h100x8", "cluster32", "this", or a YAML file.

    Raises:
        InputError: none of these; a file that does not describe hardware.
    """
    if name in KNOWN:
        return KNOWN[name]
    if name == "this":
        return this_machine()
    if not Path(name).is_file():
        known = ", ".join((*KNOWN, "this"))
        keys = ", ".join(field.name for field in fields(Hardware))
        raise InputError(f"unknown hardware {name!r}; choose from {known}, or give a YAML file with {keys}")
    try:
        values: Any = yaml.safe_load(Path(name).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"{name}: not valid YAML ({error})") from error
    if not isinstance(values, dict):
        raise InputError(f"{name}: hardware is a YAML mapping of keys to values")
    return _checked(values, name)


def _checked(values: dict[Any, Any], file: str) -> Hardware:
    kinds = {field.name: str(field.type) for field in fields(Hardware)}
    for key, value in values.items():
        if key not in kinds:
            near = difflib.get_close_matches(str(key), kinds, n=1, cutoff=0.5)
            raise InputError(
                f"{file}: unknown key {key!r}"
                + (f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(kinds)}")
            )
        fitting = {"str": str, "int": int, "float": (int, float)}[kinds[key]]
        if not isinstance(value, fitting) or isinstance(value, bool):  # type: ignore[arg-type]
            raise InputError(f"{file}: {key} must be {kinds[key]}, not {value!r}")
    return Hardware(**{"name": Path(file).stem, **values})


def this_machine(folder: str | Path = ".") -> Hardware:
    """What this process may use; GPUs are told apart by name alone, their speed has to be measured."""
    import torch

    from neural_sparse.io.resources import total_memory
    from neural_sparse.work.workers import available_cores

    known: dict[str, Any] = {}
    if torch.cuda.is_available():
        about = torch.cuda.get_device_properties(0)
        known = {
            "devices": torch.cuda.device_count(),
            "device_memory_gb": about.total_memory / 1e9,
            "tflops": next((peak for part, peak in _PEAKS if part in about.name), _peak_unknown(0)),
            "step_seconds": 0.05,
            "batch_seconds": 0.01,
        }
    return Hardware(
        "this",
        cores=available_cores(),
        memory_gb=total_memory() / 1e9,
        disk_gb=shutil.disk_usage(folder).free / 1e9,
        source="read from this machine; its cores taken to be as fast as those measured unless --measure times them",
        **known,
    )


def _peak_unknown(device: int) -> float:
    """Without bfloat16 the products are in float32: T4 8, V100 16 by the vendor's data sheets."""
    from neural_sparse.model.precision import native_bf16

    return 100.0 if native_bf16(f"cuda:{device}") else 10.0


_PEAKS = (("GB10", 125.0), ("H100", 989.0), ("H200", 989.0), ("A100", 312.0))
