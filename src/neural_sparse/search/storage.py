"""An index as a folder: index.json and one .npy file per array, each with its checksum.

The arrays are mapped, not read: loading is instant (but for the checksums), and the operating system keeps
in memory the posting lists that are used.

It is built from a stream of vectors in bounded memory: rows are collected until the budget is reached, inverted and
written as a segment; in the end, ranges of terms are read from all segments (a range is one contiguous piece of each)
and written one after another.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from neural_sparse.errors import InputError
from neural_sparse.io.files import (
    check_output_folder,
    check_sums,
    file_sums,
    read_json,
    reading_folder,
    replacing_folder,
    write_json,
)
from neural_sparse.search import storage
from neural_sparse.search.doc_ids import DocumentIds
from neural_sparse.search.postings import (
    MAX_DOCS,
    Postings,
    append_kept,
    append_terms,
    checked_vectors,
    count_kept,
    impact_step,
    invert,
    to_steps,
)
from neural_sparse.text.ragged import offsets_of

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
            temporary,
            postings.n_docs,
            vocab_size=postings.vocab_size,
            scale=postings.scale,
            vocabulary=vocabulary,
            beside=tuple(beside or ()),
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
    return (
        Postings(offsets, docs, impacts=impacts, n_docs=n_docs, scale=scale),
        DocumentIds(id_text, id_offsets),
        vocabulary,
    )


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


def merge_on_disk(
    folder: str | Path,
    parts: Sequence[tuple[Postings, NDArray[np.bool_]]],
    doc_ids: DocumentIds,
    vocabulary: str | None,
    memory: int = 1 << 27,
) -> None:
    """Write the index of the marked rows of several, one after another: `join` of `keep_documents`, in bounded memory.

    Args:
        parts: float32 postings of one width, and bool [documents] of those that are kept.
        doc_ids: of the kept rows.
        memory: bytes for postings in work.

    Raises:
        InputError: the folder exists and is no index, or cannot be written.
    """
    folder = check_output_folder(folder, storage.MANIFEST)
    budget = max(1, memory // 8)
    counts = [count_kept(postings.offsets, postings.docs, rows) for postings, rows in parts]
    offsets = offsets_of(np.sum(counts, axis=0))
    numbers, base = [], 0
    for _, rows in parts:
        numbers.append(np.cumsum(rows, dtype=np.int64).astype(np.int32) + np.int32(base - 1))
        base += int(rows.sum())
    with replacing_folder(folder) as temporary:
        np.save(temporary / "offsets.npy", offsets, allow_pickle=False)
        np.save(temporary / "id_text.npy", doc_ids.text, allow_pickle=False)
        np.save(temporary / "id_offsets.npy", doc_ids.offsets, allow_pickle=False)
        with (
            (temporary / "docs.npy").open("wb") as docs_file,
            (temporary / "impacts.npy").open("wb") as impacts_file,
        ):
            _write_header(docs_file, np.dtype(np.int32), int(offsets[-1]))
            _write_header(impacts_file, np.dtype(np.float32), int(offsets[-1]))
            for first, last in _term_ranges(offsets, budget):
                count = int(offsets[last] - offsets[first])
                docs, impacts = np.empty(count, np.int32), np.empty(count, np.float32)
                heads = offsets[first:last] - offsets[first]
                for (postings, rows), renumbered in zip(parts, numbers, strict=True):
                    here = slice(int(postings.offsets[first]), int(postings.offsets[last]))
                    append_kept(
                        postings.offsets[first : last + 1],
                        postings.docs[here],
                        impacts=postings.impacts[here],
                        rows=rows,
                        renumbered=renumbered,
                        heads=heads,
                        out_docs=docs,
                        out_impacts=impacts,
                    )
                docs.tofile(docs_file)
                impacts.tofile(impacts_file)
        storage.write_manifest(temporary, base, vocab_size=len(offsets) - 1, scale=1.0, vocabulary=vocabulary)


BYTES_PER_POSTING = 24  # as given, inverted, and what is being copied


def build_on_disk(
    folder: str | Path,
    shards: Iterable[sp.csr_matrix],
    doc_ids: Iterable[str],
    vocabulary: str | None,
    bits: int,
    memory: int,
) -> None:
    """Write the index of `shards`, whose rows follow one another, to `folder`; both streams are read once.

    Args:
        memory: Bytes for postings in work, above one shard; ids take about 30 bytes a document besides.

    Raises:
        InputError: as SparseIndex.build; the folder exists and is no index, or cannot be written.
    """
    folder = check_output_folder(folder, storage.MANIFEST)
    budget = max(1, memory // BYTES_PER_POSTING)
    with replacing_folder(folder) as temporary:
        ids = iter(doc_ids)
        id_parts: list[DocumentIds] = []
        segments: list[_Segment] = []
        n_docs = 0
        for rows in _batches(shards, budget):
            segment = invert(rows)
            if segments and segment.vocab_size != segments[0].vocab_size:
                raise InputError(
                    f"document vectors of different widths: {segments[0].vocab_size} and {segment.vocab_size}"
                )
            segments.append(_Segment(temporary / f"segment-{len(segments)}", segment, n_docs))
            id_parts.append(DocumentIds.of(itertools.islice(ids, segment.n_docs)))
            n_docs += segment.n_docs
        if not segments:
            raise InputError("cannot build an index from no document vectors")
        n_ids = sum(map(len, id_parts)) + sum(1 for _ in itertools.islice(ids, 1))
        if n_ids != n_docs:
            at_least = "at least " if n_ids > n_docs else ""
            raise InputError(f"{at_least}{n_ids:,} document ids for {n_docs:,} document vectors")
        if n_docs > MAX_DOCS:
            raise InputError(
                f"an index holds at most {MAX_DOCS:,} documents, got {n_docs:,}: split the corpus"
            )
        all_ids = DocumentIds.join(id_parts)
        np.save(temporary / "id_text.npy", all_ids.text, allow_pickle=False)
        np.save(temporary / "id_offsets.npy", all_ids.offsets, allow_pickle=False)
        scale = _merge(segments, temporary, bits, budget)
        for one in segments:
            one.remove()
        storage.write_manifest(
            temporary, n_docs, vocab_size=segments[0].vocab_size, scale=scale, vocabulary=vocabulary
        )


class _Segment:
    """Posting lists of some rows, on disk but for their offsets."""

    def __init__(self, path: Path, postings: Postings, base: int) -> None:
        self.docs_file, self.impacts_file = path.with_suffix(".docs"), path.with_suffix(".impacts")
        postings.docs.tofile(self.docs_file)
        postings.impacts.tofile(self.impacts_file)
        self.offsets = postings.offsets
        self.vocab_size = postings.vocab_size
        self.base = base
        self.greatest = float(postings.impacts.max(initial=0))

    def read(self, first: int, last: int) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
        """Offsets, documents and impacts of terms first:last."""
        start, count = int(self.offsets[first]), int(self.offsets[last] - self.offsets[first])
        docs = np.fromfile(self.docs_file, np.int32, count, offset=4 * start)
        impacts = np.fromfile(self.impacts_file, np.float32, count, offset=4 * start)
        return self.offsets[first : last + 1], docs, impacts

    def remove(self) -> None:
        self.docs_file.unlink()
        self.impacts_file.unlink()


def _batches(shards: Iterable[sp.csr_matrix], budget: int) -> Iterator[list[sp.csr_matrix]]:
    """Pieces of the shards with about `budget` postings (and at most as many rows) together."""
    batch: list[sp.csr_matrix] = []
    room = budget
    for shard in shards:
        rest = checked_vectors(shard, "document vectors")
        while True:
            rows = int(np.searchsorted(rest.indptr, room, side="right")) - 1
            rows = min(max(rows, 1), rest.shape[0], max(room, 1))
            piece, rest = (rest, rest[:0]) if rows == rest.shape[0] else (rest[:rows], rest[rows:])
            batch.append(piece)
            room -= max(piece.nnz, piece.shape[0], 1)
            if room <= 0:
                yield batch
                batch, room = [], budget
            if not rest.shape[0]:
                break
    if batch:
        yield batch


def _merge(segments: list[_Segment], folder: Path, bits: int, budget: int) -> float:
    """Write offsets, docs and impacts; returns the scale."""
    offsets = np.sum([segment.offsets for segment in segments], axis=0)
    scale = impact_step(max(segment.greatest for segment in segments)) if bits == 8 else 1.0
    np.save(folder / "offsets.npy", offsets, allow_pickle=False)
    total = int(offsets[-1])
    with (folder / "docs.npy").open("wb") as docs_file, (folder / "impacts.npy").open("wb") as impacts_file:
        _write_header(docs_file, np.dtype(np.int32), total)
        _write_header(impacts_file, np.dtype(np.uint8 if bits == 8 else np.float32), total)
        for first, last in _term_ranges(offsets, budget):
            count = int(offsets[last] - offsets[first])
            docs, impacts = np.empty(count, np.int32), np.empty(count, np.float32)
            heads = offsets[first:last] - offsets[first]
            for segment in segments:
                append_terms(*segment.read(first, last), segment.base, heads, docs, impacts)
            docs.tofile(docs_file)
            (to_steps(impacts, scale) if bits == 8 else impacts).tofile(impacts_file)
    return scale


def _term_ranges(offsets: NDArray[np.int64], budget: int) -> Iterator[tuple[int, int]]:
    """Ranges of terms with about `budget` postings each, at least one term."""
    first = 0
    while first < len(offsets) - 1:
        last = int(np.searchsorted(offsets, offsets[first] + budget, side="right")) - 1
        last = min(max(last, first + 1), len(offsets) - 1)
        yield first, last
        first = last


def _write_header(file: Any, dtype: np.dtype[Any], length: int) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (length,)}
    np.lib.format.write_array_header_1_0(file, header)
    file.flush()
