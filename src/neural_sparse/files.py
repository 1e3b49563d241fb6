"""Reading and writing files so that nothing is ever half written or silently malformed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neural_sparse.errors import InputError
from neural_sparse.urls import Location, location


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it replaces `path`, on any error it is removed."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """As `replacing`, for a whole folder; an existing folder at `path` is replaced at the end."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        yield temporary
        temporary.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid JSON ({error})") from error


def read_jsonl(
    path: str | Location, required: tuple[str, ...] = (), start: int = 0, end: int | None = None
) -> Iterator[dict[str, Any]]:
    """Yield one object per non-blank line.

    Args:
        required: keys that every object must have.
        start, end: only the lines whose first byte is in this range of the file.

    Raises:
        InputError: a missing file, a line that is no JSON object, or one that lacks a `required` key;
            the message names the file and the line.
    """
    path = location(path)
    for offset, line in lines_between(path, start, end):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path}, line {line_number(path, offset)}: not valid JSON ({error})") from error
        if not isinstance(row, dict):
            raise InputError(
                f"{path}, line {line_number(path, offset)}: expected a JSON object, found {type(row).__name__}"
            )
        if missing := [key for key in required if key not in row]:
            raise InputError(
                f"{path}, line {line_number(path, offset)}: lacks {', '.join(map(repr, missing))} "
                f"(has {', '.join(map(repr, row))})"
            )
        yield row


def lines_between(
    path: str | Location, start: int = 0, end: int | None = None
) -> Iterator[tuple[int, bytes]]:
    """Offset and bytes of each line whose first byte is in [start, end): ranges that meet share no line.

    Raises:
        InputError: no such file.
    """
    path = location(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with path.open("rb") as file:
        offset = start
        if start:  # the line that holds the byte before began in an earlier range
            file.seek(start - 1)
            offset += len(file.readline()) - 1
        for line in file:
            if end is not None and offset >= end:
                return
            yield offset, line
            offset += len(line)


def line_number(path: str | Location, offset: int) -> int:
    """Number, from 1, of the line at a byte offset; reads the file up to there."""
    with location(path).open("rb") as file:
        lines = 1
        while offset > 0 and (block := file.read(min(offset, 1 << 20))):
            lines += block.count(b"\n")
            offset -= len(block)
        return lines


def sha256_file(path: str | Location) -> str:
    """Hex sha256 of a file's bytes."""
    with location(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
