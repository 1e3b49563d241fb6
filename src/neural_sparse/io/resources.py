"""Room on the disk and in memory, looked at before hours of work rather than after them."""

from __future__ import annotations

import contextlib
import ctypes
import os
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


_PROCESS = Path("/proc/self")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # as malloc.h has them
_MALLOC_SETTINGS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")
_CGROUPS = Path("/sys/fs/cgroup")


def total_memory() -> int:
    """Bytes of main memory, or of the container's share of it."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit, _ = _container()
    return min(physical, limit) if limit else physical


def available_memory() -> int:
    """Bytes that can still be taken without swapping, within the container's limit.

    Raises:
        InputError: the system does not say (only Linux does).
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError as error:
        raise InputError("this system does not say how much memory is available; only Linux does") from error
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    limit, used = _container()
    return min(free, max(0, limit - used)) if limit else free


def _container() -> tuple[int, int]:
    """Limit and use of the control group, version 2 or 1; (0, 0) without a limit."""
    for limit_file, used_file in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            limit, used = ((_CGROUPS / name).read_text().strip() for name in (limit_file, used_file))
        except OSError:
            continue
        if limit.isdigit() and int(limit) < 1 << 60:  # version 1 writes a huge number for none
            return int(limit), int(used)
    return 0, 0


def resident_memory() -> int:
    """Bytes of main memory this process has now."""
    return _status("VmRSS")


def reset_peak_memory() -> None:
    """Let `peak_memory` count from now on.

    Raises:
        InputError: a system without /proc.
    """
    try:
        (_PROCESS / "clear_refs").write_text("5")
    except OSError as error:
        raise InputError("this system does not let a process watch its own peak memory") from error


def peak_memory() -> int:
    """Most bytes of main memory this process has had since `reset_peak_memory`."""
    return _status("VmHWM")


def keep_memory() -> bool:
    """Let malloc keep what is freed, and take large blocks from it again, for as long as this process lives.

    By itself glibc maps blocks of more than 32 MB anew each time, so that every step of training touches its large
    intermediates first, page by page. Child processes by fork do the same. `release_memory` still gives back what is
    free.

    Returns:
        Whether this is so now: not with another libc, nor where the environment has settings for malloc.
    """
    if any(name in os.environ for name in _MALLOC_SETTINGS):
        return False
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018 - mallopt of another libc may mean something else
        return bool(libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30) and libc.mallopt(_M_TRIM_THRESHOLD, -1))
    except (OSError, AttributeError, TypeError):
        return False


def release_memory() -> None:
    """Give back to the system what this process has freed: glibc keeps it, and it would hide what comes next."""
    with contextlib.suppress(OSError, AttributeError):  # another libc
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _status(key: str) -> int:
    try:
        lines = (_PROCESS / "status").read_text().splitlines()
    except OSError as error:
        raise InputError("this system does not say how much memory a process has; only Linux does") from error
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))
