"""Training data of any source made one folder: cleaned, without duplicates, every text once."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from neural_sparse.data.assembly import Assembly
from neural_sparse.data.cleaning import Counts
from neural_sparse.data.contamination import gather_test_texts
from neural_sparse.data.from_documents import generator_sum, load_generator
from neural_sparse.data.language import check_languages
from neural_sparse.data.part_making import fill_parts
from neural_sparse.data.prepare_options import PrepareOptions
from neural_sparse.data.prepared import MANIFEST, PreparedSet, is_prepared
from neural_sparse.data.registry import expand_groups
from neural_sparse.data.source import Source, find_source
from neural_sparse.disk import require_space
from neural_sparse.errors import InputError, refuse_one_string
from neural_sparse.files import check_output_folder, file_sums, read_json, replacing_folder, write_json
from neural_sparse.parts import Parts, alone

logger = logging.getLogger(__name__)

FORMAT = 1
# Bytes on disk per byte of text: parts with their keys and n-gram sketches, the finished folder.
_WORK_SIZE, _OUTPUT_SIZE = 1.6, 1.05
_WORK_PER_ROW = 250


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
            parts = fill_parts(sources, options, settings, tests, work, overwrite, show_progress)
            _assemble(sources, options, settings, parts, work, output, show_progress)
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
        options.seed,
        options.cleaning.near_duplicates,
        work,
        show_progress,
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
