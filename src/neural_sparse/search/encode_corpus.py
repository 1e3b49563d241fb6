"""A corpus file to an encoded collection: in parts, in bounded memory, on all devices."""

from __future__ import annotations

import platform
import shutil
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from safetensors.numpy import load_file, save
from tqdm import tqdm

from neural_sparse.corpora.corpus_file import (
    corpus_documents,
    corpus_fields,
    corpus_file,
    corpus_texts,
    read_documents,
)
from neural_sparse.errors import InputError
from neural_sparse.io.files import sha256_file
from neural_sparse.io.parts import Parts, alone
from neural_sparse.io.urls import Location, Url, location, size_of, upload_folder, work_folder
from neural_sparse.model.location import content_hash, model_folder
from neural_sparse.model.pruning import Pruning
from neural_sparse.search.doc_ids import DocumentIds
from neural_sparse.search.encoded import MANIFEST, EncodedCollection
from neural_sparse.search.encoders import Backend, backend_of, encode_tokens, load_encoder
from neural_sparse.search.fields import kinds_of, table_of
from neural_sparse.search.snapshot import PackedTexts
from neural_sparse.text.passages import check_passages, passages_of
from neural_sparse.text.tokens import tokenize
from neural_sparse.work.workers import Advance, DoPiece, Engine, available_cores, in_workers

PART_BYTES = 4 << 20  # of the corpus: some thousand documents
INDEX_GROWTH = 3  # disk for index and what it is built from, per byte of a part


@dataclass(frozen=True)
class EncodingSummary:
    """What an encoding did.

    Attributes:
        documents: in the collection.
        encoded: by this call; the rest was there from an interrupted one.
        seconds: that took, without indexing.
        truncated: documents, or passages, longer than the model reads.
    """

    documents: int
    encoded: int
    seconds: float
    truncated: int


