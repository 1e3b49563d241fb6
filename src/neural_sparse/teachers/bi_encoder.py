"""What dense and sparse teachers share: each text becomes one cached vector, scores are dot products."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from neural_sparse.model.location import content_hash, model_folder
from neural_sparse.teachers.cache import EncodingJob, TeacherCache
from neural_sparse.teachers.loading import Model, checked_precision, load_model, read_config, without_cached
from neural_sparse.teachers.rows import DenseVectors, Matrix, StoredVectors, dot
from neural_sparse.teachers.teacher import Known, Scores
from neural_sparse.teachers.token_batches import by_tokens, model_and_limit, token_lengths, warn_if_truncated

Task = Literal["query", "document"]
_PROMPT_NAMES: dict[Task, tuple[str, ...]] = {
    "query": ("query",),
    "document": ("document", "passage", "corpus"),
}


class PreparedVectors:
    """Query and document vectors of one teacher, ready for quick in-batch scores.

    Attributes:
        name: Of the teacher.
    """

    in_batch = True

    def __init__(
        self,
        name: str,
        queries: StoredVectors,
        query_rows: NDArray[np.int64],
        documents: StoredVectors,
        document_rows: NDArray[np.int64],
    ) -> None:
        self.name = name
        self._queries, self._query_rows = queries, query_rows
        self._documents, self._document_rows = documents, document_rows

    def scores(
        self, query_rows: NDArray[np.int64], doc_rows: NDArray[np.int64], own: Known
    ) -> tuple[Scores, Known]:
        queries = self._queries.gather(self._query_rows[query_rows])
        documents = self._documents.gather(self._document_rows[doc_rows])
        return dot(queries, documents), np.ones((len(query_rows), len(doc_rows)), dtype=np.bool_)

    def query_vectors(self, rows: NDArray[np.int64] | None = None) -> Matrix:
        """float32 [queries, width], of all or of some rows: an array (dense teacher) or a csr_matrix (sparse)."""
        return self._queries.gather(self._query_rows if rows is None else self._query_rows[rows])

    def document_vectors(self, rows: NDArray[np.int64] | None = None) -> Matrix:
        """float32 [documents, width]: as `query_vectors`."""
        return self._documents.gather(self._document_rows if rows is None else self._document_rows[rows])

    def dense_documents(self) -> DenseVectors | None:
        """All document vectors of a dense teacher, left where they are until they are read; None of a sparse one."""
        return None if self._documents.sparse else DenseVectors(self._documents, self._document_rows)


class BiEncoderTeacher(ABC):
    """A model that turns each text into one vector.

    Args:
        name: Hub id, folder, or folder inside an installed package. Safetensors weights only.
        query_prompt, document_prompt: Put before each text; None means what the model's own files say.
        batch_size: Texts of the full length in a batch, and more of shorter ones: as many padded tokens. None for
            as many tokens as suit the device.
        device: None means a GPU where there is one.
        precision: Of the computation; bfloat16 is quicker where the hardware has it and off by about 1e-3.
        max_length: Longer texts are cut to this many tokens (or to the model's own limit, if that is lower).
        trust_remote_code: Run code that comes with the model. Off unless you trust its authors.

    Raises:
        InputError: an unknown precision; a model that cannot be found or loaded (when it is first needed).
    """

    in_batch = True
    kind: str
    default_batch_size = 32
    default_tokens: ClassVar[Mapping[str, int]] = {"cpu": 1024, "cuda": 16_384}  # padded, of a batch

    def __init__(
        self,
        name: str,
        *,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        batch_size: int | None = None,
        device: str | None = None,
        max_length: int = 512,
        precision: str = "float32",
        trust_remote_code: bool = False,
    ) -> None:
        self.name = name
        self.batch_size = batch_size or self.default_batch_size
        self._bounded = batch_size is not None
        self.device = device
        self.max_length = max_length
        self.precision = checked_precision(precision)
        self.trust_remote_code = trust_remote_code
        self._own_prompts: dict[Task, str | None] = {"query": query_prompt, "document": document_prompt}

    @abstractmethod
    def encode(self, texts: list[str], task: Task) -> Matrix:
        """Vectors of a batch of texts, in the precision in which they are stored."""

    @cached_property
    def folder(self) -> Path:
        return model_folder(self.name)

    @cached_property
    def routed(self) -> bool:
        """Whether queries and documents go through different modules."""
        modules = read_config(self.folder, "modules.json")
        return any(str(module["type"]).endswith(("Router", "Asym")) for module in modules)

    @property
    def batch_tokens(self) -> int:
        """Padded tokens of a batch, at most."""
        model, limit = model_and_limit(self)
        if self._bounded:
            return self.batch_size * (limit or self.max_length)
        return self.default_tokens.get(model.device.type, self.default_tokens["cuda"])

    def batches(self, texts: list[str], task: Task) -> list[slice]:
        """Texts that are encoded at once."""
        model, limit = model_and_limit(self)
        lengths = token_lengths(texts, model.tokenizer, limit or self.max_length, self.prompt(task))
        return by_tokens(lengths, self.batch_tokens)

    def _load(self, kind: Callable[..., Model]) -> Model:
        return load_model(
            kind,
            self.name,
            self.folder,
            device=self.device,
            max_length=self.max_length,
            trust_remote_code=self.trust_remote_code,
        )

    @cached_property
    def _weights(self) -> str:
        return content_hash(self.folder)

    def prompt(self, task: Task) -> str:
        """What is put before a text (passage prompts count, which sentence-transformers overlooks)."""
        own = self._own_prompts[task]
        if own is not None:
            return own
        prompts = read_config(self.folder, "config_sentence_transformers.json").get("prompts") or {}
        return next((prompts[name] for name in _PROMPT_NAMES[task] if prompts.get(name)), "")

    def identity(self, task: Task) -> dict[str, Any]:
        """All that a text's vector depends on; equal for both tasks where the model treats them alike."""
        return {
            "kind": self.kind,
            "weights": self._weights,
            "prompt": self.prompt(task),
            "route": task if self.routed else "both",
            "max_length": self.max_length,
            "precision": self.precision,
        }

    def jobs(
        self, queries: Sequence[str], documents: Sequence[str], pairs: NDArray[np.int64] | None = None
    ) -> list[EncodingJob]:
        """What the cache has to hold before training: queries, then documents."""
        sides: list[tuple[Task, Sequence[str]]] = [("query", queries), ("document", documents)]
        return [
            EncodingJob(
                self.name,
                self.identity(task),
                items=texts,
                encode=partial(self.encode, task=task),
                batch_size=self.batch_size,
                at_start=partial(warn_if_truncated, self, documents),
                batches=partial(self.batches, task=task),
            )
            for task, texts in sides
        ]

    def prepare(
        self,
        queries: Sequence[str],
        documents: Sequence[str],
        pairs: NDArray[np.int64] | None,
        cache: TeacherCache,
    ) -> PreparedVectors:
        query_side, document_side = (cache.rows(job) for job in self.jobs(queries, documents, pairs))
        return PreparedVectors(self.name, *query_side, *document_side)

    def __getstate__(self) -> dict[str, Any]:
        """Settings alone: another process loads the model itself."""
        return without_cached(self)
