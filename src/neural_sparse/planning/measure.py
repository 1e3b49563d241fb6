"""Short samples of the stages, timed on this machine with the recipe's own models."""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from neural_sparse.config import Recipe, TeacherConfig
from neural_sparse.corpora.corpus_file import corpus_documents
from neural_sparse.corpora.python_docs import python_docs
from neural_sparse.data.training_set import load_training_set
from neural_sparse.errors import InputError
from neural_sparse.idf.counting import DocumentCounter
from neural_sparse.io.files import sha256_file
from neural_sparse.losses.idf_aware import IDFAwareLoss
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.model.encoding import encode_tokens
from neural_sparse.model.layout import map_tensors
from neural_sparse.model.precision import wanted_bf16
from neural_sparse.planning.estimate import Figure, measured
from neural_sparse.planning.rates import Rates
from neural_sparse.planning.shapes import ModelShape, shape_of
from neural_sparse.planning.stages import BACKWARD, HEAD_BACKWARD
from neural_sparse.planning.workload import Workload
from neural_sparse.search import BM25Index
from neural_sparse.search.doc_ids import DocumentIds
from neural_sparse.search.index import SparseIndex
from neural_sparse.teachers.bi_encoder import BiEncoderTeacher
from neural_sparse.teachers.builder import TeacherBuilder
from neural_sparse.text.tokens import tokenize
from neural_sparse.training.batches import pad
from neural_sparse.training.setup import vocabulary_sampler
from neural_sparse.work.workers import available_cores

SECONDS = 6.0  # of each sample
SAMPLE = 4000  # documents
READ = 40_000  # lines of a file
INDEXED = 3e6  # postings


def measure(
    recipe: Recipe, rates: Rates, work: Workload, say: Callable[[str], object]
) -> tuple[Rates, Workload]:
    """`rates` with what was timed here in place of the defaults, and `work` with the terms the model gives.

    Takes about a minute, loading models not counted. Teachers that are not on this machine keep the default.

    Args:
        say: told what is being measured.

    Raises:
        InputError: the start model cannot be loaded; the data cannot be read.
    """
    source = "timed here by --measure"
    documents, queries = _texts(recipe)
    encoder = NeuralSparseEncoder(recipe.init, recipe.max_length, new_head=recipe.new_head)
    shape = shape_of(recipe.init)
    cores = available_cores()
    on_device = encoder.device.type != "cpu"
    # Rates are per core: torch's threads are what computes.
    share = 1 if on_device else torch.get_num_threads()
    say("tokenizing and counting")
    timed: dict[str, Figure] = {}
    per_second = _tokenizing(documents, encoder)
    timed["tokenizing"] = measured(per_second / cores, source)
    timed["counting"] = measured(_counting(documents, encoder), source)
    timed["reading"], timed["hashing"] = (measured(rate, source) for rate in _reading(documents))
    say("encoding")
    flops, terms, vectors = _encoding(encoder, documents, shape.body_flops, shape.head_flops)
    devices: dict[str, Figure] = {}
    (devices if on_device else timed)["encoding"] = measured(flops / share, source)
    timed["indexing"] = measured(_indexing(vectors), source)
    timed["bm25_indexing"] = measured(_bm25(documents, encoder), source)
    if (teaching := _teaching(recipe, documents, say)) is not None:
        (devices if on_device else timed)["teaching"] = measured(teaching / share, source)
    say("training")
    flops = _training(recipe, encoder, documents, queries)
    (devices if on_device else timed)["training"] = measured(flops / share, source)
    found = replace(rates, **timed, of_devices=devices, of_this_machine=True)  # type: ignore[arg-type]
    return found, replace(
        work, terms=measured(terms, f"{source}: {recipe.init} as it is, which training changes")
    )


def _texts(recipe: Recipe) -> tuple[list[str], list[str]]:
    """Of the training data where they are here, else of the Python documentation."""
    if all(Path(place).exists() for place in recipe.train):
        data = load_training_set(recipe.train, recipe.corpus)
        rows = np.unique(np.linspace(0, len(data.documents) - 1, SAMPLE).astype(np.int64))
        return [data.documents[row] for row in rows], [
            data.queries[row] for row in range(min(200, len(data)))
        ]

    docs = python_docs()
    return list(docs.collection.texts[:SAMPLE]), [query for query, _ in docs.train[:200]]