def encode_corpus(
    model: str,
    corpus: str | Location,
    folder: str | Location,
    *,
    max_length: int | None = None,
    pruning: Pruning | None = None,
    passages: int | None = None,
    fields: Sequence[str] = (),
    bf16: bool = False,
    backend: Backend | None = None,
    workers: int | None = None,
    threads: int | None = None,
    engine: Engine | None = None,
    part_bytes: int = PART_BYTES,
    show_progress: bool = True,
) -> EncodingSummary:
    """Encode a corpus into `folder`, an `EncodedCollection`; the same call goes on after an interruption.

    Parts are kept beside the folder, in .NAME.parts, until the collection is complete. Result and part files
    follow from the arguments, so an interrupted run leaves the same bytes as an uninterrupted one, and any number
    of workers the same as one (on machines of one kind, with the same `threads`).

    Args:
        model: hub id, folder, or folder inside a package; or an ONNX export, for which no torch is needed.
        corpus: a corpus.jsonl ({_id, text, title?} per line), a folder that holds one, or a .txt.
            May be a URL, as may `folder`: the collection is then built in outputs/ and uploaded, its manifest
            last.
        max_length: tokens per document; the model's own limit if None.
        passages: tokens, at most, of the passages that documents are split into (`text.passages`); a document then
            scores as its best passage. Whole documents if None.
        fields: metadata to keep for filters, from each row's `metadata` or the row itself.
        backend: "torch", or for an ONNX export "onnx" (ONNX Runtime) or "openvino"; by what the model is if None.
        workers: processes; one per GPU, or one on a CPU, if None. With an `engine`, that many of its workers, or
            all it has.
        threads: of each worker on a CPU; the cores shared out evenly, or 1 with an `engine`, if None.
        engine: does the parts elsewhere, such as `RayEngine`; corpus and model must be readable there.
        part_bytes: of the corpus, per part.

    Raises:
        InputError: no such corpus or model; passages longer than the model reads; a malformed line or an id that
            occurs twice, before anything is encoded; a folder that holds something else, or parts of another corpus,
            model or setting; too little disk.
    """
    file, output = corpus_file(location(corpus)), location(folder)
    EncodedCollection.check_replaceable(output)
    pruning = pruning or Pruning()
    try:
        ids = DocumentIds.of(_checked_ids(file, show_progress))
    except InputError:
        if file.suffix == ".jsonl":
            deque(read_documents(file), maxlen=0)  # says in which line an id occurs again
        raise
    if not len(ids):
        raise InputError(f"{file}: the corpus is empty")
    metadata = _fields(file, fields) if fields else None
    backend = backend_of(model, backend)
    if passages is not None:
        encoder = load_encoder(model, max_length, backend=backend, device="cpu", threads=1, bf16=bf16)
        check_passages(passages, encoder.max_length)
    settings = {
        "corpus": sha256_file(file),
        "model": (weights := content_hash(model_folder(model))),
        "max_length": max_length,
        "bf16": bf16,
        **asdict(pruning),
        "part_bytes": part_bytes,
        **({} if passages is None else {"passages": passages}),
        **({} if backend == "torch" else {"backend": backend}),
    }
    size = size_of(file)
    work = work_folder(output)
    with alone(work, output):
        parts = Parts(work, settings, -(-size // part_bytes), "safetensors")
        missing = parts.missing()
        if engine is None:
            devices = _devices(backend)
            workers = min(workers or len(devices), len(missing))
            if workers > 1 and devices == ["cpu"]:
                threads = threads or max(1, available_cores() // workers)
        else:
            threads = threads or 1
        encoded = 0
        started = time.perf_counter()
        with tqdm(
            total=round(len(ids) * len(missing) / parts.count), desc="encoding", unit=" docs",
            disable=None if show_progress else True,
        ) as progress:  # fmt: skip
            how = (pruning, passages, bf16, backend, part_bytes, threads)
            arguments = (model, weights, file, size, max_length, *how)
            run: Engine = engine or in_workers
            with _threads_kept(backend):
                for number, (documents, content) in run(_start, arguments, missing, workers, progress.update):
                    encoded += documents
                    with parts.write(number) as path:
                        path.write_bytes(content)
                    _check_disk(parts, number)
        seconds = time.perf_counter() - started
        files = parts.files()
        truncated = sum(int(load_file(part)["truncated"][0]) for part in files)
        encoder = load_encoder(model, max_length, backend=backend, device="cpu", threads=1, bf16=bf16)
        collection = output if isinstance(output, Path) else work.with_suffix(".collection")
        EncodedCollection.write(
            collection,
            encoder,
            shards=(_vectors(load_file(part), encoder.vocab_size) for part in files),
            doc_ids=ids,
            texts=(
                PackedTexts(*(load_file(part)[name] for name in ("texts", "text_lengths"))) for part in files
            ),
            fields=metadata,
            passages=None
            if passages is None
            else np.concatenate([load_file(part)["passages"] for part in files]),
            about={
                "bf16": bf16,
                "pruning": asdict(pruning),
                "truncated": truncated,
                **({} if passages is None else {"passages": passages}),
            },
        )
        if isinstance(output, Url):
            upload_folder(collection, output, MANIFEST)
            shutil.rmtree(collection)
        parts.remove()
        return EncodingSummary(len(ids), encoded, seconds, truncated)


def _checked_ids(file: Location, show_progress: bool) -> Iterator[str]:
    """Ids of all documents, each line looked at, so that the last one cannot spoil hours of work."""
    disable = None if show_progress else True
    for name, _ in tqdm(corpus_documents(file), desc="reading", unit=" docs", disable=disable):
        yield name


def _fields(file: Location, names: Sequence[str]) -> pa.Table:
    """Columns of all documents."""
    if repeated := [name for name in names if list(names).count(name) > 1]:
        raise InputError(f"the field {repeated[0]!r} is named twice")
    kinds = kinds_of(corpus_fields(file, names), names)
    return table_of([row for _, row in corpus_fields(file, names)], kinds)


def _devices(backend: Backend) -> list[str]:
    if backend == "torch":
        import torch

        if torch.cuda.is_available():
            return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return ["cpu"]


@contextmanager
def _threads_kept(backend: Backend) -> Iterator[None]:
    """Afterwards torch has as many threads as before."""
    if backend != "torch":
        yield
        return
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _start(
    model: str,
    weights: str,
    file: Location,
    size: int,
    max_length: int | None,
    pruning: Pruning,
    passages: int | None,
    bf16: bool,
    backend: Backend,
    part_bytes: int,
    threads: int | None,
    worker: int,
) -> DoPiece[tuple[int, bytes]]:
    """What encodes a part: a pure function of the corpus, the settings and the part's number.

    Raises:
        InputError: this machine has no such corpus or model, or another one under the name.
    """
    if not file.is_file() or size_of(file) != size:
        raise InputError(
            f"{file} on {platform.node()} is not the corpus it is where the work was started; put it on a disk that "
            "all machines share, or name it by URL (s3://...)"
        )
    if content_hash(model_folder(model)) != weights:
        raise InputError(
            f"the model {model} on {platform.node()} is not the one it is where the work was started; put it on a "
            "disk that all machines share, or use the same revision of a hub model"
        )
    devices = _devices(backend)
    if threads is not None and backend == "torch":
        import torch

        torch.set_num_threads(threads)
    device = devices[worker % len(devices)]
    encoder = load_encoder(model, max_length, backend=backend, device=device, threads=threads, bf16=bf16)

    def do(number: int, advance: Advance) -> tuple[int, bytes]:
        texts = list(corpus_texts(file, number * part_bytes, (number + 1) * part_bytes))
        documents, counts = len(texts), np.empty(0, np.int64)
        if passages is not None:
            texts, counts = passages_of(texts, encoder.tokenizer, passages)
        tokens = tokenize(texts, encoder.tokenizer, encoder.max_length, special_tokens=True)
        vectors = pruning(encode_tokens(encoder, tokens, bf16=bf16, advance=advance))
        packed = PackedTexts.of(texts)
        arrays: dict[str, np.ndarray] = {
            "indptr": vectors.indptr.astype(np.int64),
            "indices": vectors.indices,
            "data": vectors.data,
            "texts": packed.text,
            "text_lengths": packed.lengths,
            "truncated": np.array([tokens.truncated]),
            "passages": counts,
        }
        return documents, save(arrays)

    return do


def _vectors(part: dict[str, np.ndarray], vocab_size: int) -> sp.csr_matrix:
    rows = len(part["indptr"]) - 1
    return sp.csr_matrix((part["data"], part["indices"], part["indptr"]), shape=(rows, vocab_size))


def _check_disk(parts: Parts, number: int) -> None:
    """Stop as soon as it can be seen that the disk will not suffice.

    Raises:
        InputError: how much is needed and how much there is.
    """
    size = parts.size(number)
    made = parts.count - len(parts.missing())
    needed = size * (parts.count - made) + INDEX_GROWTH * size * parts.count
    free = shutil.disk_usage(parts.folder).free
    if needed > free:
        raise InputError(
            f"{parts.folder.parent}: about {needed / 1e9:.1f} GB are still needed, but only {free / 1e9:.1f} GB "
            "are free; make room, and the same command goes on"
        )
