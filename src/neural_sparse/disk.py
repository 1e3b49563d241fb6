"""Room on the disk, looked at before hours of work rather than after them."""

from __future__ import annotations

import shutil
from pathlib import Path

from neural_sparse.errors import InputError


def require_space(
    folder: Path, needed: float, what: str, advice: str = "make room or choose another place"
) -> None:
    """
    Args:
        folder: on the disk in question; it need not exist yet.
        needed: bytes.

    Raises:
        InputError: fewer are free.
    """
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise InputError(
            f"{what} needs about {readable(needed)} at {folder}, but {readable(free)} are free; {advice}"
        )


def readable(size: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
