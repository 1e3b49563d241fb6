"""Dense teachers: any sentence-transformers embedding model."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from sentence_transformers import SentenceTransformer
from torch.nn.functional import normalize

from neural_sparse.errors import InputError
from neural_sparse.teachers.bi_encoder import BiEncoderTeacher, Task
from neural_sparse.teachers.loading import computing_in, read_config
from neural_sparse.teachers.rows import Matrix

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class DenseTeacher(BiEncoderTeacher):
    """One embedding per text, stored as float16; scored by cosine or dot product, as the model says.

    Cosine (the default of models that do not say) means that embeddings are stored with length 1.
    """

    kind = "dense"

    @cached_property
    def model(self) -> SentenceTransformer:
        return self._load(SentenceTransformer)

    @cached_property
    def similarity(self) -> str:
        config = read_config(self.folder, "config_sentence_transformers.json")
        similarity = config.get("similarity_fn_name") or "cosine"
        if similarity not in ("cosine", "dot"):
            raise InputError(
                f"teacher {self.name!r} scores by {similarity} distance; only cosine and dot can teach"
            )
        return similarity

    def identity(self, task: Task) -> dict[str, Any]:
        return {**super().identity(task), "similarity": self.similarity}

    def encode(self, texts: list[str], task: Task) -> Matrix:
        route: dict[str, Any] = {"task": task} if self.routed else {}
        with computing_in(self.precision, self.model.device):
            embeddings = self.model.encode(
                texts,
                prompt=self.prompt(task),
                batch_size=len(texts),
                show_progress_bar=False,
                convert_to_tensor=True,
                **route,
            )
        embeddings = embeddings.float()
        if self.similarity == "cosine":
            embeddings = normalize(embeddings, dim=1)
        return embeddings.cpu().numpy().astype(np.float16)
