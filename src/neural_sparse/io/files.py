"""Reading and writing files so that nothing is ever half written or silently malformed."""

from __future__ import annotations

import ctypes
import errno
import glob
import hashlib
import json
import logging
import os
import platform
import secrets
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from neural_sparse.errors import InputError
from neural_sparse.io.lines import json_value, without_mark
from neural_sparse.io.urls import Location, Url, location

logger = logging.getLogger(__name__)
T = TypeVar("T")
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:6]  # process numbers are this machine's


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it replaces `path`, on any error it is removed.

    A symbolic link stays, and what it names is replaced. Permissions are those of the old file, or else
    of a new one: 666 less the umask.

    Raises:
        InputError: it cannot be written, or is a device or a pipe.
    """
    path = Path(path)
    target = Path(os.path.realpath(path))
    with writing(path):
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if target.exists() and not target.is_file():
            raise InputError(f"cannot write {path}: it is a device or a pipe, which a file would replace")
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = _fresh(
            target, lambda new: os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666))
        )
        permissions = (target if target.exists() else temporary).stat().st_mode & 0o777
    try:
        with writing(path, temporary):
            yield temporary
            temporary.chmod(permissions)  # a library may have put a file of its own in its place
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: str | Path, advice: str = "") -> Iterator[Path]:
    """As `replacing`, for a whole folder; an existing folder at `path` is replaced at the end.

    The old folder stays until the new one stands, and nobody finds neither: on Linux they are exchanged in one step;
    where a file system cannot do that, the old one is moved aside first, and back if the new one cannot take its
    place. What was written is then kept, and the error says where.

    Args:
        advice: what to do if it cannot be written.

    Raises:
        InputError: as `check_output_folder`; what is full or refused.
    """
    path = Path(path)
    target = Path(os.path.realpath(path))
    _check_place(path)
    with writing(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = _fresh(target, Path.mkdir)
        if target.exists():
            temporary.chmod(target.stat().st_mode & 0o777)
    try:
        with writing(path, temporary, advice):
            yield temporary
            follow_umask(temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    try:
        old = _put(temporary, target)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; what is there is unchanged, and what was to take its "
            f"place is kept at {temporary}"
        ) from error
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
        if old.exists():
            logger.warning("%s has been replaced; the old one could not be deleted: %s", path, old)


def check_output_folder(path: str | Path, marker: str | None = None) -> Path:
    """Refuse, before the work, a folder that cannot be written at its end.

    Args:
        marker: a file by which a folder is known that may be replaced; without, nothing that is there may be.

    Raises:
        InputError: a file; a folder that holds something (else); a mount point; no permission.
    """
    path = Path(path)
    _check_place(path)
    if path.is_dir() and any(path.iterdir()):
        if marker is None:
            raise InputError(f"{path} exists; choose another output, or delete it")
        if not (path / marker).is_file():
            raise InputError(f"{path} exists and holds something else (no {marker}); choose another output")
    _check_permission(path, Path(os.path.realpath(path)).parent)
    return path


def check_output(path: str | Location, folder: bool = False) -> None:
    """Refuse, before the work, a file that cannot be written at its end.

    Args:
        path: may be a URL, where only what is there is looked at.
        folder: `path` is a folder that files are written into, and what is there already does not matter.

    Raises:
        InputError: a folder where a file is wanted, or the other way round; a device or a pipe; no permission.
    """
    if isinstance(place := location(path), Url):
        if place.is_file() if folder else place.is_dir():
            raise InputError(f"cannot write {path}: it is a {'file' if folder else 'folder'}")
        return
    path = place
    target = Path(os.path.realpath(path))
    if folder and target.exists() and not target.is_dir():
        raise InputError(f"cannot write {path}: it is a file, and the output is a folder")
    if not folder and target.exists() and not target.is_file():
        kind = "a folder" if target.is_dir() else "a device or a pipe, which a file would replace"
        raise InputError(f"cannot write {path}: it is {kind}")
    _check_permission(path, target if folder else target.parent)


def _check_permission(path: Path, folder: Path) -> None:
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    if not existing.is_dir():
        raise InputError(f"cannot write {path}: {existing} is a file")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"cannot write {path}: no permission to write in {existing}; choose another output")


def _check_place(path: Path) -> None:
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_dir():
        raise InputError(f"cannot write {path}: it is a file, and the output is a folder")
    if os.path.ismount(target):
        raise InputError(
            f"cannot write {path}: it is a mount point, which cannot be replaced as a whole; name a folder in it, "
            f"such as {path / 'output'}"
        )


def reading_folder(folder: str | Path, read: Callable[[], T]) -> T:
    """What `read` makes of a folder as it is at one moment, although it may be replaced meanwhile.

    A folder is replaced as a whole (`replacing_folder`), so if it is the same one before and after, all files that
    were opened are of one writing; else it is read again.
    """
    while True:
        with _held(folder) as same:
            try:
                result = read()
            except Exception:
                if same():
                    raise
            else:
                if same():
                    return result


@contextmanager
def _held(folder: str | Path) -> Iterator[Callable[[], bool]]:
    """Whether a path still names the folder that it named; held open, so that no other gets its number."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        yield lambda: not Path(folder).exists()
        return

    def same() -> bool:
        try:
            return os.path.samestat(os.fstat(handle), Path(folder).stat())
        except FileNotFoundError:
            return False

    try:
        yield same
    finally:
        os.close(handle)


