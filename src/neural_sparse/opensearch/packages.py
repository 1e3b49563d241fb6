"""The zips that ML Commons registers, a function of their content alone, and the configuration beside each."""

from __future__ import annotations

import json
import re
import struct
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from neural_sparse.io.files import replacing, sha256_file, write_json

_EARLIEST = (1980, 1, 1, 0, 0, 0)
_ALIGNMENT = 64  # of tensors, as torch writes them, so that they can be mapped
# Of no use to a server, and full of the machine's paths: source positions, an id of the writer, traced examples.
_LEFT_OUT = re.compile(r".*\.debug_pkl|\.data/serialization_id|traced_inputs(\.pkl|/.*)")


def write_zip(
    path: str | Path, members: Iterable[tuple[str, bytes | Path]], alignment: int | None = None
) -> None:
    """Store members uncompressed, in the order given, dated 1980.

    Args:
        members: name and content, as bytes or as a file.
        alignment: of each member's first byte.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name, _EARLIEST)
            info.external_attr = 0o644 << 16
            info.create_system = 3
            if alignment is not None:
                assert archive.fp is not None
                head = archive.fp.tell() + 30 + len(name.encode()) + 4
                padding = -head % alignment
                info.extra = struct.pack("<HH", 0x4246, padding) + b"Z" * padding  # "FB", as torch calls it
            data = content if isinstance(content, bytes) else content.read_bytes()
            archive.writestr(info, data)


def save_torchscript(traced: torch.jit.ScriptModule, path: str | Path) -> None:
    """Write a TorchScript file that is the same for the same module, in any process on any machine."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "model.pt"
        torch.jit.save(traced, str(plain))
        with zipfile.ZipFile(plain) as archive:
            # torch names the root after the file.
            names = {name.split("/", 1)[1]: name for name in archive.namelist()}
            kept = sorted(name for name in names if not _LEFT_OUT.fullmatch(name))
            members = ((f"model/{name}", archive.read(names[name])) for name in kept)
            write_zip(path, members, _ALIGNMENT)


def document_tokenizer(tokenizer: Any, max_length: int) -> Tokenizer:
    """A copy that cuts at `max_length`, special tokens included: a longer text would have no positions."""
    copy = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    copy.enable_truncation(max_length)
    pad = tokenizer.pad_token_id
    if pad is None:
        copy.no_padding()
    else:
        copy.enable_padding(pad_id=pad, pad_token=tokenizer.pad_token)
    return copy


def query_tokenizer(tokenizer: Any) -> Tokenizer:
    """A copy that cuts nothing: looking weights up has no limit."""
    copy = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy


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
    def looks_up(self) -> bool:
        """Whether it is a table of query weights; an encoder otherwise."""
        return self.function_name == "SPARSE_TOKENIZE"

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
    return _package(
        folder,
        name,
        version=version,
        function_name="SPARSE_ENCODING",
        description=description,
        members=members,
    )


def sparse_tokenize_package(
    folder: Path, name: str, version: str, tokenizer: Tokenizer, idf: Mapping[str, float], description: str
) -> Package:
    """Write the query side: tokenizer.json and a flat idf.json {token: weight}."""
    table = json.dumps(dict(idf), ensure_ascii=False, indent=0, allow_nan=False)
    members: list[tuple[str, bytes | Path]] = [
        ("tokenizer.json", _json(tokenizer)),
        ("idf.json", table.encode() + b"\n"),
    ]
    return _package(
        folder,
        name,
        version=version,
        function_name="SPARSE_TOKENIZE",
        description=description,
        members=members,
    )


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
    package = Package(
        path,
        name,
        version=version,
        function_name=function_name,
        description=description,
        size=size,
        sha256=digest,
    )
    write_json(folder / CONFIG_FILE, package.config())
    return package