def encoding_speed(encoder: Any, documents: list[str], seconds: float, bf16: bool = False) -> float:
    """Tokens a second that become vectors."""
    return _encoding(
        encoder, documents, body=lambda tokens: 1.0, head=0.0, seconds=seconds, texts=64, bf16=bf16
    )[0]


def _repeated(work: Callable[[], float], seconds: float = SECONDS) -> float:
    """Amount of work a second, the first time left out (it compiles and allocates)."""
    work()
    done, spent = 0.0, 0.0
    while spent < seconds:
        started = time.perf_counter()
        done += work()
        spent += time.perf_counter() - started
    return done / spent


def _tokenizing(documents: list[str], encoder: Any) -> float:
    def work() -> float:
        return float(tokenize(documents, encoder.tokenizer, special_tokens=True).lengths.sum())

    return _repeated(work, SECONDS / 4)


def _counting(documents: list[str], encoder: Any) -> float:
    tokenizer = encoder.tokenizer
    tokens = float(tokenize(documents, tokenizer, special_tokens=True).lengths.sum())
    counter = DocumentCounter(tokenizer)

    def work() -> float:
        counter.add(documents)
        return tokens

    return _repeated(work, SECONDS / 4)


def _reading(documents: list[str]) -> tuple[float, float]:
    """Documents a second that are read and checked, and bytes a second that are hashed."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "corpus.jsonl"
        with file.open("w") as lines:
            for number, text in enumerate(itertools.islice(itertools.cycle(documents), READ)):
                lines.write(json.dumps({"_id": str(number), "text": text}) + "\n")

        def read() -> float:
            return float(len(DocumentIds.of(name for name, _ in corpus_documents(file))))

        def hashed() -> float:
            sha256_file(file)
            return float(file.stat().st_size)

        return _repeated(read, SECONDS / 6), _repeated(hashed, SECONDS / 12)


def _encoding(
    encoder: Any,
    documents: list[str],
    body: Callable[[float], float],
    head: float,
    seconds: float | None = None,
    texts: int = 256,
    bf16: bool = False,
) -> tuple[float, float, Any]:
    """FLOP a second, terms per document, the vectors; so many texts at a time."""
    chunks: Iterator[int] = itertools.count()
    kept: list = []

    def work() -> float:
        first = texts * next(chunks) % max(1, len(documents) - texts)
        part = documents[first : first + texts]
        tokens = tokenize(part, encoder.tokenizer, encoder.max_length, special_tokens=True)
        kept.append(encode_tokens(encoder, tokens, bf16=bf16))
        total = float(tokens.lengths.sum())
        return total * (body(total / len(part)) + head)

    flops = _repeated(work, SECONDS if seconds is None else seconds)

    vectors = sp.vstack(kept, format="csr")
    return flops, vectors.nnz / vectors.shape[0], vectors


def _indexing(vectors: Any) -> float:
    """Postings a second into an index on disk."""
    rows, count = vectors, vectors.shape[0]
    copies = max(1, round(INDEXED / max(1, rows.nnz)))
    ids = [str(number) for number in range(copies * count)]

    def work() -> float:
        with tempfile.TemporaryDirectory() as folder:
            SparseIndex.build(iter([rows] * copies), ids, folder=Path(folder) / "index")
        return float(copies * rows.nnz)

    return _repeated(work, SECONDS / 4)


def _bm25(documents: list[str], encoder: Any) -> float:
    tokens = float(tokenize(documents, encoder.tokenizer, special_tokens=True).lengths.sum())
    ids = [str(number) for number in range(len(documents))]

    def work() -> float:
        BM25Index.build(documents, ids)
        return tokens

    return _repeated(work, SECONDS / 4)


def _teaching(recipe: Recipe, documents: list[str], say: Callable[[str], object]) -> float | None:
    """FLOP a second over the recipe's bi-encoder teachers, weighted by the time they take."""
    builder = TeacherBuilder.of(recipe)
    done = spent = 0.0
    for config in recipe.teachers:
        if config.kind not in ("dense", "sparse"):
            continue
        say(f"teacher {config.name}")
        try:
            teacher = builder.teacher(config)
            shape = shape_of(str(config.name))
            assert isinstance(teacher, BiEncoderTeacher)
            teacher.encode(documents[:8], "document")
        except InputError as error:
            say(f"{config.name} is not measured: {error}")
            continue
        rate = _teacher_rate(teacher, config, shape, documents)
        done, spent = done + rate * SECONDS, spent + SECONDS
    return done / spent if spent else None


