"""The zips that ML Commons registers, and the configuration that goes beside each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from neural_sparse.files import replacing, sha256_file, write_json
from neural_sparse.opensearch.archive import write_zip

CHUNK_BYTES = 10_000_000  # most that one upload request may carry
CONFIG_FILE = "ml-commons_model_config.json"


@dataclass(frozen=True)
class Package:
    """A zip and what ML Commons has to be told about it.

    Attributes:
        function_name: SPARSE_ENCODING or SPARSE_TOKENIZE.
        size, sha256: of the zip's bytes.
    """

    path: Path
    name: str
    version: str
    function_name: str
    description: str
    size: int
    sha256: str

    @property
    def total_chunks(self) -> int:
        return -(-self.size // CHUNK_BYTES)

    def config(self) -> dict[str, Any]:
        """ml-commons_model_config.json; the sparse functions take no "model_config"."""
        return {
            "name": self.name,
            "version": self.version,
            "model_format": "TORCH_SCRIPT",  # of the tokenizer's package too
            "function_name": self.function_name,
            "description": self.description,
            "model_content_size_in_bytes": self.size,
            "model_content_hash_value": self.sha256,
        }

    def registration(self) -> dict[str, Any]:
        """Body of _register_meta."""
        return {**self.config(), "total_chunks": self.total_chunks}


def sparse_encoding_package(
    folder: Path, name: str, version: str, torchscript: Path, tokenizer: Tokenizer, description: str
) -> Package:
    """Write the document side: one .pt and a tokenizer.json that truncates."""
    members: list[tuple[str, bytes | Path]] = [
        (f"{name}.pt", torchscript),
        ("tokenizer.json", _json(tokenizer)),
    ]
    return _package(folder, name, version, "SPARSE_ENCODING", description, members)


def sparse_tokenize_package(
    folder: Path, name: str, version: str, tokenizer: Tokenizer, idf: Mapping[str, float], description: str
) -> Package:
    """Write the query side: tokenizer.json and a flat idf.json {token: weight}."""
    table = json.dumps(dict(idf), ensure_ascii=False, indent=0, allow_nan=False)
    members: list[tuple[str, bytes | Path]] = [
        ("tokenizer.json", _json(tokenizer)),
        ("idf.json", table.encode() + b"\n"),
    ]
    return _package(folder, name, version, "SPARSE_TOKENIZE", description, members)


def _json(tokenizer: Tokenizer) -> bytes:
    return tokenizer.to_str(pretty=True).encode()


def _package(
    folder: Path,
    name: str,
    version: str,
    function_name: str,
    description: str,
    members: list[tuple[str, bytes | Path]],
) -> Package:
    path = folder / f"{name}-{version}-torch_script.zip"
    with replacing(path) as temporary:
        write_zip(temporary, members)
    size, digest = path.stat().st_size, sha256_file(path)
    package = Package(path, name, version, function_name, description, size, digest)
    write_json(folder / CONFIG_FILE, package.config())
    return package
