"""Counting a corpus file with all cores, in parts: a run that was killed goes on with what is missing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from neural_sparse.data.corpus_file import corpus_file, corpus_texts
from neural_sparse.errors import InputError
from neural_sparse.files import sha256_file
from neural_sparse.idf.counting import DocumentCounter, text_batches
from neural_sparse.idf.frequencies import DocumentFrequencies, merge
from neural_sparse.parts import Parts
from neural_sparse.processes import available_cores, worker_processes

PART_BYTES = 32 << 20  # about a second of work


def count_corpus(
    corpus: str | Path,
    tokenizer: Any,
    work: str | Path,
    *,
    onto: DocumentFrequencies | None = None,
    workers: int | None = None,
    part_bytes: int = PART_BYTES,
    show_progress: bool = True,
) -> DocumentFrequencies:
    """In how many documents of a corpus each token occurs.

    Args:
        corpus: a corpus.jsonl, a folder that holds one, or a .txt with a text per line.
        work: folder of the parts counted so far, for the caller to delete once the result is written; a corpus
            of one part needs none.
        onto: counts of other documents, to be added.
        workers: processes; all cores if None.
        part_bytes: of the file, per part.

    Raises:
        InputError: no such file, a malformed line, a `work` folder that belongs to other work; counts of
            another tokenizer, or with this very file in them already (both before anything is counted).
    """
    file = corpus_file(Path(corpus))
    if not file.is_file():
        raise InputError(f"{file}: no such file")
    source = sha256_file(file)
    counter = DocumentCounter(tokenizer)
    nothing = counter.take(source)
    onto = merge([onto, nothing] if onto else [nothing])
    size = file.stat().st_size
    count = -(-size // part_bytes)
    if count < 2:
        return merge([onto, count_part(file, counter, 0, part_bytes)])
    settings = {"corpus": source, "tokenizer": nothing.tokenizer, "part_bytes": part_bytes}
    parts = Parts(work, settings, count, "safetensors")
    missing = parts.missing()
    with tqdm(
        total=size, initial=max(0, size - len(missing) * part_bytes), desc="IDF", unit="B", unit_scale=True,
        disable=None if show_progress else True,
    ) as progress:  # fmt: skip
        for number, found in _counted(file, tokenizer, counter, missing, part_bytes, workers):
            with parts.write(number) as path:
                found.save(path)
            progress.update(min(part_bytes, size - number * part_bytes))
    return merge([onto, *map(DocumentFrequencies.load, parts.files())])


def count_part(
    file: Path, counter: DocumentCounter, number: int, part_bytes: int = PART_BYTES
) -> DocumentFrequencies:
    """Part `number` of the work of `count_corpus`: follows from file, tokenizer, number and size alone."""
    for texts in text_batches(corpus_texts(file, number * part_bytes, (number + 1) * part_bytes)):
        counter.add(texts)
    return counter.take()


def _counted(
    file: Path,
    tokenizer: Any,
    counter: DocumentCounter,
    numbers: list[int],
    part_bytes: int,
    workers: int | None,
) -> Iterator[tuple[int, DocumentFrequencies]]:
    """Parts as they are done, in any order."""
    workers = min(workers or available_cores(), len(numbers))
    if workers < 2:
        for number in numbers:
            yield number, count_part(file, counter, number, part_bytes)
        return
    with worker_processes(workers, _start_worker, _bare(tokenizer), file, part_bytes) as pool:
        futures = [pool.submit(_count_in_worker, number) for number in numbers]
        for future in as_completed(futures):
            yield future.result()


@dataclass(frozen=True)
class _Bare:
    """A fast tokenizer without transformers around it, which a worker would spend a second importing."""

    backend_tokenizer: Any

    def get_vocab(self) -> dict[str, int]:
        return self.backend_tokenizer.get_vocab()


def _bare(tokenizer: Any) -> Any:
    return _Bare(tokenizer.backend_tokenizer) if hasattr(tokenizer, "backend_tokenizer") else tokenizer


_job: dict[str, Any] = {}  # of a worker process


def _start_worker(tokenizer: Any, file: Path, part_bytes: int) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core each
    _job.update(file=file, counter=DocumentCounter(tokenizer), part_bytes=part_bytes)


def _count_in_worker(number: int) -> tuple[int, DocumentFrequencies]:
    return number, count_part(number=number, **_job)
