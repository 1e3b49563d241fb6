"""Training data of any source made one folder: cleaned in parts, without duplicates, every text once."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from neural_sparse.corpora.overlap import gather_test_texts
from neural_sparse.data.assembly import Assembly
from neural_sparse.data.cleaning import Cleaning, Counts, check_languages
from neural_sparse.data.from_documents import WAYS, generator_sum, load_generator
from neural_sparse.data.prepared import MANIFEST, PreparedSet, is_prepared
from neural_sparse.data.reading import Piece, Reader, piece_count, pieces
from neural_sparse.data.registry import expand_groups
from neural_sparse.data.source import Source, find_source, places_of, text_rows
from neural_sparse.data.text_table import RepeatedIdError, TextTable
from neural_sparse.errors import InputError, check_seed, refuse_one_string
from neural_sparse.io.files import check_output_folder, file_sums, read_json, replacing_folder, write_json
from neural_sparse.io.parts import Parts, alone
from neural_sparse.io.resources import require_space
from neural_sparse.work.workers import Advance, DoPiece, in_workers

logger = logging.getLogger(__name__)

FORMAT = 1
# Bytes on disk per byte of text: parts with their keys and n-gram sketches, the finished folder.
_WORK_SIZE, _OUTPUT_SIZE = 1.6, 1.05
_WORK_PER_ROW = 250
ROWS_PER_PART = 10_000


@dataclass(frozen=True)
class PrepareOptions:
    """How data are prepared.

    Attributes:
        cleaning: see `Cleaning`.
        weights: share of training batches per source, only ratios matter; by size if empty.
        samples: examples to keep per source (one number for all, or one each; 0: all); None: what the registry
            says, all of own data.
        seed: of every draw.
        fields: unusual names of the columns "query", "positive", "negative".
        queries_from: how to make queries where there are none: "auto", "title", "heading", "first-sentence",
            "none" or the user's own "module:function".
        split: judgements of a collection to train on.
        accept_licences: public sets whose terms the user accepts; "all" for all.
        workers: processes that clean.
        rows_per_part: rows that are read, cleaned and written together; what a killed run has to repeat.
    """

    cleaning: Cleaning = field(default_factory=Cleaning)
    weights: tuple[float, ...] = ()
    samples: tuple[int, ...] | None = None
    seed: int = 42
    fields: Mapping[str, str] = field(default_factory=dict)
    queries_from: str = "auto"
    split: str = "train"
    accept_licences: tuple[str, ...] = ()
    workers: int = 1
    rows_per_part: int = ROWS_PER_PART

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.workers < 1 or self.rows_per_part < 1:
            raise InputError("workers and rows_per_part must be at least 1")
        if any(weight <= 0 for weight in self.weights):
            raise InputError("weights must be above 0; leave a source out instead")
        if any(sample < 0 for sample in self.samples or ()):
            raise InputError("samples must be positive, or 0 for all")
        if unknown := sorted(set(self.fields) - {"query", "positive", "negative", "label"}):
            raise InputError(
                f"fields: unknown {', '.join(unknown)}; known are query, positive, negative and label"
            )
        if ":" not in self.queries_from and self.queries_from not in WAYS:
            raise InputError(
                f"queries from {self.queries_from!r}: choose {', '.join(WAYS)}, or module:function of your own"
            )


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
        partial(
            Reader,
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
        wanted = (
            (number, piece)
            for number, source in enumerate(sources)
            for piece in pieces(source, options.rows_per_part, missing[number])
        )
        workers = options.workers if sum(map(len, missing)) > 1 else 1
        for (number, piece), data in in_workers(_start, (readers,), wanted, workers):
            with found[number].write(piece.number) as temporary:
                temporary.write_bytes(data)
            bar.update(piece.rows)
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


def _start(readers: Sequence[Callable[[], Reader]], worker: int) -> DoPiece[bytes]:
    """What makes the part of (number of the source, piece); the last source's reader stays open."""
    opened: dict[int, Reader] = {}

    def do(piece: tuple[int, Piece], advance: Advance) -> bytes:
        number, rows = piece
        if number not in opened:
            opened.clear()
            opened[number] = readers[number]()
        return opened[number].make(rows)

    return do


