"""The parts of every source, made by this process or by several."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from neural_sparse.data.cleaning import Cleaning
from neural_sparse.data.prepare_options import PrepareOptions
from neural_sparse.data.reading import Piece, Reader, piece_count, pieces
from neural_sparse.data.source import Source, places_of, text_rows
from neural_sparse.data.text_table import RepeatedIdError, TextTable
from neural_sparse.errors import InputError
from neural_sparse.parts import Parts
from neural_sparse.processes import worker_processes


def fill_parts(
    sources: Sequence[Source],
    options: PrepareOptions,
    settings: Mapping[str, Any],
    tests: Mapping[str, Path],
    work: Path,
    overwrite: bool,
    show_progress: bool,
) -> list[Parts]:
    """Make the parts of every source that are missing."""
    found = []
    shared = {key: value for key, value in settings.items() if key not in ("sources", "weights")}
    for number, source in enumerate(sources):
        name = re.sub(r"[^\w.-]", "_", source.name)[:60]
        own = {**shared, "source": settings["sources"][number]}
        count = piece_count(source, options.rows_per_part)
        found.append(_parts(work / f"{number:02d}-{name}", own, count, overwrite))
    readers = [
        _ReaderSettings(
            source,
            options.cleaning,
            options.seed,
            _tables(source, work, number, show_progress),
            options.queries_from,
            source.thin,
            tests,
        )
        for number, source in enumerate(sources)
    ]
    missing = [frozenset(parts.missing()) for parts in found]
    rows = sum(source.rows for source in sources)
    left = sum(
        min(options.rows_per_part * len(here), source.rows)
        for here, source in zip(missing, sources, strict=True)
    )
    bar = tqdm(
        total=rows,
        initial=rows - left,
        desc="cleaning",
        unit="row",
        unit_scale=True,
        disable=None if show_progress else True,
    )
    with bar:
        for number, piece_number, count, data in _made(readers, missing, options):
            with found[number].write(piece_number) as temporary:
                temporary.write_bytes(data)
            bar.update(count)
    return found


def _parts(folder: Path, settings: Mapping[str, Any], count: int, overwrite: bool) -> Parts:
    """The parts in a folder; those of other settings are only thrown away if the user wants that."""
    try:
        return Parts(folder, settings, count, "arrow")
    except InputError as error:
        if not overwrite and any(folder.glob("part-*")):
            raise InputError(f"{error}, or add --overwrite") from error
        shutil.rmtree(folder)
        return Parts(folder, settings, count, "arrow")


def _tables(source: Source, work: Path, number: int, show_progress: bool) -> dict[str, Path]:
    """Texts by id, where judgements name them."""
    found = {}
    digest = hashlib.sha256(json.dumps(source.describe()).encode()).hexdigest()[:16]
    for name, files in (("corpus", source.corpus), ("queries", source.queries)):
        if files:
            path = work / f"{number:02d}-{name}-{digest}.arrow"
            rows = sum(file.rows for file in files)
            disable = None if show_progress else True
            with tqdm(total=rows, desc=f"{source.name}: {name}", unit="row", disable=disable) as bar:
                try:
                    TextTable.make(path, text_rows(files, bar.update))
                except RepeatedIdError as error:
                    path.unlink(missing_ok=True)
                    where = list(places_of(files, error.key))
                    raise InputError(
                        f"{where[1]}: the id {error.key!r} occurs twice (first in {where[0]})"
                    ) from error
            found[name] = path
    return found


def _made(
    readers: Sequence[_ReaderSettings], missing: Sequence[frozenset[int]], options: PrepareOptions
) -> Iterator[tuple[int, int, int, bytes]]:
    """Source, number, rows and bytes of every missing part, in any order."""
    wanted = (
        (number, piece)
        for number, settings in enumerate(readers)
        for piece in pieces(settings.source, options.rows_per_part, missing[number])
    )
    if options.workers == 1 or sum(map(len, missing)) < 2:
        made: dict[int, Reader] = {}
        for number, piece in wanted:
            if number not in made:
                made = {number: readers[number].open()}
            yield number, piece.number, piece.rows, made[number].make(piece)
        return
    with worker_processes(options.workers, _start_worker, list(readers)) as pool:
        waiting: dict[Future[bytes], tuple[int, Piece]] = {}
        for number, piece in wanted:
            waiting[pool.submit(_work, number, piece)] = (number, replace(piece, chunk=[]))
            while len(waiting) >= 2 * options.workers:
                yield from _finished(waiting)
        while waiting:
            yield from _finished(waiting)


def _finished(
    waiting: dict[Future[bytes], tuple[int, Piece]],
) -> Iterator[tuple[int, int, int, bytes]]:
    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
    for future in done:
        number, piece = waiting.pop(future)
        yield number, piece.number, piece.rows, future.result()


@dataclass(frozen=True)
class _ReaderSettings:
    """What a `Reader` is made of, in any process."""

    source: Source
    cleaning: Cleaning
    seed: int
    tables: Mapping[str, Path]
    queries_from: str
    thin: float
    tests: Mapping[str, Path]

    def open(self) -> Reader:
        return Reader(
            self.source, self.cleaning, self.seed, self.tables, self.queries_from, self.thin, self.tests
        )


_settings_here: list[_ReaderSettings] = []  # of this worker process
_readers_here: dict[int, Reader] = {}


def _start_worker(settings: list[_ReaderSettings]) -> None:
    _settings_here[:] = settings


def _work(number: int, piece: Piece) -> bytes:
    if number not in _readers_here:
        _readers_here.clear()
        _readers_here[number] = _settings_here[number].open()
    return _readers_here[number].make(piece)
