"""The Triton head: its cases on a GPU or under the interpreter, and its kernels compiled for GPUs that are not here."""

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

triton = pytest.importorskip("triton", reason="Triton is not installed (it exists for Linux only)")
CASES = Path(__file__).with_name("head_triton_cases.py")
# Shared memory a program may use, in bytes, by compute capability (CUDA C++ Programming Guide, technical
# specifications): A100, H100 and H200, GeForce and RTX of the Blackwell generation, GB10 (DGX Spark).
SHARED = {80: 163 << 10, 90: 227 << 10, 120: 99 << 10, 121: 99 << 10}
DTYPES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
ATOMIC_ADD = r"\.global\.gpu\.relaxed\.add(\.noftz)?(\.v4)?\.f32"


@pytest.mark.integration  # under the interpreter, seconds long
def test_kernels_agree_with_the_torch_operations() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("TRITON_INTERPRET", None)
    if not torch.cuda.is_available():
        environment["TRITON_INTERPRET"] = "1"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(CASES)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.fixture
def compiled(tmp_path, monkeypatch, capfd):
    """Compile a kernel for a GPU that need not be here, and hold it to that GPU's shared memory.

    This catches what the interpreter accepts and the compiler does not. Registers that spill into memory are
    a warning: slow, not wrong.
    """
    from triton import knobs
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(knobs.nvidia, "dump_ptxas_log", True)

    def run(
        kernel: Any, capability: int, dtype: torch.dtype, settings: dict[str, Any], **options: int
    ) -> Any:
        pointers = dict.fromkeys(("gradient", "into", "pooled", "bias"), "*fp32")
        pointers |= dict.fromkeys(("hidden", "weight"), "*" + DTYPES[dtype])
        pointers |= {"offsets": "*i64", "winners": "*i16"}
        types = {
            name: "constexpr" if name in settings else pointers.get(name, "i32") for name in kernel.arg_names
        }
        aligned = [name for name in types if name in pointers or name == "width"]
        attributes = {(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in aligned}
        source = ASTSource(fn=kernel, signature=types, constexprs=settings, attrs=attributes)
        capfd.readouterr()
        done = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
        assert done.metadata.shared <= SHARED[capability]
        spilled = int(re.search(r"(\d+) bytes spill stores", capfd.readouterr().out)[1])
        if spilled:
            text = f"{done.metadata.name} for {capability}, {settings}: {spilled} bytes of registers spill"
            warnings.warn(text, stacklevel=2)
        assert done.asm["cubin"]
        return done.asm["ptx"]

    return run


def forward_variants() -> list[tuple[torch.dtype, str, Any]]:
    """Every (dtype, precision, tiles) that the launcher can choose."""
    from neural_sparse.model.head_triton import tiles

    found = [
        (dtype, precision, tiles(dtype, mean * 100, 100))
        for dtype in DTYPES
        for precision in ("ieee", "tf32")[: 1 + (dtype == torch.float32)]
        for mean in (1, 95, 96, 256)
    ]
    return list(dict.fromkeys(found))


def forward(compiled, capability: int, dtype: torch.dtype, precision: str, tile: Any, whole: bool) -> str:
    from neural_sparse.model import head_triton

    settings = {"HAS_BIAS": True, "WANT_WINNERS": True, "PRECISION": precision, "WHOLE": whole}
    settings |= {"TOKENS": tile.tokens, "DIMENSIONS": tile.dimensions, "DEPTH": tile.depth}
    options = {"num_warps": tile.warps, "num_stages": tile.stages}
    return compiled(head_triton._maxima, capability, dtype, settings, **options)


@pytest.mark.integration  # seconds of compiling for each capability
@pytest.mark.parametrize("capability", SHARED)
def test_kernels_compile_within_shared_memory(capability: int, compiled) -> None:
    from neural_sparse.model import head_triton

    multiply = "wgmma" if capability == 90 else "mma.sync"
    for dtype, precision, tile in forward_variants():
        ptx = forward(compiled, capability, dtype, precision, tile, whole=True)
        assert (multiply in ptx) == (dtype != torch.float32 or precision == "tf32")
    for dtype in DTYPES:
        settings = {"LINES": head_triton.LINES, "LINE": head_triton.LINE, "DEPTH": 256}
        compiled(head_triton._add_to_dimensions, capability, dtype, settings)
        assert re.search(ATOMIC_ADD, compiled(head_triton._add_to_tokens, capability, dtype, settings))


@pytest.mark.integration
def test_narrow_and_odd_widths_compile(compiled) -> None:
    from neural_sparse.model import head_triton

    dtype, precision, tile = forward_variants()[0]
    forward(compiled, 121, dtype, precision, tile, whole=False)
    settings = {"LINES": head_triton.LINES, "LINE": head_triton.LINE, "DEPTH": 8}
    compiled(head_triton._add_to_dimensions, 121, dtype, settings)
    compiled(head_triton._add_to_tokens, 121, dtype, settings)


def test_another_number_of_texts_compiles_nothing_anew() -> None:
    from neural_sparse.model import head_triton

    for kernel in (head_triton._maxima, head_triton._add_to_dimensions, head_triton._add_to_tokens):
        assert next(each for each in kernel.params if each.name == "texts").do_not_specialize


def test_groups_of_texts_stay_in_the_cache() -> None:
    from neural_sparse.model.head_triton import CACHE_SHARE, text_groups

    assert text_groups(440, 20 << 20, 96 << 20) == 1  # everything fits
    for texts, size, cache in [(440, 47 << 20, 24 << 20), (440, 173 << 20, 50 << 20), (3, 1 << 40, 1 << 20)]:
        groups = text_groups(texts, size, cache)
        assert size / groups <= CACHE_SHARE * cache or groups == texts
        assert groups == 1 or size / (groups - 1) > CACHE_SHARE * cache or groups == texts
    assert text_groups(1, 0, 1 << 20) == 1
