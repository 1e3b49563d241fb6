"""What makes a training step wait for the device, counted.

On CUDA the driver is asked (`torch.cuda.set_sync_debug_mode`). Elsewhere calls that would wait on CUDA are counted
while the same step runs on the CPU: values read by Python, results whose size depends on values, copies to the
host, small copies of unpinned memory to the device.
"""

import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# In CUDA's implementation each of these waits for a size or a value.
WAIT = {
    f"aten::{name}"
    for name in ("_local_scalar_dense", "nonzero", "nonzero_numpy", "_unique", "_unique2", "unique_dim")
} | {f"aten::{name}" for name in ("unique_consecutive", "masked_select", "equal", "bincount")}
INDEX = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
CALLS = ("cpu", "numpy", "tolist", "__array__", "new_tensor")  # methods of tensors


class Synchronisations:
    """Counts while it is entered, in this thread.

    Attributes:
        places: how often each "what, at file:line" has waited.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.cuda = torch.device(device).type == "cuda"
        self.places: Counter[str] = Counter()

    @property
    def count(self) -> int:
        return self.places.total()

    def note(self, what: str) -> None:
        frames = [frame for frame in traceback.extract_stack() if _of_interest(frame.filename)]
        where = frames[-1] if frames else traceback.extract_stack()[0]
        self.places[f"{what}, at {Path(where.filename).name}:{where.lineno} {where.name}"] += 1

    def __enter__(self) -> "Synchronisations":
        if self.cuda:
            torch.cuda.set_sync_debug_mode("warn")
            self._catching = warnings.catch_warnings(record=True)
            self._caught = self._catching.__enter__()
            warnings.simplefilter("always")
        else:
            self._modes = [_Calls(self), _Operators(self)]
            for mode in self._modes:
                mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.cuda:
            torch.cuda.set_sync_debug_mode("default")
            self._catching.__exit__(*error)
            for warning in self._caught:
                if "synchronizing" in str(warning.message):
                    self.places[f"{Path(warning.filename).name}:{warning.lineno}"] += 1
        else:
            for mode in reversed(self._modes):
                mode.__exit__(*error)


def _of_interest(file: str) -> bool:
    """Ours and the trainer's; not torch's, and not this."""
    return "/torch/" not in file and file != __file__


class _Operators(TorchDispatchMode):
    def __init__(self, found: Synchronisations) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = func._schema.name, kwargs or {}
        if name in WAIT:
            self.found.note(name)
        elif name in INDEX:
            if any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]):
                self.found.note(f"{name} by a mask")
        elif name == "aten::repeat_interleave" and kwargs.get("output_size") is None:
            self.found.note(name)
        return func(*args, **kwargs)


class _Calls(TorchFunctionMode):
    def __init__(self, found: Synchronisations) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.tensor or func is torch.as_tensor or func is torch.from_numpy:
            self.found.note("a copy of unpinned memory")
        elif getattr(func, "__name__", "") in CALLS:
            self.found.note(func.__name__)
        return func(*args, **(kwargs or {}))
