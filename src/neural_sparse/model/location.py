"""Where a model's files are: a folder, a folder inside an installed package, or the Hugging Face hub."""

from __future__ import annotations

import importlib.util
from pathlib import Path, PurePosixPath
from typing import Any

from neural_sparse.errors import InputError

_MODEL_FILES = ("config.json", "modules.json")


def resolve_model(name: str) -> str:
    """Turn a model name into a local folder where there is one; otherwise return it as a hub id.

    Tried in this order: an existing folder; `package/sub/folder` inside an installed top-level package
    (found without importing it), if that folder holds a config.json or modules.json; the hub.

    Raises:
        InputError: the name is empty.
    """
    if not name.strip():
        raise InputError(
            "the model name is empty: give a folder, a folder inside an installed package or a hub id"
        )
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder)
    return _folder_in_package(name) or name


def _folder_in_package(name: str) -> str | None:
    package, *below = PurePosixPath(name).parts or ("",)
    # A dotted or odd name would make find_spec import the parent package, or fail: hub ids look like that.
    if not package.isidentifier() or not below or ".." in below:
        return None
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    for root in (spec and spec.submodule_search_locations) or ():
        folder = Path(root, *below)
        if any((folder / file).is_file() for file in _MODEL_FILES):
            return str(folder)
    return None


def model_not_found(name: str, error: Exception | str) -> InputError:
    """The error to raise when `name` could not be loaded: what was tried, and every way to point at a model.

    Or that it brings code of its own, which may not be run.
    """
    if "trust_remote_code" in str(error):
        return InputError(
            f"model {name!r} needs program code from its own repository, which is not run unasked; if you trust it, "
            "load it with trust_remote_code=True"
        )
    if (
        isinstance(error, OSError)
        and error.errno
        and not isinstance(error, (FileNotFoundError, ConnectionError))
    ):
        return InputError(f"model {name!r}: {error}")  # a full disk, no permission
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if Path(name).expanduser().is_dir():
        return InputError(f"the model in the folder {name} cannot be loaded: {reason}")
    return InputError(
        f"model {name!r} was not found: it is no folder here and no folder of an installed package, "
        f"and the Hugging Face hub did not give it ({reason}). Either\n"
        "  - give the path of a folder that holds config.json and model.safetensors, or\n"
        "  - set HF_HOME to the cache folder it was downloaded to (with HF_HUB_OFFLINE=1 when there is no "
        "network), or\n"
        "  - check the spelling of the hub id, unset HF_HUB_OFFLINE so that it may be downloaded, and set "
        "HF_TOKEN if the model is private or gated."
    )


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a model.

    Raises:
        InputError: no such model.
    """
    location = resolve_model(name)
    if (Path(location) / "modules.json").is_file():
        from neural_sparse.model.encoder import NeuralSparseEncoder

        return NeuralSparseEncoder(location, device="cpu").tokenizer
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(location)
    except (OSError, ValueError) as error:
        raise model_not_found(name, error) from error
