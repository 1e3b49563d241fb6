"""Where bfloat16 is worth using, and what is computed in float32 all the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

NATIVE = (8, 0)  # compute capability; every ROCm architecture that torch runs on is above it


def native_bf16(device: torch.device | str) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware, several times faster than float32.

    NVIDIA from compute capability 8.0 (Ampere) on, AMD's, and processors with AMX. Others (V100, T4, Apple's
    GPUs, processors without AMX) compute in float32, which is never wrong.
    """
    device = torch.device(device)
    if device.type == "cuda":
        # torch.cuda.is_bf16_supported() counts devices that emulate bfloat16, more slowly than float32, and asks the
        # current device.
        return torch.cuda.is_available() and torch.cuda.get_device_capability(device) >= NATIVE
    return device.type == "cpu" and _amx()


def wanted_bf16(wanted: bool | None, device: torch.device | str) -> bool:
    """A recipe's `bf16`: what it says, or where the device has it if None."""
    return native_bf16(device) if wanted is None else wanted


def _amx() -> bool:
    if hasattr(torch.cpu, "get_capabilities"):
        return bool(torch.cpu.get_capabilities().get("amx_bf16"))
    asked = getattr(
        torch.cpu, "_is_amx_tile_supported", None
    )  # torch 2.6: all with tiles multiply bfloat16 in them
    return asked is not None and bool(asked())


P = ParamSpec("P")
R = TypeVar("R")


def in_float32(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function of tensors compute in float32, inside an autocast region too.

    bfloat16 has 8 bits: a score of 88 would be off by up to .25. Tensors of
    fewer bits are widened first, float64 stays. Gradients have the types of what was given.
    """

    @wraps(function)
    def outside_autocast(*args: P.args, **kwargs: P.kwargs) -> R:
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        with torch.autocast(tensors[0].device.type, enabled=False):
            wide = [_widened(value) for value in args]
            named = {key: _widened(value) for key, value in kwargs.items()}
            return function(*wide, **named)  # type: ignore[arg-type]

    return outside_autocast


def _widened(value: object) -> object:
    if isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16):
        return value.float()
    return value
