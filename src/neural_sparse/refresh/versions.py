"""Versions of a query side in a folder, numbered, of which one is in use; and the way back."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neural_sparse.errors import InputError
from neural_sparse.io.files import read_json, replacing_folder, writing

CURRENT, FOLDER = "current", "versions"
ABOUT = "refresh.json"  # what stands in each version


class Versions:
    """A folder with versions/0001, versions/0002, ... and `current`, a symbolic link to the one in use.

    The link is replaced in one step: who opens current/query finds a whole version, the old or the new one.

    Raises:
        InputError: the folder holds something else.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder} is a file; choose another --output")
        if self.folder.is_dir() and any(self.folder.iterdir()) and not (self.folder / FOLDER).is_dir():
            raise InputError(
                f"{self.folder} exists and holds something else (no {FOLDER}/); choose another --output"
            )

    def numbers(self) -> list[int]:
        """Of all versions, in order."""
        found = (self.folder / FOLDER).glob("[0-9]*")
        return sorted(int(one.name) for one in found if one.name.isdigit() and (one / ABOUT).is_file())

    @property
    def current(self) -> int | None:
        """Number of the version in use."""
        link = self.folder / CURRENT
        return int(link.readlink().name) if link.is_symlink() else None

    def place(self, number: int) -> Path:
        return self.folder / FOLDER / f"{number:04d}"

    def about(self, number: int) -> dict[str, Any]:
        """What `refresh` said when it wrote the version."""
        return read_json(self.place(number) / ABOUT)

    @contextmanager
    def adding(self) -> Iterator[tuple[int, Path]]:
        """Number and folder of a new version; it is there, whole, after the body. It is not yet in use."""
        number = max(self.numbers(), default=0) + 1
        with replacing_folder(self.place(number)) as folder:
            yield number, folder

    def use(self, number: int) -> None:
        """Make a version the current one.

        Raises:
            InputError: there is no such version; the link cannot be made.
        """
        if number not in self.numbers():
            known = ", ".join(map(str, self.numbers())) or "none"
            raise InputError(f"{self.folder} has no version {number}; there are: {known}")
        link = self.folder / CURRENT
        with writing(link):
            temporary = self.folder / f".{CURRENT}-{secrets.token_hex(4)}"
            temporary.symlink_to(Path(FOLDER) / self.place(number).name)
            temporary.replace(link)

    def back(self, number: int | None = None) -> int:
        """Use an earlier version again: the one that the current one was made from, or `number`.

        Raises:
            InputError: there is none.
        """
        now = self.current
        if now is None:
            raise InputError(f"{self.folder} holds no versions; `neural-sparse refresh` writes them")
        if number is None:
            number = self.about(now)["from"]
        if number is None:
            raise InputError(f"{self.folder}: version {now} is the first; there is nothing to go back to")
        self.use(number)
        return number
