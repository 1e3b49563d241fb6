"""Where bfloat16 is worth using."""

from __future__ import annotations

import torch


def native_bf16(device: torch.device | str) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware, several times faster than float32."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_bf16_supported()
    return kind == "cpu" and bool(torch.cpu.get_capabilities().get("amx_bf16"))
