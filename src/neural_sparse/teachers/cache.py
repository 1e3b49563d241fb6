"""Each text is encoded once per teacher: vectors on disk, memory-mapped, keyed by teacher and content."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, vstack
from tqdm.auto import tqdm

from neural_sparse.errors import InputError
from neural_sparse.teachers.rows import Matrix, Rows, batches
from neural_sparse.teachers.shards import KEY_BYTES, Keys, Shards

Item = TypeVar("Item", str, tuple[str, str])


class TeacherCache:
    """A folder of teacher vectors.

    Under `folder` every teacher has a folder of its own, named after the teacher and a hash of its identity
    (weights and settings). Without `folder` the cache lives in memory and ends with the process.

    Attributes:
        encoded: How many texts (or pairs) each teacher really encoded through this object.
        block: Texts encoded between two writes to disk: what a kill can lose.
    """

    def __init__(self, folder: str | Path | None = None, block: int = 1024) -> None:
        self.folder = Path(folder).expanduser() if folder is not None else None
        self.block = block
        self.encoded: Counter[str] = Counter()
        self._shards: dict[str, Shards] = {}

    def rows(
        self,
        name: str,
        identity: Mapping[str, Any],
        items: Sequence[Item],
        encode: Callable[[list[Item]], Matrix],
        batch_size: int,
    ) -> tuple[Rows, NDArray[np.int64]]:
        """Vectors of texts, or of (query, document) pairs, encoding those that are not there yet.

        Args:
            name: Of the teacher: shown in the progress bar and in the folder's name.
            identity: All that the vectors depend on (JSON values); another identity, another folder.
            items: Texts or pairs; equal ones share a row.
            encode: Vectors of at most `batch_size` items of similar length, one row each.

        Returns:
            All rows of this teacher, and the row number of each item [items].

        Raises:
            InputError: an item is no text, the teacher gave NaN or infinity, the folder cannot be written.
        """
        items = [_clean(item) for item in items]
        keys = _keys(items)
        shards = self._open(name, identity)
        found = shards.find(keys)
        if (found < 0).any():
            with shards.writing():
                self._fill(name, shards, items, keys, encode, batch_size)
            found = shards.find(keys)
        return shards.rows(), found

    def _open(self, name: str, identity: Mapping[str, Any]) -> Shards:
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        folder_name = f"{re.sub('[^A-Za-z0-9.]+', '-', name)[-60:].strip('-.')}-{digest}"
        if folder_name not in self._shards:
            folder = self.folder / folder_name if self.folder is not None else None
            self._shards[folder_name] = Shards(folder, dict(identity))
        return self._shards[folder_name]

    def _fill(
        self,
        name: str,
        shards: Shards,
        items: list[Item],
        keys: Keys,
        encode: Callable[[list[Item]], Matrix],
        batch_size: int,
    ) -> None:
        missing = np.flatnonzero(shards.find(keys) < 0)
        first_of_equals = np.unique(_as_bytes(keys[missing]), return_index=True)[1]
        missing = missing[np.sort(first_of_equals)]
        with tqdm(total=len(missing), desc=f"encode {name}", unit=" texts", disable=None) as progress:
            for block in batches(len(missing), self.block):
                wanted = missing[block]
                # Longest first: padding is small, and too little memory shows at once.
                order = np.argsort([-_length(items[i]) for i in wanted], kind="stable")
                pieces: list[Matrix] = []
                for piece in batches(len(wanted), batch_size):
                    texts = [items[i] for i in wanted[order[piece]]]
                    pieces.append(_checked(encode(texts), name, texts))
                    self.encoded[name] += len(texts)
                    progress.update(len(texts))
                shards.append(keys[wanted[order]], _stack(pieces))


def _clean(item: Item) -> Item:
    """The item with lone surrogates replaced, which neither a file nor a tokenizer can take."""
    if isinstance(item, tuple):
        return _clean(item[0]), _clean(item[1])
    if not isinstance(item, str):
        raise InputError(f"expected a text, found {type(item).__name__}: {item!r:.80}")
    return item if item.isascii() else item.encode("utf-8", "replace").decode("utf-8")


def _keys(items: Sequence[str] | Sequence[tuple[str, str]]) -> Keys:
    """16-byte content hashes [items, 16]; a pair's is that of its two texts, the query's length in front."""
    digests = bytearray()
    for item in items:
        if isinstance(item, tuple):
            query = item[0].encode()
            content = len(query).to_bytes(8, "little") + query + item[1].encode()
        else:
            content = item.encode()
        digests += hashlib.blake2b(content, digest_size=KEY_BYTES).digest()
    return np.frombuffer(bytes(digests), dtype=np.uint8).reshape(-1, KEY_BYTES)


def _as_bytes(keys: Keys) -> NDArray:
    return np.ascontiguousarray(keys).view(f"V{KEY_BYTES}").reshape(len(keys))


def _length(item: str | tuple[str, str]) -> int:
    return len(item) if isinstance(item, str) else len(item[0]) + len(item[1])


def _checked(matrix: Matrix, name: str, items: Sequence[object]) -> Matrix:
    values = matrix.data if isinstance(matrix, csr_matrix) else matrix
    if not np.isfinite(values).all():
        raise InputError(
            f"teacher {name} gave NaN or infinite values for one of these texts: {items!s:.200}; "
            "its weights may be damaged, or its values too large for 16 bits"
        )
    if matrix.shape[0] != len(items):
        raise ValueError(f"teacher {name} gave {matrix.shape[0]} rows for {len(items)} texts")
    return matrix


def _stack(pieces: list[Matrix]) -> Matrix:
    if isinstance(pieces[0], csr_matrix):
        sparse_pieces: Any = pieces
        return csr_matrix(vstack(sparse_pieces, format="csr"))
    return np.concatenate([np.asarray(piece) for piece in pieces])
