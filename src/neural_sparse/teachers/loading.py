"""A teacher's weights: their precision, and clear errors when loading."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, get_args

import torch

from neural_sparse.config import Precision
from neural_sparse.errors import InputError
from neural_sparse.io.files import read_json

Model = TypeVar("Model")


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
