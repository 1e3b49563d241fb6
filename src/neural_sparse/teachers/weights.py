"""A teacher's weights: the folder they are in, the hash that names them, and clear errors when loading."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, get_args

import torch

from neural_sparse.config import Precision
from neural_sparse.errors import InputError
from neural_sparse.files import read_json, sha256_file
from neural_sparse.model.location import model_not_found, resolve_model

Model = TypeVar("Model")
_WANTED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.py")
_UNWANTED = ("onnx/*", "openvino/*", "*/onnx/*", "*/openvino/*")
_DECIDES_VECTORS = {".json", ".safetensors", ".txt", ".model", ".py"}


def model_folder(name: str) -> Path:
    """The local folder of a model; a hub model is downloaded, or found in the hub's cache, first.

    Raises:
        InputError: it cannot be found; the message says how to point at it.
    """
    location = resolve_model(name)
    if Path(location).is_dir():
        return Path(location)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(location, allow_patterns=[*_WANTED], ignore_patterns=[*_UNWANTED]))
    except (OSError, ValueError, HFValidationError) as error:  # the hub's own errors are OSErrors
        raise model_not_found(name, error) from error


def content_hash(folder: Path) -> str:
    """One sha256 over every file that decides the vectors: weights, tokenizer, configuration, code."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in _DECIDES_VECTORS and path.is_file():
            digest.update(f"{path.relative_to(folder).as_posix()} {sha256_file(path)}\n".encode())
    return digest.hexdigest()


def read_config(folder: Path, file: str) -> Any:
    """A JSON file of a model folder, or an empty dict where the model has none."""
    return read_json(folder / file) if (folder / file).is_file() else {}


def checked_precision(precision: str) -> Precision:
    if precision not in get_args(Precision):
        raise InputError(f"unknown precision {precision!r}: choose from {', '.join(get_args(Precision))}")
    return precision  # type: ignore[return-value]


def computing_in(precision: Precision, device: torch.device) -> torch.autocast:
    """A context in which matrix products run in `precision`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def load_model(
    kind: Callable[..., Model],
    name: str,
    folder: Path,
    *,
    device: str | None,
    max_length: int,
    trust_remote_code: bool,
    **options: Any,
) -> Model:
    """A sentence-transformers model of `kind` from a folder, from safetensors only.

    Args:
        name: of the teacher, for messages.
        max_length: longer texts are cut to this many tokens, or to the model's own limit if that is lower.

    Raises:
        InputError: it cannot be loaded, or needs code that may not be run.
    """
    with loading(name):
        model: Any = kind(
            str(folder),
            device=device,
            trust_remote_code=trust_remote_code,
            model_kwargs={"use_safetensors": True},
            **options,
        )
    model.max_seq_length = min(max_length, model.max_seq_length or max_length)
    return model


def without_cached(teacher: Any) -> dict[str, Any]:
    """An object's attributes without what `cached_property` has put beside them."""
    cached = {
        name
        for kind in type(teacher).__mro__
        for name, value in vars(kind).items()
        if isinstance(value, cached_property)
    }
    return {name: value for name, value in vars(teacher).items() if name not in cached}


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Turn the ways in which loading a model fails into messages that name the fix."""
    try:
        yield
    except (OSError, ValueError, ImportError, KeyError) as error:
        if "trust_remote_code" in str(error):
            raise InputError(
                f"teacher {name!r} needs program code from its own repository, which is not run unasked; "
                f"if you trust it, name it: trust_remote_code={name} in a recipe, --trust-remote-code {name} on the "
                f"command line, trust_remote_code=[{name!r}] in Python"
            ) from error
        raise InputError(f"teacher {name!r} could not be loaded: {error}") from error
