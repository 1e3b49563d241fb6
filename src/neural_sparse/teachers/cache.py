"""Each text is encoded once per teacher: vectors on disk, memory-mapped, keyed by teacher and content."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from neural_sparse.errors import InputError
from neural_sparse.io.resources import require_space
from neural_sparse.teachers.devices import encode_blocks
from neural_sparse.teachers.rows import Matrix, StoredVectors, batches
from neural_sparse.teachers.shards import KEY_BYTES, LARGEST_MERGE, Shards
from neural_sparse.teachers.token_batches import Split, by_count
from neural_sparse.text.keys import Keys, as_keys, first_occurrence
from neural_sparse.work.progress import progress
from neural_sparse.work.workers import Engine

OTHER_PLACE = "make room, or name a folder on another disk as the teacher cache"
MEMORY = 1 << 30  # bytes
Item = TypeVar("Item", str, tuple[str, str])


@dataclass(frozen=True)
class EncodingJob(Generic[Item]):
    """Items whose vectors a teacher needs.

    Attributes:
        name: of the teacher: shown in the progress bar and in the folder's name.
        identity: all that the vectors depend on (JSON values); another identity, another folder.
        items: texts, or (query, document) pairs; equal ones share a row.
        encode: vectors of a batch of items of similar length, one row each.
        batch_size: items that are encoded at once.
        batches: how a block of items is split instead.
        at_start: called before anything is encoded, and not where all is there already.
        before: called then, too, with the folder of the vectors (None in memory) and the items that are missing.
        engine: does the batches, each written as soon as those before it are; in place of the cache's devices.
    """

    name: str
    identity: Mapping[str, Any]
    items: Sequence[Item]
    encode: Callable[[list[Item]], Matrix]
    batch_size: int
    at_start: Callable[[], object] = lambda: None
    batches: Split | None = None
    before: Callable[[Path | None, Iterable[Item]], object] = lambda folder, missing: None
    engine: Engine | None = None

    @property
    def split(self) -> Split:
        return self.batches or partial(by_count, self.batch_size)


class TeacherCache:
    """A folder of teacher vectors.

    Under `folder` every teacher has a folder of its own, named after the teacher and a hash of its identity
    (weights and settings). Without `folder` the cache lives in memory and ends with the process.

    Args:
        memory: bytes that a cache without a folder keeps between calls; the vectors made longest ago go first.
        devices: encode more than a block with a process for each ("cuda:0", "cuda:1", or "cpu" several
            times); in this process, where the teacher says, if there are fewer than two. The bytes
            written are those that one such device alone would write.
        engine: encodes more than a block elsewhere, such as `RayEngine`.

    Raises:
        InputError: the folder is a URL.

    Attributes:
        encoded: How many texts (or pairs) each teacher really encoded through this object.
        block: Texts encoded between two writes to disk: what a kill can lose.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        block: int = 1024,
        devices: Sequence[str] = (),
        engine: Engine | None = None,
        memory: int = MEMORY,
    ) -> None:
        if "://" in str(folder):
            raise InputError(
                f"teacher cache {folder}: vectors are memory-mapped; name a folder on a disk, which may be a shared one"
            )
        self.folder = Path(folder).expanduser() if folder is not None else None
        self.block = block
        self.devices = tuple(devices)
        self.engine = engine
        self.memory = memory
        self.encoded: Counter[str] = Counter()
        self._shards: dict[str, Shards] = {}

    def __getstate__(self) -> dict[str, Any]:
        """In another process: empty and in memory, since this one writes the folder."""
        return {**vars(TeacherCache(block=self.block, memory=self.memory)), "encoded": Counter()}

    def rows(self, job: EncodingJob[Item]) -> tuple[StoredVectors, NDArray[np.int64]]:
        """Vectors of the items, encoding those that are not there yet.

        Returns:
            All rows of this teacher, and the row number of each item [items].

        Raises:
            InputError: an item is no text, the teacher gave NaN or infinity, the folder cannot be written, or the
                disk will not hold what is missing (seen after the first block).
        """
        keys = _keys(job.items)
        shards = self._open(job)
        found = shards.find(keys)
        if (found < 0).any():
            job.at_start()
            with shards.writing():
                self._fill(job, shards, keys)
            found = shards.find(keys)
        rows = shards.rows()
        if self.folder is None:
            self._forget()
        return rows, found

    def _forget(self) -> None:
        """Keep to the bound; by an eighth more than needed, so that it is seldom done."""
        held = {name: shards.bytes for name, shards in self._shards.items()}
        if (total := sum(held.values())) > self.memory:
            for name, share in held.items():  # each its part: what a step needs is in all of them
                self._shards[name].forget(round((total - self.memory * 7 / 8) * share / total))

    def missing(self, job: EncodingJob[Item]) -> NDArray[np.int64]:
        """Positions, in order, of the items that would be encoded; of equal ones the first."""
        return _missing(self._open(job), _keys(job.items))

    def bytes_on_disk(self, job: EncodingJob[Item]) -> int:
        """What this teacher's vectors take."""
        return self._open(job).bytes

    def _open(self, job: EncodingJob[Item]) -> Shards:
        digest = hashlib.sha256(json.dumps(job.identity, sort_keys=True).encode()).hexdigest()[:16]
        folder_name = f"{re.sub('[^A-Za-z0-9.]+', '-', job.name)[-60:].strip('-.')}-{digest}"
        if folder_name not in self._shards:
            folder = self.folder / folder_name if self.folder is not None else None
            self._shards[folder_name] = Shards(folder, dict(job.identity))
        return self._shards[folder_name]

    def _fill(self, job: EncodingJob[Item], shards: Shards, keys: Keys) -> None:
        missing = _missing(shards, keys)
        job.before(shards.folder, (_clean(job.items[row]) for row in missing.tolist()))
        size = job.batch_size if job.engine else self.block
        blocks: deque[NDArray[np.int64]] = deque()

        def texts_of_blocks() -> Iterator[list[Item]]:
            for block in batches(len(missing), size):
                rows = missing[block]
                items = [_clean(job.items[row]) for row in rows.tolist()]
                # Longest first: padding is small, and too little memory shows at once.
                order = np.argsort([-item_length(item) for item in items], kind="stable")
                blocks.append(rows[order])
                yield [items[place] for place in order.tolist()]

        several = len(missing) > self.block and job.engine is None
        with progress(len(missing), f"encode {job.name}", "texts") as advance:
            left = len(missing)
            for items, matrix in encode_blocks(
                texts_of_blocks(),
                job.name,
                job.encode,
                job.split,
                devices=self.devices if several else (),
                engine=job.engine or (self.engine if several else None),
                weights=job.identity.get("weights"),
                advance=advance,
            ):
                self.encoded[job.name] += len(items)
                shards.append(keys[blocks.popleft()], matrix)
                if left == len(missing) and self.folder is not None:  # now it is known how much a row takes
                    needed = (left - len(items) + min(left, LARGEST_MERGE)) * shards.bytes / len(shards)
                    require_space(self.folder, needed, f"encoding with {job.name}", OTHER_PLACE)
                left -= len(items)


