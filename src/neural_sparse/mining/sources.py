"""Where candidates come from, by name ("bm25", "dense:NAME", "sparse:NAME", "student:FOLDER"), and what scores them."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tqdm.auto import tqdm

from neural_sparse.config import AUTO
from neural_sparse.data.training_set import TrainingSet
from neural_sparse.errors import InputError
from neural_sparse.io.parts import Parts
from neural_sparse.io.resources import require_space
from neural_sparse.model.csr_rows import CsrRows
from neural_sparse.search import BM25Index, DenseRetriever, SparseIndex
from neural_sparse.search.compiled import compiled
from neural_sparse.search.doc_ids import DocumentIds
from neural_sparse.search.retrievers import Vectors
from neural_sparse.teachers.bi_encoder import BiEncoderTeacher
from neural_sparse.teachers.builder import TeacherBuilder
from neural_sparse.teachers.cache import TeacherCache
from neural_sparse.teachers.cross_encoder import CrossEncoderTeacher
from neural_sparse.teachers.endpoint import EndpointTeacher, RerankTeacher
from neural_sparse.text.languages import WORD
from neural_sparse.text.ragged import Indices

if TYPE_CHECKING:
    from neural_sparse.model.encoder import NeuralSparseEncoder


Scores = NDArray[np.float32]
_PAIR_BYTES = 1 << 26  # of dense document vectors gathered at a time


class Scorer(Protocol):
    """Scores given pairs.

    Attributes:
        name: shown in messages and tables.
        identity: all that its scores depend on, beside the texts (JSON values).
    """

    name: str
    identity: dict[str, Any]

    def pair_scores(self, queries: Indices, documents: Indices) -> Scores:
        """Scores float32 [queries, candidates] of query rows [queries] with document rows
        [queries, candidates]; NaN where the document row is -1."""
        ...


class Source(Scorer, Protocol):
    """Finds documents, too."""

    def search(self, queries: Indices, k: int) -> NDArray[np.int32]:
        """Rows of the k best documents of each query row, [queries, k], best first; -1 behind."""
        ...


class DenseSource:
    """Dot products of dense vectors.

    Args:
        queries: float32 [rows, dimensions] of query rows.
        documents: [documents, dimensions], an array or a view that is read block by block.
    """

    def __init__(
        self,
        name: str,
        identity: dict[str, Any],
        queries: Callable[[Indices], NDArray[np.float32]],
        documents: Vectors,
    ) -> None:
        self.name, self.identity = name, identity
        self._queries = queries
        self._retriever = DenseRetriever(documents, DocumentIds.numbers(len(documents)))

    def search(self, queries: Indices, k: int) -> NDArray[np.int32]:
        return self._retriever.search(self._queries(queries), k).docs

    def pair_scores(self, queries: Indices, documents: Indices) -> Scores:
        vectors, scores = self._retriever.vectors, np.empty(documents.shape, np.float32)
        step = max(1, _PAIR_BYTES // max(1, 4 * vectors.shape[1] * documents.shape[1]))
        for first in range(0, len(queries), step):
            rows = documents[first : first + step]
            mine = self._queries(queries[first : first + step])
            used, place = np.unique(np.maximum(rows, 0), return_inverse=True)
            theirs = np.asarray(vectors[used], np.float32)[place.reshape(rows.shape)]
            # Not einsum: the sum of a pair must not depend on the pairs beside it.
            scores[first : first + step] = (theirs * mine[:, None]).sum(2, dtype=np.float32)
        return np.where(documents < 0, np.float32(np.nan), scores)


class SparseSource:
    """Dot products of sparse vectors.

    Args:
        queries: csr float32 [rows, vocabulary] of query rows.
        documents: csr float32 [documents, vocabulary]; or an index that is already built.
    """

    def __init__(
        self,
        name: str,
        identity: dict[str, Any],
        queries: Callable[[Indices], sp.csr_matrix],
        documents: sp.csr_matrix | SparseIndex,
    ) -> None:
        self.name, self.identity = name, identity
        self._queries = queries
        if isinstance(documents, SparseIndex):
            self._index = documents
        else:
            self._index = SparseIndex.build(documents, DocumentIds.numbers(documents.shape[0]))
            self._documents = documents

    @cached_property
    def _documents(self) -> sp.csr_matrix:
        return self._index.vectors()

    def search(self, queries: Indices, k: int) -> NDArray[np.int32]:
        return self._index.search(self._queries(queries), k).docs

    def pair_scores(self, queries: Indices, documents: Indices) -> Scores:
        mine, theirs = self._queries(queries), self._documents
        scores = np.full(documents.shape, np.nan, np.float32)
        _pair_dots(
            mine.indptr.astype(np.int64),
            mine.indices.astype(np.int32, copy=False),
            query_weights=mine.data,
            doc_offsets=theirs.indptr.astype(np.int64),
            doc_terms=theirs.indices.astype(np.int32, copy=False),
            doc_weights=theirs.data,
            weights=np.zeros(mine.shape[1], np.float64),
            documents=documents,
            scores=scores,
        )
        return scores


def bm25_source(queries: Sequence[str], documents: Sequence[str], language: str = AUTO) -> SparseSource:
    """BM25 over all documents; its language as of `BM25Index.build`."""
    index = BM25Index.build(documents, DocumentIds.numbers(len(documents)), language=language)
    words = index.words
    unusual = {
        key: value
        for key, value, usual in (
            ("pattern", words.pattern, WORD),
            ("segmenter", words.segmenter, None),
        )
        if value != usual
    }
    return SparseSource(
        "bm25",
        {
            "kind": "bm25",
            "k1": index.k1,
            "b": index.b,
            "stemmer": words.stemmer,
            "stopwords": words.stopwords,
            **unusual,
        },
        lambda rows: index.encode_queries([queries[row] for row in rows.tolist()]),
        index.index,
    )


class CrossEncoderScorer:
    """Raw outputs of a cross-encoder, kept in the teacher cache: a pair is scored once."""

    def __init__(
        self,
        teacher: CrossEncoderTeacher | RerankTeacher,
        queries: Sequence[str],
        documents: Sequence[str],
        cache: TeacherCache,
    ) -> None:
        self.name, self.identity = teacher.name, teacher.identity
        self._teacher, self._cache = teacher, cache
        self._queries, self._documents = queries, documents

    def pair_scores(self, queries: Indices, documents: Indices) -> Scores:
        scores = np.full(documents.shape, np.nan, np.float32)
        places = np.argwhere(documents >= 0)
        if len(places):
            pairs = np.column_stack((queries[places[:, 0]], documents[tuple(places.T)]))
            (job,) = self._teacher.jobs(self._queries, self._documents, pairs)
            stored, rows = self._cache.rows(job)
            scores[tuple(places.T)] = np.asarray(stored.gather(rows)).reshape(-1)
        return scores


@compiled
def _pair_dots(
    query_offsets: NDArray[np.int64],
    query_terms: NDArray[np.int32],
    query_weights: NDArray[np.float32],
    doc_offsets: NDArray[np.int64],
    doc_terms: NDArray[np.int32],
    doc_weights: NDArray[np.float32],
    weights: NDArray[np.float64],
    documents: NDArray[np.int64],
    scores: NDArray[np.float32],
) -> None:
    """Fill scores [queries, candidates] where documents [queries, candidates] has a row; `weights` is zeros."""
    for query in range(len(query_offsets) - 1):
        for i in range(query_offsets[query], query_offsets[query + 1]):
            weights[query_terms[i]] = query_weights[i]
        for column in range(documents.shape[1]):
            row = documents[query, column]
            if row >= 0:
                total = 0.0
                for i in range(doc_offsets[row], doc_offsets[row + 1]):
                    total += weights[doc_terms[i]] * doc_weights[i]
                scores[query, column] = total
        for i in range(query_offsets[query], query_offsets[query + 1]):
            weights[query_terms[i]] = 0.0


logger = logging.getLogger(__name__)

PART = 16_384  # documents encoded between two writes to disk: what a kill can lose


def student_source(
    model: NeuralSparseEncoder, data: TrainingSet, folder: Path, digest: str, bf16: bool = False
) -> SparseSource:
    """A student as it is now.

    Args:
        folder: where its vectors wait, in a folder student-DIGEST, until they are no longer wanted. What is there
            of the very same student, bit by bit, is not encoded again; what is there of another one is deleted.
        digest: of `data`.

    Raises:
        InputError: the disk will not hold the vectors (seen after the first part).
    """
    identity = student_identity(model, bf16)
    name = folder / f"student-{_digest({**identity, 'data': digest})}"
    for other in folder.glob("student-*"):
        if other != name:
            logger.info("vectors in %s are of another student: encoding anew", other)
            shutil.rmtree(other)
    documents = len(data.documents)
    parts = Parts(name, {**identity, "data": digest}, -(-documents // PART), "safetensors")
    with tqdm(total=documents, desc="student encodes", unit=" docs", disable=None) as progress:
        missing = parts.missing()
        progress.update(documents - sum(len(_rows(number, documents)) for number in missing))
        for left, number in zip(range(len(missing), 0, -1), missing, strict=True):
            rows = _rows(number, documents)
            encoded = model.encode_documents(data.documents[rows.start : rows.stop], bf16=bf16)
            with parts.write(number) as temporary:
                _save(encoded, temporary)
            if left == len(missing):
                require_space(name, parts.size(number) * (left - 1), "keeping the student's vectors")
            progress.update(len(rows))
    vectors = CsrRows(model.vocab_size)
    for file in parts.files():
        vectors.append(_load(file, model.vocab_size))
    return SparseSource(
        "student",
        identity,
        lambda rows: model.encode_queries([data.queries[row] for row in rows.tolist()]),
        vectors.matrix(),
    )


def student_identity(model: NeuralSparseEncoder, bf16: bool) -> dict[str, Any]:
    """All that a student's vectors depend on beside the texts: every bit of its weights, and how it computes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {list(values.shape)};".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy())
    return {
        "student": digest.hexdigest(),
        "activation": model.activation,
        "max_length": model.max_length,
        "bf16": bf16,
        "device": model.device.type,
    }


