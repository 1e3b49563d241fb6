"""An ONNX file at work on a CPU, by ONNX Runtime or OpenVINO, without torch."""

from __future__ import annotations

import importlib
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, Protocol, get_args

import numpy as np

from neural_sparse.errors import InputError

Runtime = Literal["onnx", "openvino"]
PACKAGES: dict[Runtime, str] = {"onnx": "onnxruntime", "openvino": "openvino"}


class Running(Protocol):
    """A loaded file; called from several threads at once, it uses one core for each call."""

    def __call__(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        """First output, float32, of int64 [batch, length] both."""


def load_runtime(runtime: Runtime, file: Path, threads: int, bf16: bool = False) -> Running:
    """
    Args:
        threads: calls that there may be at once.
        bf16: multiply in bfloat16, which only OpenVINO can.

    Raises:
        InputError: an unknown runtime, or one that is not installed; a damaged file.
    """
    if runtime not in get_args(Runtime):
        raise InputError(f"unknown backend {runtime!r}: choose from torch, {', '.join(get_args(Runtime))}")
    if bf16 and runtime == "onnx":
        raise InputError(
            "ONNX Runtime multiplies no bfloat16 on a CPU: leave --bf16 out, or take openvino or torch"
        )
    package = PACKAGES[runtime]
    make: Any = _OnnxRuntime if runtime == "onnx" else _OpenVino
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        raise InputError(
            f"the backend {runtime} needs {package}: pip install 'neural-sparse[{runtime}]'"
        ) from error
    try:
        running: Running = make(module, file, threads, bf16)
    except Exception as error:  # both raise their own, or RuntimeError
        raise InputError(f"{file}: {package} cannot load it ({str(error).strip():.300})") from error
    return running


class _OnnxRuntime:
    def __init__(self, package: Any, file: Path, threads: int, bf16: bool) -> None:
        options = package.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = package.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def __call__(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        output: np.ndarray = self.session.run(
            None, {"input_ids": input_ids, "attention_mask": attention_mask}
        )[0]
        return output


class _OpenVino:
    def __init__(self, package: Any, file: Path, threads: int, bf16: bool) -> None:
        settings = {
            # Its own choice would be bfloat16 where the hardware has it.
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
            "ENABLE_CPU_PINNING": False,  # several processes would be pinned to the same cores
        }
        compiled = package.Core().compile_model(str(file), "CPU", settings)
        self.requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(threads):
            self.requests.put(compiled.create_infer_request())

    def __call__(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        request = self.requests.get()
        try:
            result = request.infer({"input_ids": input_ids, "attention_mask": attention_mask})
            return np.array(result[0])  # the request's own memory is written again
        finally:
            self.requests.put(request)
