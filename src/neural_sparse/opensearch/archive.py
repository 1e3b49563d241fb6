"""Zip files that are a function of their content: no clock, no path, no compressor's version."""

from __future__ import annotations

import re
import struct
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import torch

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
