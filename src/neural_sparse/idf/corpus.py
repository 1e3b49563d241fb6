"""Counting a corpus file with all cores, in parts: a run that was killed goes on with what is missing."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from neural_sparse.corpora.corpus_file import corpus_file, corpus_texts
from neural_sparse.errors import InputError
from neural_sparse.idf.counting import DocumentCounter, DocumentFrequencies, merge, text_batches
from neural_sparse.io.files import sha256_file
from neural_sparse.io.parts import Parts
from neural_sparse.io.urls import Location, location, size_of
from neural_sparse.work.workers import Advance, DoPiece, Engine, available_cores, in_workers

PART_BYTES = 32 << 20  # about a second of work


def count_corpus(
    corpus: str | Location,
    tokenizer: Any,
    work: str | Path,
    *,
    onto: DocumentFrequencies | None = None,
    workers: int | None = None,
    engine: Engine | None = None,
    part_bytes: int = PART_BYTES,
    show_progress: bool = True,
) -> DocumentFrequencies:
    """In how many documents of a corpus each token occurs.

    Args:
        corpus: a corpus.jsonl, a folder that holds one, or a .txt with a text per line; a path or a URL.
        work: folder of the parts counted so far, for the caller to delete once the result is written; a corpus
            of one part needs none.
        onto: counts of other documents, to be added.
        workers: processes; all cores if None. With an `engine`, that many of its workers, or all it has.
        engine: counts the parts elsewhere, such as `RayEngine`; the corpus must be readable there.
        part_bytes: of the file, per part.

    Raises:
        InputError: no such file, a malformed line, a `work` folder that belongs to other work; counts of
            another tokenizer, or with this very file in them already (both before anything is counted).
    """
    file = corpus_file(location(corpus))
    if not file.is_file():
        raise InputError(f"{file}: no such file")
    source = sha256_file(file)
    counter = DocumentCounter(tokenizer)
    nothing = counter.take(source)
    onto = merge([onto, nothing] if onto else [nothing])
    size = size_of(file)
    count = -(-size // part_bytes)
    if count < 2:
        return merge([onto, count_part(file, counter, 0, part_bytes)])
    settings = {"corpus": source, "tokenizer": nothing.tokenizer, "part_bytes": part_bytes}
    parts = Parts(work, settings, count, "safetensors")
    missing = parts.missing()
    if engine is None:
        workers = workers or available_cores()
    with tqdm(
        total=size, initial=max(0, size - len(missing) * part_bytes), desc="IDF", unit="B", unit_scale=True,
        disable=None if show_progress else True,
    ) as progress:  # fmt: skip
        run: Engine = engine or in_workers
        arguments = (_bare(tokenizer), file, size, part_bytes)
        for number, found in run(_start, arguments, missing, workers, progress.update):
            with parts.write(number) as path:
                found.save(path)
    return merge([onto, *map(DocumentFrequencies.load, parts.files())])


def count_part(
    file: Location, counter: DocumentCounter, number: int, part_bytes: int = PART_BYTES
) -> DocumentFrequencies:
    """Part `number` of the work of `count_corpus`: follows from file, tokenizer, number and size alone."""
    for texts in text_batches(corpus_texts(file, number * part_bytes, (number + 1) * part_bytes)):
        counter.add(texts)
    return counter.take()


def _start(
    tokenizer: Any, file: Location, size: int, part_bytes: int, worker: int
) -> DoPiece[DocumentFrequencies]:
    """What counts a part, on any machine that can read the file."""
    if not file.is_file() or size_of(file) != size:
        raise InputError(
            f"{file} on {platform.node()} is not the corpus it is where the work was started; put it on a disk that "
            "all machines share, or name it by URL (s3://...)"
        )
    counter = DocumentCounter(tokenizer)

    def do(number: int, advance: Advance) -> DocumentFrequencies:
        found = count_part(file, counter, number, part_bytes)
        advance(min(part_bytes, size - number * part_bytes))
        return found

    return do


@dataclass(frozen=True)
class _Bare:
    """A fast tokenizer without transformers around it, which a worker would spend a second importing."""

    backend_tokenizer: Any

    def get_vocab(self) -> dict[str, int]:
        return self.backend_tokenizer.get_vocab()


def _bare(tokenizer: Any) -> Any:
    return _Bare(tokenizer.backend_tokenizer) if hasattr(tokenizer, "backend_tokenizer") else tokenizer
