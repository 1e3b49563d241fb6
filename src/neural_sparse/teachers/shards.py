"""An append-only table on disk: rows under 16-byte keys, in memory-mapped safetensors files.

A shard file is named after its own content, written to a temporary name and renamed; the manifest, replaced
in one step, lists the shards to believe. So a process killed at any moment leaves the last complete state,
plus at most files the manifest does not name, which the next writer removes.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from safetensors.numpy import save

from neural_sparse.errors import InputError
from neural_sparse.io.files import read_json, replacing, sha256_file, write_json
from neural_sparse.teachers.rows import Arrays, Matrix, StoredVectors, concatenate, pack, size, without_first
from neural_sparse.text.keys import GrowingIndex, Keys, as_keys

logger = logging.getLogger(__name__)

KEY_BYTES = 16
LARGEST_MERGE = 65_536  # rows; more would rewrite too much, less would leave too many files
_ENTRY_KEYS = ("file", "sha256", "bytes", "shapes")
_DTYPES = {"U8": np.uint8, "F16": np.float16, "F32": np.float32, "I32": np.int32, "I64": np.int64}


class Shards:
    """Rows under keys, in `folder` (made on the first write) or, without one, in memory.

    Attributes:
        damaged: File names of shards that failed verification and are not used.
    """

    def __init__(self, folder: Path | None, identity: dict[str, Any]) -> None:
        self.folder = folder
        self.identity = identity
        self.damaged: list[str] = []
        self._entries: list[dict[str, Any]] = []
        self._parts: list[Arrays] = []
        self._index = GrowingIndex()
        self._forgotten = 0  # rows
        self.refresh()

    def __len__(self) -> int:
        return sum(len(part["keys"]) for part in self._parts)

    @property
    def bytes(self) -> int:
        """On disk; in memory without a folder."""
        if self.folder is None:
            return sum(map(size, self._parts))
        return sum(entry["bytes"] for entry in self._entries)

    def rows(self) -> StoredVectors:
        """What the table holds now; stays valid whatever is appended later."""
        return StoredVectors(tuple(self._parts))

    def find(self, keys: Keys) -> NDArray[np.int64]:
        """Row number of each key [n, 2], -1 for those the table lacks."""
        return np.maximum(self._index.find(keys) - self._forgotten, -1)

    def forget(self, wanted: int) -> None:
        """Drop the oldest rows of a table in memory, until `wanted` bytes are free or nothing is left.

        Row numbers found before count in the `rows` of that time alone.
        """
        count = 0
        while self._parts and wanted > 0:
            part = self._parts[0]
            rows, held = len(part["keys"]), size(part)
            drop = min(rows, -(-rows * wanted // held))
            self._parts[:1] = [without_first(part, drop)] if drop < rows else []
            count += drop
            wanted -= held
        self._forgotten += count
        self._index.forget(count)

    def append(self, keys: Keys, matrix: Matrix) -> None:
        """Add rows; call it inside `writing`.

        Small shards at the end are merged with the new rows, so that many small additions do not leave
        many files, while each row is rewritten only a few times.

        Raises:
            InputError: the disk is full or the folder cannot be written.
        """
        new = {
            "keys": np.ascontiguousarray(keys).view(np.uint8).reshape(-1, KEY_BYTES),
            **pack(matrix, sparse_values=np.float16),
        }
        keep = len(self._parts)
        rows = len(keys)
        while keep and len(self._parts[keep - 1]["keys"]) <= rows <= LARGEST_MERGE:
            keep -= 1
            rows += len(self._parts[keep]["keys"])
        if merged := self._parts[keep:]:
            new = concatenate([*merged, new])
        replaced = self._entries[keep:]
        if self.folder is None:
            self._parts[keep:] = [new]
        else:
            entry = _write(self.folder, new)
            entries = [*self._entries[:keep], entry]
            write_json(self.folder / "manifest.json", {"identity": self.identity, "shards": entries})
            self._entries = entries
            self._parts[keep:] = [_map(self.folder / entry["file"])]
            for old in replaced:
                (self.folder / old["file"]).unlink(missing_ok=True)
        self._index.add(keys)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the folder's lock (released even if the process is killed); see what others have written."""
        if self.folder is None:
            yield
            return

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / "lock")
            try:
                lock.acquire(timeout=1)
            except Timeout:
                logger.warning("%s: waiting for another process that fills it", self.folder)
                lock.acquire()
        except OSError as error:
            raise InputError(
                f"cannot write the teacher cache {self.folder}: {error.strerror or error}"
            ) from error
        try:
            self.refresh()
            self._sweep()
            yield
        finally:
            lock.release()

    def refresh(self) -> None:
        """Read the manifest again; shards new to this object are verified before they are believed."""
        entries = self._listed()
        known = {entry["file"]: part for entry, part in zip(self._entries, self._parts, strict=True)}
        kept: list[tuple[dict[str, Any], Arrays]] = []
        for entry in entries:
            part = known.get(entry["file"]) or self._verified(entry)
            if part is not None:
                kept.append((entry, part))
        if self.folder is not None and [entry for entry, _ in kept] != self._entries:
            self._entries = [entry for entry, _ in kept]
            self._parts = [part for _, part in kept]
            self._index = GrowingIndex()
            for part in self._parts:
                self._index.add(as_keys(part["keys"]))

    def _listed(self) -> list[dict[str, Any]]:
        if self.folder is None or not (manifest := self.folder / "manifest.json").is_file():
            return []
        try:
            return [{key: entry[key] for key in _ENTRY_KEYS} for entry in read_json(manifest)["shards"]]
        except (InputError, KeyError, TypeError, ValueError) as error:
            self._report(manifest, error)
            return []

    def _verified(self, entry: dict[str, Any]) -> Arrays | None:
        assert self.folder is not None
        path = self.folder / entry["file"]
        try:
            if path.stat().st_size != entry["bytes"]:
                raise ValueError(f"{path.stat().st_size} bytes instead of {entry['bytes']}")
            if sha256_file(path) != entry["sha256"]:
                raise ValueError("its content does not match its sha256")
            part = _map(path)
            if (shapes := _shapes(part)) != entry["shapes"]:
                raise ValueError(f"shapes {shapes} instead of {entry['shapes']}")
        except (FileNotFoundError, ValueError, KeyError) as error:  # one that may not be read is not damaged
            self._report(path, error)
            return None
        return part

    def _report(self, path: Path, error: Exception) -> None:
        if path.name not in self.damaged:
            logger.warning("%s is damaged (%s): its texts are encoded again", path, error)
            self.damaged.append(path.name)

    def _sweep(self) -> None:
        """Remove what a killed writer left, and damaged shards."""
        assert self.folder is not None
        listed = {entry["file"] for entry in self._entries}
        for path in self.folder.glob("*.safetensors"):
            if path.name not in listed:
                path.unlink(missing_ok=True)
        for path in self.folder.glob(".*.tmp"):
            path.unlink(missing_ok=True)


def _write(folder: Path, arrays: Arrays) -> dict[str, Any]:
    content = save(arrays)
    digest = hashlib.sha256(content).hexdigest()
    name = f"{digest[:16]}.safetensors"
    try:
        with replacing(folder / name) as temporary:
            temporary.write_bytes(content)
    except OSError as error:  # the folder itself cannot be written
        raise InputError(f"cannot write the teacher cache {folder}: {error.strerror or error}") from error
    return {"file": name, "sha256": digest, "bytes": len(content), "shapes": _shapes(arrays)}


def _shapes(arrays: Arrays) -> dict[str, list[int]]:
    return {name: list(array.shape) for name, array in sorted(arrays.items())}


def _map(path: Path) -> Arrays:
    """The arrays of a safetensors file without reading them: views into a memory map."""
    content = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
    start = 8 + int.from_bytes(content[:8].tobytes(), "little")
    header = json.loads(content[8:start].tobytes())
    arrays: Arrays = {}
    for name, spec in header.items():
        if name != "__metadata__":
            begin, end = (start + offset for offset in spec["data_offsets"])
            arrays[name] = content[begin:end].view(_DTYPES[spec["dtype"]]).reshape(spec["shape"])
    return arrays
