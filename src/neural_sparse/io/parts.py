"""Long work in parts: one file per part, so that a run that was killed goes on with what is missing."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from neural_sparse.errors import InputError
from neural_sparse.io.files import follow_umask, read_json, sha256_file, write_json, writing

logger = logging.getLogger(__name__)

PLAN = "parts.json"
_NAME = re.compile(r"part-(\d{6})-([0-9a-f]{16})\..+")


@contextmanager
def alone(work: Path, output: object) -> Iterator[None]:
    """Be the only process that makes `output`, whose parts wait in `work`; the lock ends with the process.

    Raises:
        InputError: another one is at it; no place to write.
    """
    file = work.with_name(f"{work.name}.lock")
    lock = FileLock(file, timeout=0)
    try:
        work.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise InputError(
            f"another process is at work on {output}; wait for its end, or choose another output"
        ) from error
    except OSError as error:
        raise InputError(f"cannot write {work.parent}: {error.strerror or error}") from error
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        lock.release()


class Parts:
    """A folder that is filled part by part, in any order, by one process or several.

    A part's file is named part-NUMBER-DIGEST, written to a temporary name and renamed, so it is whole or
    absent; its digest is checked once, when the folder is opened, and a damaged part is made again.

    Args:
        folder: made if need be; holds parts.json and the parts.
        settings: all that the parts depend on (JSON values): inputs' hashes, model, options.
        count: number of parts.
        suffix: of a part's file, without the dot.

    Raises:
        InputError: the folder holds parts of other settings (the message names what changed), or something
            else; it cannot be written.
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, Any], count: int, suffix: str) -> None:
        self.folder = Path(folder)
        self.count = count
        self.suffix = suffix
        plan = {**settings, "parts": count}
        if (self.folder / PLAN).is_file():
            before = read_json(self.folder / PLAN)
            if changed := sorted(key for key in {*before, *plan} if before.get(key) != plan.get(key)):
                what = "; ".join(f"{key}: {before.get(key)!r} -> {plan.get(key)!r}" for key in changed)
                raise InputError(
                    f"{self.folder} holds parts of other work ({what}); delete it or choose another output"
                )
        elif self.folder.is_dir() and any(self.folder.iterdir()):
            raise InputError(f"{self.folder} exists and holds something else; choose another output")
        else:
            write_json(self.folder / PLAN, plan)
        for leftover in self.folder.glob(".part-*.tmp"):
            leftover.unlink(missing_ok=True)
        self._files = dict(self._found())

    def _found(self) -> Iterator[tuple[int, Path]]:
        for file in sorted(self.folder.glob(f"part-*.{self.suffix}")):
            name = _NAME.fullmatch(file.name)
            if name is None:
                continue
            if sha256_file(file)[:16] != name[2]:
                logger.warning("%s is damaged; it is made again", file)
                file.unlink(missing_ok=True)
                continue
            yield int(name[1]), file

    def missing(self) -> list[int]:
        """Numbers of the parts still to be made."""
        return [number for number in range(self.count) if number not in self._files]

    @contextmanager
    def write(self, number: int) -> Iterator[Path]:
        """Yield a temporary path; what is written there becomes part `number`.

        Raises:
            InputError: the disk is full, or the folder cannot be written.
        """
        temporary = self.folder / f".part-{number:06d}-{os.getpid()}.tmp"
        try:
            with writing(self.folder, self.folder):
                yield temporary
                follow_umask(temporary)
                target = self.folder / f"part-{number:06d}-{sha256_file(temporary)[:16]}.{self.suffix}"
                temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        self._files[number] = target

    def size(self, number: int) -> int:
        """Bytes of a part that has been made, by this process or another."""
        return self._file(number).stat().st_size

    def file(self, number: int) -> Path:
        """A part that is not missing."""
        return self._files[number]

    def files(self) -> list[Path]:
        """The parts in order; call it when none is missing."""
        return [self._file(number) for number in range(self.count)]

    def _file(self, number: int) -> Path:
        if number not in self._files:  # another process has written it
            self._files[number] = next(self.folder.glob(f"part-{number:06d}-*.{self.suffix}"))
        return self._files[number]

    def remove(self) -> None:
        """Delete the folder, once what it was for is written."""
        shutil.rmtree(self.folder)
