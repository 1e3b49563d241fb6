"""Losses are computed in float32, whatever surrounds them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

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