def _missing(shards: Shards, keys: Keys) -> NDArray[np.int64]:
    missing = np.flatnonzero(shards.find(keys) < 0)
    return missing[first_occurrence(keys[missing]) == np.arange(len(missing))]


def _clean(item: Item) -> Item:
    """The item with lone surrogates replaced, which neither a file nor a tokenizer can take."""
    if isinstance(item, tuple):
        return _clean(item[0]), _clean(item[1])
    if not isinstance(item, str):
        raise InputError(f"expected a text, found {type(item).__name__}: {item!r:.80}")
    return item if item.isascii() else item.encode("utf-8", "replace").decode("utf-8")


def _keys(items: Sequence[Item]) -> Keys:
    """16-byte content hashes; a pair's is that of its two texts, the query's length in front."""
    digests = bytearray()
    for item in map(_clean, items):  # one at a time: items may be a view of more than fits in memory
        if isinstance(item, tuple):
            query = item[0].encode()
            content = len(query).to_bytes(8, "little") + query + item[1].encode()
        else:
            content = item.encode()
        digests += hashlib.blake2b(content, digest_size=KEY_BYTES).digest()
    return as_keys(digests)


def item_length(item: str | tuple[str, str]) -> int:
    """Characters: items are encoded longest first."""
    return len(item) if isinstance(item, str) else len(item[0]) + len(item[1])