def follow_umask(path: str | Path) -> None:
    """Give a file, or all that is in a folder, the permissions of new files: libraries leave some to their owner alone.

    Args:
        path: a folder that was made plainly, so that its own permissions follow the umask, or a file in one.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    permissions = folder.stat().st_mode & 0o777
    for one in path.rglob("*") if path.is_dir() else [path]:
        if not one.is_symlink():
            mode = one.stat().st_mode & 0o777
            wanted = permissions if one.is_dir() or mode & 0o100 else permissions & 0o666
            if mode != wanted:
                one.chmod(wanted)


@contextmanager
def writing(path: Path, temporary: Path | None = None, advice: str = "") -> Iterator[None]:
    """Tell the user of what keeps `path` from being written; what else goes wrong meanwhile is not about that.

    Args:
        temporary: what is written in the body; errors that name a file elsewhere stay as they are.
        advice: what to do about it.

    Raises:
        InputError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        elsewhere = error.filename is not None and temporary is not None
        if isinstance(error, (ConnectionError, TimeoutError)) or (
            elsewhere and not str(error.filename).startswith(str(temporary))
        ):
            raise
        message = f"cannot write {path}: {_reason(error)}"
        raise InputError(f"{message}; {advice}" if advice else message) from error


def _reason(error: OSError) -> str:
    if error.strerror is None and "requested and" in str(
        error
    ):  # numpy's, of a write that the disk cut short
        return f"{os.strerror(errno.ENOSPC)} ({error})"
    return error.strerror or str(error)


def _fresh(target: Path, make: Callable[[Path], object]) -> Path:
    """A hidden path beside `target` that was not there before `make` made it; those of dead processes are deleted."""
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.{_HOST}-*.tmp"):
        if _ended(leftover.name.split(".")[-2].split("-")[1]):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)
    while True:
        temporary = target.with_name(f".{target.name}.{_HOST}-{os.getpid()}-{secrets.token_hex(4)}.tmp")
        try:
            make(temporary)
        except FileExistsError:
            continue
        return temporary


def _ended(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, ValueError):
        pass
    return False


def _put(new: Path, target: Path) -> Path | None:
    """Move a folder to its place; returns where the one is that was there.

    Raises:
        OSError: it cannot be moved there; both are where they were.
    """
    if not target.exists():
        new.rename(target)
        return None
    if _exchange(new, target):
        return new
    old = target.with_name(f"{new.name}.old")
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise
    return old


def _exchange(one: Path, other: Path) -> bool:
    """Swap two paths in one step (renameat2); False where system or file system has no such step."""
    rename = (
        getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    )
    if rename is None:
        return False
    at_working_folder, exchange = -100, 2
    if rename(at_working_folder, os.fsencode(one), at_working_folder, os.fsencode(other), exchange) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(other))


def settle(path: Path, within: bool = True) -> None:
    """Wait until a file or folder is on the disk: a loss of power cannot take it then.

    Args:
        within: with all that is in the folder; else which names it has alone.
    """
    for one in (path, *(path.rglob("*") if within and path.is_dir() else ())):
        handle = os.open(one, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: str | Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder, and a file is expected") from error
    return json_value(without_mark(content, path), path, path)


def file_sums(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """{name: {"bytes": size, "sha256": checksum}} of files in a folder, for its manifest."""
    return {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_file(folder / name)}
        for name in names
    }


def check_sums(folder: Path, sums: Mapping[str, Mapping[str, Any]], contents: bool, advice: str) -> None:
    """Compare files with what a manifest says of them.

    Args:
        sums: as `file_sums`.
        contents: compare checksums, which reads every file once; else sizes alone.
        advice: what to do about a bad file.

    Raises:
        InputError: a file that is missing, truncated, too long or damaged.
    """
    for name, known in sums.items():
        file = folder / name
        if not file.is_file():
            raise InputError(f"{file} is missing; {advice}")
        size = file.stat().st_size
        if size != known["bytes"]:
            kind = "truncated" if size < known["bytes"] else "too long"
            raise InputError(f"{file} is {kind}: {size:,} bytes, expected {known['bytes']:,}; {advice}")
        if contents and sha256_file(file) != known["sha256"]:
            raise InputError(f"{file} is damaged (its checksum differs); {advice}")


def sha256_file(path: str | Location) -> str:
    """Hex sha256 of a file's bytes."""
    with location(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
