"""Files that are not on this machine's disk: anything that fsspec reads and writes (s3://, gs://, hf://, ...)."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from neural_sparse.errors import InputError

READ_AHEAD = 4 << 20  # bytes asked for at a time
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}


@dataclass(frozen=True)
class Url:
    """A place on another file system; as much of `pathlib.Path` as reading a file needs.

    Every method raises InputError where the file system cannot be reached: the package to install, the
    missing file, or what the server says.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> Url:
        return Url(f"{self.url.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        return self.url.rstrip("/").rpartition("/")[2]

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    def is_file(self) -> bool:
        with self._system() as (system, path):
            return system.isfile(path)

    def is_dir(self) -> bool:
        with self._system() as (system, path):
            return system.isdir(path)

    def size(self) -> int:
        with self._system() as (system, path):
            return int(system.size(path))

    def open(self, mode: str = "rb") -> IO[bytes]:
        """A file to read; it can seek."""
        with self._system() as (system, path):
            return system.open(path, mode, block_size=READ_AHEAD)

    def put(self, file: Path) -> None:
        """Upload a file; other readers see all of it or nothing, where the file system can do that."""
        with self._system() as (system, path):
            system.makedirs(system._parent(path), exist_ok=True)
            system.put_file(str(file), path)

    def get(self, file: Path) -> None:
        with self._system() as (system, path):
            system.get_file(path, str(file))

    def remove(self) -> None:
        """Delete this file, if there is one."""
        with self._system() as (system, path):
            if system.isfile(path):
                system.rm_file(path)

    def files(self) -> list[str]:
        """Paths of all files beneath, relative to this one."""
        with self._system() as (system, path):
            system.invalidate_cache()
            if not system.exists(path):
                return []
            root = path.rstrip("/") + "/"
            return sorted(found.removeprefix(root) for found in system.find(path) if found != path)

    @contextmanager
    def _system(self) -> Iterator[tuple[Any, str]]:
        import fsspec

        try:
            yield fsspec.core.url_to_fs(self.url)
        except ImportError as error:
            package = _PACKAGES.get(self.url.partition("://")[0], "the package for it")
            raise InputError(f"{self.url}: install {package} to reach this file system ({error})") from error
        except FileNotFoundError as error:
            raise InputError(f"{self.url}: no such file") from error
        except Exception as error:  # each file system has its own kinds: credentials, network, protocol
            reason = str(error) or type(error).__name__
            raise InputError(f"{self.url}: {reason}") from error


Location = Path | Url


def location(path: str | Location) -> Location:
    """A path on this disk, or what an address with :// means; file:// is this disk, too."""
    if isinstance(path, Url):
        return path
    text = str(path)
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    return Url(text) if "://" in text else Path(path)


def size_of(place: Location) -> int:
    """Bytes of a file."""
    return place.size() if isinstance(place, Url) else place.stat().st_size


def work_folder(output: Location) -> Path:
    """Where the parts of an output wait: hidden beside it; under outputs/ for what goes to a URL."""
    if isinstance(output, Url):
        digest = hashlib.sha256(output.url.encode()).hexdigest()[:8]
        return Path("outputs") / f".{output.name}-{digest}.parts"
    return output.parent / f".{output.name}.parts"


@contextmanager
def written_to(output: Location) -> Iterator[Path]:
    """A path on this disk; what is written there is uploaded at the end if `output` is a URL."""
    if not isinstance(output, Url):
        yield output
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / output.name
        yield path
        output.put(path)


@contextmanager
def read_from(source: Location) -> Iterator[Path]:
    """A path on this disk; a copy, for as long as the block lasts, if `source` is a URL."""
    if not isinstance(source, Url):
        yield source
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / source.name
        source.get(path)
        yield path


def upload_folder(folder: Path, target: Url, last: str) -> None:
    """Replace the folder at `target`, so that one which has its file `last` is whole.

    Raises:
        InputError: what the file system says; the folder there then lacks `last`.
    """
    (target / last).remove()
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    for name in names:
        if name != last:
            (target / name).put(folder / name)
    for name in set(target.files()) - set(names):
        (target / name).remove()
    (target / last).put(folder / last)
