"""An index as a folder: index.json and one .npy file per array, each with its checksum.

The arrays are mapped, not read: loading is instant (but for the checksums), and the operating system keeps
in memory the posting lists that are used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neural_sparse.errors import InputError
from neural_sparse.files import (
    check_output_folder,
    check_sums,
    file_sums,
    read_json,
    reading_folder,
    replacing_folder,
    write_json,
)
from neural_sparse.search.doc_ids import DocumentIds
from neural_sparse.search.postings import Postings

FORMAT = "neural-sparse index 1"
MANIFEST = "index.json"
ARRAYS = ("offsets", "docs", "impacts", "id_text", "id_offsets")


def save(
    folder: str | Path,
    postings: Postings,
    doc_ids: DocumentIds,
    vocabulary: str | None,
    beside: Mapping[str, Any] | None = None,
) -> None:
    """Write the index; an existing folder is replaced when everything is on disk.

    Args:
        beside: {file name: JSON value} of what else belongs to the index.

    Raises:
        InputError: the folder exists and is no index, or cannot be written.
    """
    folder = check_output_folder(folder, MANIFEST)
    arrays: dict[str, NDArray[Any]] = {
        "offsets": postings.offsets,
        "docs": postings.docs,
        "impacts": postings.impacts,
        "id_text": doc_ids.text,
        "id_offsets": doc_ids.offsets,
    }
    with replacing_folder(folder) as temporary:
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", array, allow_pickle=False)
        for name, value in (beside or {}).items():
            write_json(temporary / name, value)
        write_manifest(
            temporary, postings.n_docs, postings.vocab_size, postings.scale, vocabulary, tuple(beside or ())
        )


def write_manifest(
    folder: Path,
    n_docs: int,
    vocab_size: int,
    scale: float,
    vocabulary: str | None,
    beside: Sequence[str] = (),
) -> None:
    """Write index.json beside the finished arrays and other files; it names their sizes and checksums."""
    sums = file_sums(folder, [*map(_file, ARRAYS), *beside])
    files = {name.removesuffix(".npy"): known for name, known in sums.items()}
    write_json(
        folder / MANIFEST,
        {
            "format": FORMAT,
            "documents": n_docs,
            "vocabulary_size": vocab_size,
            "vocabulary": vocabulary,
            "scale": scale,
            "files": files,
        },
    )


def load(folder: str | Path, verify: bool) -> tuple[Postings, DocumentIds, str | None]:
    """Map an index from disk; its posting lists are the caller's to check (`Postings.check`).

    Args:
        verify: Compare every file with its checksum (reads the index once). Sizes are always compared.

    Raises:
        InputError: no index, of another format, or a file that is missing, truncated or altered.
    """
    return reading_folder(folder, lambda: _load(Path(folder), verify))


def _load(folder: Path, verify: bool) -> tuple[Postings, DocumentIds, str | None]:
    if not (folder / MANIFEST).is_file():
        raise InputError(f"{folder}: no index here (it lacks {MANIFEST})")
    manifest = read_json(folder / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise InputError(
            f"{folder / MANIFEST}: expected format {FORMAT!r}, found {found!r}; build the index anew"
        )
    try:
        sums = {_file(name): manifest["files"][name] for name in (*ARRAYS, *manifest["files"])}
        check_sums(folder, sums, verify, "copy or build the index again")
        arrays = {name: _map(folder / _file(name)) for name in ARRAYS}
        n_docs, width = int(manifest["documents"]), int(manifest["vocabulary_size"])
        scale, vocabulary = float(manifest["scale"]), manifest["vocabulary"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / MANIFEST}: lacks {error}; build the index anew") from error
    offsets, docs, impacts = arrays["offsets"], arrays["docs"], arrays["impacts"]
    id_text, id_offsets = arrays["id_text"], arrays["id_offsets"]
    # The kernels do not check bounds, so what they rely on is checked here.
    sound = (
        _ascending(offsets, len(docs), np.int64)
        and len(offsets) == width + 1
        and _ascending(id_offsets, len(id_text), np.int64)
        and len(id_offsets) == n_docs + 1
        and docs.dtype == np.int32
        and impacts.dtype in (np.float32, np.uint8)
        and len(docs) == len(impacts)
        and id_text.dtype == np.uint8
    )
    if not sound:
        raise InputError(f"{folder}: the arrays contradict each other; build the index anew")
    return Postings(offsets, docs, impacts, n_docs, scale), DocumentIds(id_text, id_offsets), vocabulary


def _file(name: str) -> str:
    """Of a file as the manifest names it: arrays without their suffix."""
    return f"{name}.npy" if name in ARRAYS else name


def _map(file: Path) -> NDArray[Any]:
    try:
        # An ndarray over the map: numba and numpy are slower on the memmap class itself.
        mapped = np.load(file, mmap_mode="r", allow_pickle=False)
        return np.asarray(mapped) if mapped.size else np.array(mapped)
    except ValueError as error:
        raise InputError(f"{file} is no array ({error}); copy or build the index again") from error


def _ascending(offsets: NDArray[Any], total: int, dtype: type) -> bool:
    return bool(
        offsets.ndim == 1
        and offsets.dtype == dtype
        and len(offsets)
        and offsets[0] == 0
        and offsets[-1] == total
        and (offsets[1:] >= offsets[:-1]).all()
    )
