"""Which devices count as having bfloat16; stand-ins answer as torch does on devices that are not here."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from neural_sparse.model.precision import native_bf16, wanted_bf16
from neural_sparse.planning.hardware import this_machine

CAPABILITIES = {"V100": (7, 0), "T4": (7, 5), "A100": (8, 0), "H100": (9, 0), "GB10": (12, 1)}


def put_gpus(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    def number(device: torch.device | str | int | None) -> int:
        return device if isinstance(device, int) else torch.device(device or "cuda").index or 0

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
    # As since torch 2.4: whatever can hold bfloat16 is said to support it.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(
        torch.cuda, "get_device_capability", lambda device=None: CAPABILITIES[names[number(device)]]
    )
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda device=None: SimpleNamespace(name=f"NVIDIA {names[number(device)]}", total_memory=16e9),
    )


@pytest.mark.parametrize("name", CAPABILITIES)
def test_a_gpu_that_emulates_does_not_count(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    put_gpus(monkeypatch, name)
    native = name not in ("V100", "T4")
    assert native_bf16("cuda") is native_bf16(torch.device("cuda", 0)) is native
    assert wanted_bf16(None, "cuda") is native
    assert wanted_bf16(True, "cuda") is True  # whoever asks for it gets it
    assert wanted_bf16(False, "cuda") is False
    assert (this_machine().tflops >= 100) is native


def test_each_gpu_is_asked_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    put_gpus(monkeypatch, "A100", "T4")
    assert [native_bf16(f"cuda:{number}") for number in (0, 1)] == [True, False]


def test_without_a_gpu_cuda_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert native_bf16("cuda") is False


@pytest.mark.parametrize("native", [False, True])
def test_a_processor_counts_with_amx(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: {"avx2": True, "amx_bf16": native}, raising=False
    )
    assert native_bf16("cpu") is native
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # as in torch 2.6
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: native, raising=False)
    assert native_bf16("cpu") is native
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert native_bf16("cpu") is False


@pytest.mark.parametrize("device", ["mps", "xpu", "meta"])
def test_other_devices_compute_in_float32(device: str) -> None:
    assert native_bf16(device) is False