def _digest(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _rows(number: int, documents: int) -> range:
    return range(number * PART, min((number + 1) * PART, documents))


def _save(vectors: sp.csr_matrix, path: Path) -> None:
    save_file({name: getattr(vectors, name) for name in ("data", "indices", "indptr")}, path)


def _load(path: Path, width: int) -> sp.csr_matrix:
    part = load_file(path)
    shape = len(part["indptr"]) - 1, width
    return sp.csr_matrix((part["data"], part["indices"], part["indptr"]), shape=shape)


SOURCE_KINDS = ("bm25", "dense", "sparse", "student", "endpoint")
PAIR_SCORERS = ("cross-encoder", "rerank-endpoint")


def parse_source(text: str, kinds: Sequence[str] = SOURCE_KINDS) -> tuple[str, str | None]:
    """Kind and name of "KIND" or "KIND:NAME".

    Raises:
        InputError: an unknown kind, a missing name.
    """
    kind, _, name = text.partition(":")
    if kind not in kinds:
        raise InputError(f"{text!r}: unknown kind {kind!r}; write {', '.join(map(_example, kinds))}")
    if (kind == "bm25") != (not name):
        raise InputError(f"{text!r}: write {_example(kind)}")
    return kind, name or None


def _example(kind: str) -> str:
    if kind.endswith("endpoint"):
        return f"{kind}:MODEL@URL"
    return kind if kind == "bm25" else f"{kind}:{'FOLDER' if kind == 'student' else 'NAME'}"


class Sources:
    """Makes each source once, however often it is named; texts are encoded through the teacher cache.

    Args:
        data: whose queries and documents row numbers count.
        cache: of the teachers' vectors.
        teachers: how a named model becomes a teacher; in float32 and with their defaults if None.
    """

    def __init__(
        self,
        data: TrainingSet,
        cache: TeacherCache,
        teachers: TeacherBuilder | None = None,
    ) -> None:
        self.data = data
        self.cache = cache
        self.teachers = teachers or TeacherBuilder(bf16=False)
        self._made: dict[str, Source] = {}

    def source(self, text: str) -> Source:
        """The source that `text` names.

        Raises:
            InputError: as `parse_source`; a model that cannot be found or loaded; vectors with NaN.
        """
        kind, name = parse_source(text)
        key = text.replace("student:", "sparse:")  # a student is a sparse model like any other
        if key not in self._made:
            self._made[key] = self._bm25() if name is None else self._bi_encoder(kind, name)
        return self._made[key]

    def scorer(self, text: str) -> Scorer:
        """A source, "cross-encoder:NAME" or "rerank-endpoint:NAME"."""
        kind, name = parse_source(text, (*SOURCE_KINDS, *PAIR_SCORERS))
        if kind not in PAIR_SCORERS or name is None:
            return self.source(text)
        teacher = cast(
            "CrossEncoderTeacher | RerankTeacher",
            self.teachers.named(kind, name),  # type: ignore[arg-type]
        )
        return CrossEncoderScorer(teacher, self.data.queries, self.data.documents, self.cache)

    def _bm25(self) -> Source:
        return bm25_source(self.data.queries, self.data.documents, self.teachers.bm25_language)

    def _bi_encoder(self, kind: str, name: str) -> Source:
        made = self.teachers.named("sparse" if kind == "student" else kind, name)  # type: ignore[arg-type]
        teacher = cast("BiEncoderTeacher | EndpointTeacher", made)
        prepared = teacher.prepare(self.data.queries, self.data.documents, None, self.cache)
        identity = {"query": teacher.identity("query"), "document": teacher.identity("document")}
        if (dense := prepared.dense_documents()) is not None:
            return DenseSource(name, identity, prepared.query_vectors, dense)  # type: ignore[arg-type]
        return SparseSource(name, identity, prepared.query_vectors, prepared.document_vectors())  # type: ignore[arg-type]
