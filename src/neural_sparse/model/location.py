"""Where a model's files are (a folder, a folder inside an installed package, the hub), and the hash that names them."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path, PurePosixPath

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError

from neural_sparse.errors import InputError
from neural_sparse.io.files import read_json, sha256_file

_WANTED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.py")
_UNWANTED = ("onnx/*", "openvino/*", "*/onnx/*", "*/openvino/*")
_DECIDES_VECTORS = {".json", ".safetensors", ".txt", ".model", ".py"}
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
        if _holds_model(folder):
            return str(folder)
    return None


def _holds_model(folder: Path) -> bool:
    return any((folder / file).is_file() for file in _MODEL_FILES)


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
    if (folder := Path(name).expanduser()).is_dir():
        for below in ("final_model", "model"):  # of `train`, of `adapt`
            if _holds_model(folder / below) and not _holds_model(folder):
                return InputError(f"{name} is the folder of a run; its model is {folder / below}")
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


def model_folder(name: str) -> Path:
    """The local folder of a model; a hub model is downloaded, or found in the hub's cache, first.

    Raises:
        InputError: it cannot be found; the message says how to point at it.
    """
    location = resolve_model(name)
    if Path(location).is_dir():
        return Path(location)

    try:
        return Path(snapshot_download(location, allow_patterns=[*_WANTED], ignore_patterns=[*_UNWANTED]))
    except (OSError, ValueError, HFValidationError) as error:  # the hub's own errors are OSErrors
        raise model_not_found(name, error) from error


def encoder_folder(location: str) -> str:
    """The folder of the transformer that a sentence-embedding model begins with; other models' own."""
    modules = Path(location) / "modules.json"
    first = read_json(modules)[0] if modules.is_file() else {"type": "", "path": ""}
    inside = str(first["type"]).endswith(".Transformer") and first["path"]
    return str(Path(location, first["path"])) if inside else location


def lacks_head(location: str) -> bool:
    """Whether a folder holds an encoder without a masked-LM head, by the architectures its config.json names."""
    config = Path(encoder_folder(location)) / "config.json"
    if not config.is_file():
        return False
    named = read_json(config).get("architectures") or []
    return bool(named) and not any("MaskedLM" in name or "PreTraining" in name for name in named)


def content_hash(folder: Path) -> str:
    """One sha256 over every file that decides the vectors: weights, tokenizer, configuration, code."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in _DECIDES_VECTORS and path.is_file():
            digest.update(f"{path.relative_to(folder).as_posix()} {sha256_file(path)}\n".encode())
    return digest.hexdigest()
