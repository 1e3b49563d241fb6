"""Runs the cases of the Triton head: on the GPU, or in a process of its own under Triton's interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

triton = pytest.importorskip("triton", reason="Triton is not installed (it exists for Linux only)")
CASES = Path(__file__).with_name("head_triton_cases.py")


@pytest.mark.integration  # under the interpreter, seconds long
def test_kernels_agree_with_the_torch_operations() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("TRITON_INTERPRET", None)
    if not torch.cuda.is_available():
        environment["TRITON_INTERPRET"] = "1"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(CASES)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.parametrize("capability", [80, 90])
def test_forward_kernel_compiles_for_cuda(capability: int, tmp_path, monkeypatch) -> None:
    """No GPU is needed to compile: this catches what the interpreter accepts and the compiler does not."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from neural_sparse.model import head_triton

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = head_triton._maxima
    settings = {
        "HAS_BIAS": True,
        "WANT_WINNERS": True,
        "PRECISION": "ieee",
        "WHOLE": True,
        "TOKENS": 128,
        "DIMENSIONS": 128,
        "DEPTH": 64,
    }
    types = {
        "hidden": "*bf16",
        "offsets": "*i64",
        "weight": "*bf16",
        "bias": "*fp32",
        "pooled": "*fp32",
        "winners": "*i16",
        "vocabulary": "i32",
        "width": "i32",
    } | dict.fromkeys(settings, "constexpr")
    aligned = [name for name in types if types[name].startswith("*") or name == "width"]
    attributes = {(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in aligned}
    source = ASTSource(fn=kernel, signature=types, constexprs=settings, attrs=attributes)
    target = GPUTarget("cuda", capability, 32)
    compiled = triton.compile(source, target=target, options={"num_warps": 8, "num_stages": 3})
    assert compiled.metadata.shared <= 160 * 1024
    assert ("wgmma" if capability == 90 else "mma.sync") in compiled.asm["ptx"]