def prepare(
    names: Sequence[str],
    output: str | Path,
    options: PrepareOptions | None = None,
    *,
    overwrite: bool = False,
    show_progress: bool = False,
) -> PreparedSet:
    """Prepare training data; a run that was interrupted goes on, with the same bytes in the end.

    Args:
        names: of the registry, its groups, files or folders; the order decides which of two equal examples
            stays.
        output: folder to write; parts are kept beside it until it is complete.
        overwrite: replace an output of other data or settings.

    Raises:
        InputError: no such source, columns that are missing, a licence to accept, a hub that cannot be
            reached, damaged files, too little disk space, an output with something else, nothing left.
    """
    options = options or PrepareOptions()
    output = Path(output)
    check_languages(options.cleaning.languages)
    if ":" in options.queries_from:
        load_generator(options.queries_from)  # before any work
    refuse_one_string(names, "sources")
    names = expand_groups(names)
    if not names:
        raise InputError("name at least one source; `neural-sparse data list` shows the public ones")
    for what, given in (("weights", options.weights), ("samples", options.samples or ())):
        if len(given) > 1 and len(given) != len(names):
            raise InputError(f"{len(given)} {what} for {len(names)} sources ({', '.join(names)})")
    check_output_folder(output, MANIFEST)
    sources = _sampled(
        [
            find_source(name, fields=options.fields, split=options.split, accepted=options.accept_licences)
            for name in tqdm(names, desc="reading", unit="source", disable=None if show_progress else True)
        ],
        options,
    )
    work = output.parent / f".{output.name}.work"
    cleaning = options.cleaning
    with alone(work, output):
        work.mkdir(exist_ok=True)
        tests = gather_test_texts(cleaning.decontaminate, cleaning.decontaminate_documents, work)
        settings = _plain(_settings(sources, options, tests))
        if is_prepared(output) and read_json(output / MANIFEST)["settings"] == settings:
            logger.info("%s holds these data already", output)
        else:
            if is_prepared(output) and not overwrite:
                raise InputError(
                    f"{output} holds other data or other settings; choose another output, or overwrite it"
                )
            _check_space(sources, options, work)
            parts = fill_parts(
                sources,
                options,
                settings=settings,
                tests=tests,
                work=work,
                overwrite=overwrite,
                show_progress=show_progress,
            )
            _assemble(
                sources,
                options,
                settings=settings,
                parts=parts,
                work=work,
                output=output,
                show_progress=show_progress,
            )
    shutil.rmtree(work, ignore_errors=True)
    return PreparedSet.load(output)


def _sampled(sources: Sequence[Source], options: PrepareOptions) -> list[Source]:
    """The sources with the numbers of examples that the user wants."""
    if options.samples is None:
        return list(sources)
    samples = options.samples * len(sources) if len(options.samples) == 1 else options.samples
    return [replace(source, sample=sample or None) for source, sample in zip(sources, samples, strict=True)]


def _settings(
    sources: Sequence[Source], options: PrepareOptions, tests: Mapping[str, Path]
) -> dict[str, Any]:
    """All that decides the outcome."""
    weights = options.weights * len(sources) if len(options.weights) == 1 else options.weights
    return {
        "format": FORMAT,
        "sources": [
            {**source.describe(), "sample": source.sample, "thin": source.thin} for source in sources
        ],
        "weights": list(weights),
        "cleaning": options.cleaning.describe(),
        "seed": options.seed,
        "queries_from": options.queries_from,
        "generator": generator_sum(options.queries_from),
        "rows_per_part": options.rows_per_part,
        "tests": _sums(tests),
        "versions": {name: version(name) for name in ("ftfy", "rensa", "py3langid")},
    }


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(value))


def _check_space(sources: Sequence[Source], options: PrepareOptions, work: Path) -> None:
    """Refuse to start what cannot end, with what has been written already taken into account."""
    needed = 0.0
    for source in sources:
        tables = sum(file.plain_size for file in (*source.corpus, *source.queries))
        text = source.plain_size * source.thin + tables
        needed += text * (_WORK_SIZE + _OUTPUT_SIZE) + source.rows * source.thin * _WORK_PER_ROW
    written = sum(file.stat().st_size for file in work.rglob("*") if file.is_file())
    require_space(work, max(0, int(needed) - written), f"preparing {', '.join(one.name for one in sources)}")


def _sums(tests: Mapping[str, Path]) -> dict[str, Any]:
    return {
        name: file_sums(folder, sorted(path.name for path in folder.iterdir()))
        for name, folder in tests.items()
    }


def _assemble(
    sources: Sequence[Source],
    options: PrepareOptions,
    settings: dict[str, Any],
    parts: Sequence[Parts],
    work: Path,
    output: Path,
    show_progress: bool,
) -> None:
    assembly = Assembly(
        [one.files() for one in parts],
        [source.sample for source in sources],
        seed=options.seed,
        near_duplicates=options.cleaning.near_duplicates,
        work=work,
        show_progress=show_progress,
    )
    with replacing_folder(output, "make room, and the same command goes on") as folder:
        done = assembly.write(folder)
        if not sum(done.kept) and not done.documents:
            raise InputError(f"nothing is left: {_why(done.counts)}")
        for source, kept in zip(sources, done.kept, strict=True):
            if source.sample is not None and kept < source.sample and source.thin < 1:
                logger.warning(
                    "%s: only %d of the %d examples wanted are left", source.name, kept, source.sample
                )
        manifest = {
            "format": FORMAT,
            "examples": sum(done.kept),
            "queries": done.queries,
            "documents": done.documents,
            "sources": [
                {
                    "name": source.name,
                    "licence": source.licence,
                    "weight": settings["weights"][number] if settings["weights"] else None,
                    "examples": done.kept[number],
                    **done.counts[number].to_dict(),
                }
                for number, source in enumerate(sources)
            ],
            "settings": settings,
            "files": file_sums(folder, sorted(path.name for path in folder.iterdir())),
        }
        write_json(folder / MANIFEST, manifest)


def _why(counts: Sequence[Counts]) -> str:
    total = Counts()
    for one in counts:
        total.add(one)
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in total.to_dict()["dropped"].items())
    return f"of {total.read:,} examples were dropped {reasons or 'none'}"