def _teacher_rate(teacher: Any, config: TeacherConfig, shape: ModelShape, documents: list[str]) -> float:
    limit = config.max_length or int(getattr(teacher.model, "max_seq_length", None) or 512)
    size, chunks = teacher.batch_size, itertools.count()

    def work() -> float:
        first = size * next(chunks) % max(1, len(documents) - size)
        part = documents[first : first + size]
        teacher.encode(part, "document")
        lengths = np.minimum(tokenize(part, teacher.model.tokenizer, special_tokens=True).lengths, limit)
        per_token = shape.body_flops(float(lengths.mean()))
        return float(lengths.sum()) * (per_token + (shape.head_flops if config.kind == "sparse" else 0))

    return _repeated(work)


def _training(recipe: Recipe, encoder: Any, documents: list[str], queries: list[str]) -> float:
    """FLOP a second of steps of the recipe's size."""
    speed, length, columns = training_speed(
        recipe, encoder, documents=documents, queries=queries, seconds=2 * SECONDS
    )
    shape = shape_of(recipe.init)
    flops = shape.body_flops(length) * (1 + BACKWARD) + shape.head_flops_of(columns) * (1 + HEAD_BACKWARD)
    return speed * flops


def training_speed(
    recipe: Recipe, encoder: Any, documents: list[str], queries: Sequence[str], seconds: float
) -> tuple[float, float, float]:
    """Of steps like the recipe's, with at most 64 documents, which a laptop holds; the encoder stays as it is.

    Forward and backward pass in the recipe's precision, on a sample of the vocabulary where it asks for one, and an
    optimiser's step; without teachers' scores, which are looked up.

    Returns:
        Tokens of documents a second; tokens of a document, and tokens of the vocabulary that a step looks at, on
        average.
    """
    width = 1 + recipe.num_hard_negatives
    count = max(2, min(recipe.batch_size, 64 // width))
    weights, device = encoder.idf_table(), encoder.device
    sampler = vocabulary_sampler(recipe, weights)
    loss = IDFAwareLoss(
        weights,
        encoder.vocab_size,
        recipe.lambda_flops,
        device=device,
        ranking={"info_nce": 1.0},
        ramp_steps=1,
    )
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=0.0, weight_decay=0.0)
    half = wanted_bf16(recipe.bf16, device)
    chunks = itertools.count()
    lengths: list[float] = []
    columns: list[float] = []

    def work() -> float:
        at = count * next(chunks)
        texts = [documents[(width * at + place) % len(documents)] for place in range(width * count)]
        asked = tokenize([queries[(at + query) % len(queries)] for query in range(count)], encoder.tokenizer)
        tokens = tokenize(texts, encoder.tokenizer, encoder.max_length, special_tokens=True)
        sample = sampler.sample(at, np.unique(asked.ids)) if sampler is not None else None
        features = encoder.packed(tokens, device, None if sample is None else sample.columns)
        sample = map_tensors(sample, lambda tensor: tensor.to(device))
        query_ids, query_mask = (part.to(device) for part in pad(asked))
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
            vectors = encoder(features)["sentence_embedding"]
        positive = torch.arange(0, width * count, width, device=device)
        found = loss(query_ids, query_mask, vectors, positive=positive, sample=sample)["loss"]
        optimizer.zero_grad(set_to_none=True)
        found.backward()
        optimizer.step()
        lengths.append(float(tokens.lengths.mean()))
        columns.append(float(vectors.shape[1]))
        return float(tokens.lengths.sum())

    before = encoder.training, encoder.max_length
    encoder.train()
    encoder.set_max_length(recipe.max_length)
    try:
        speed = _repeated(work, seconds)
    finally:
        encoder.train(before[0])
        encoder.set_max_length(before[1])
        encoder.zero_grad(set_to_none=True)
    return speed, float(np.mean(lengths)), float(np.mean(columns))
