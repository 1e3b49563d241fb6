"""Filling the teachers' caches ahead of training: an estimate of what it takes, and the encoding itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neural_sparse.io.resources import require_space
from neural_sparse.teachers.bi_encoder import BiEncoderTeacher
from neural_sparse.teachers.cache import OTHER_PLACE, EncodingJob, TeacherCache, item_length
from neural_sparse.teachers.cross_encoder import CrossEncoderTeacher
from neural_sparse.teachers.devices import encode_block
from neural_sparse.teachers.endpoint import EndpointTeacher, RerankTeacher
from neural_sparse.teachers.rows import pack
from neural_sparse.teachers.shards import KEY_BYTES, LARGEST_MERGE
from neural_sparse.teachers.teacher import Teacher
from neural_sparse.teachers.token_batches import warn_if_truncated

SAMPLE = 256  # items
SAMPLE_BATCH = 32
SAMPLE_CHARACTERS = (
    32_000  # encoded at once: of queries as many as make several batches, as they will be encoded
)
SAMPLE_SECONDS = 3.0
LIKELY_DIMENSIONS = 1024  # of an endpoint's vectors, where nobody says


@dataclass(frozen=True)
class Need:
    """What one teacher's cache lacks of one kind of item.

    Attributes:
        kind: "queries", "documents" or "pairs".
        items: asked for, equal ones counted each time.
        missing: distinct ones to be encoded.
        rate: items per second on a sample, all devices together; NaN where nothing is missing, and of endpoints, for
            a sample would have to be paid for.
        bytes: on disk, of what is missing.
        truncated: share of the documents that the teacher's tokenizer cuts; None if it was not looked at.
        cost: of an endpoint: what is to be asked, tokens and price, as a line.
    """

    job: EncodingJob[Any]
    kind: str
    items: int
    missing: int
    rate: float
    bytes: int
    truncated: float | None = None
    cost: str = ""

    @property
    def seconds(self) -> float:
        """Estimated; 0 of endpoints."""
        return self.missing / self.rate if self.missing and not np.isnan(self.rate) else 0.0


def needs_of(
    teachers: Sequence[Teacher],
    queries: Sequence[str],
    documents: Sequence[str],
    pairs: NDArray[np.int64],
    cache: TeacherCache,
    seconds: float = SAMPLE_SECONDS,
) -> list[Need]:
    """What the caches of `teachers` lack, measured on a small sample of it, about `seconds` each kind of item.

    Teachers without a model (BM25, precomputed scores) need nothing. A teacher that cuts most documents is
    warned about.
    """
    found: list[Need] = []
    for teacher in teachers:
        if isinstance(teacher, EndpointTeacher | RerankTeacher):
            found += _of_endpoint(teacher, teacher.jobs(queries, documents, pairs), cache)
            continue
        if not isinstance(teacher, BiEncoderTeacher | CrossEncoderTeacher):
            continue
        kinds = ("queries", "documents") if isinstance(teacher, BiEncoderTeacher) else ("pairs",)
        for kind, job in zip(kinds, teacher.jobs(queries, documents, pairs), strict=True):
            missing = cache.missing(job)
            rate, row_bytes = measured(job, missing, seconds=seconds) if len(missing) else (float("nan"), 0.0)
            rate *= max(1, sum(device.startswith("cuda") for device in cache.devices))
            cut = warn_if_truncated(teacher, documents) if len(missing) and kind != "queries" else None
            found.append(
                Need(
                    job,
                    kind,
                    items=len(job.items),
                    missing=len(missing),
                    rate=rate,
                    bytes=round(row_bytes * len(missing)),
                    truncated=cut,
                )
            )
    return found


def _of_endpoint(
    teacher: EndpointTeacher | RerankTeacher, jobs: Sequence[EncodingJob[Any]], cache: TeacherCache
) -> list[Need]:
    """What an endpoint is to be asked; nothing is encoded for an estimate, as it would have to be paid for."""
    kinds = ("queries", "documents") if teacher.in_batch else ("pairs",)
    found = []
    for kind, job in zip(kinds, jobs, strict=True):
        missing = cache.missing(job)
        if len(missing):
            teacher.endpoint.require_key()  # told now, not after other teachers have encoded
        row = (
            4
            if isinstance(teacher, RerankTeacher)
            else 2 * (teacher.settings.dimensions or LIKELY_DIMENSIONS)
        )
        cost = teacher.cost(job.items[place] for place in missing.tolist()) if len(missing) else ""
        size = (row + KEY_BYTES) * len(missing)
        found.append(Need(job, kind, len(job.items), len(missing), rate=float("nan"), bytes=size, cost=cost))
    return found


def measured(
    job: EncodingJob[Any],
    missing: NDArray[np.int64],
    clock: Callable[[], float] = time.perf_counter,
    seconds: float = SAMPLE_SECONDS,
) -> tuple[float, float]:
    """Items per second, and bytes each takes on disk, from an even sample of what is missing."""
    places = missing[np.unique(np.linspace(0, len(missing) - 1, min(SAMPLE, len(missing))).astype(np.int64))]
    items = [job.items[place] for place in np.random.default_rng(0).permutation(places).tolist()]
    job.encode(items[:2])  # loads the model
    fitting = SAMPLE_CHARACTERS * len(items) // max(1, sum(map(item_length, items)))
    count = max(min(SAMPLE_BATCH, job.batch_size), min(SAMPLE, fitting))
    done, size, spent = 0, 0, 0.0
    while done < len(items) and spent < seconds:
        # As they will be encoded: longest first, in batches of similar length, several at once.
        part = sorted(items[done : done + count], key=item_length, reverse=True)
        started = clock()
        arrays = pack(encode_block(job.name, job.encode, part, job.split), sparse_values=np.float16)
        spent += clock() - started
        size += sum(array.nbytes for array in arrays.values()) + KEY_BYTES * len(part)
        done += len(part)
        if spent < seconds / 4:
            count *= 2
    return done / max(spent, 1e-9), size / done


def check_disk(folder: Path | None, needs: Sequence[Need]) -> int:
    """Bytes that filling takes for a while: the vectors, and the shards being merged.

    Raises:
        InputError: the disk has less; the message says how much is needed.
    """
    total = sum(need.bytes for need in needs)
    merging = max(
        (need.bytes * min(1.0, LARGEST_MERGE / need.missing) for need in needs if need.missing), default=0.0
    )
    needed = round(total + merging)
    if folder is not None and total:
        require_space(folder, needed, "the teachers' vectors", OTHER_PLACE)
    return needed


def fill(need: Need, cache: TeacherCache) -> float:
    """Encode what `need` found missing; returns seconds. A run that was killed goes on where it stopped."""
    started = time.perf_counter()
    if need.missing:
        cache.rows(need.job)
    return time.perf_counter() - started
