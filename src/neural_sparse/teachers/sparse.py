"""Sparse teachers: SPLADE-like models, siamese or inference-free."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_matrix

from neural_sparse.teachers.bi_encoder import BiEncoderTeacher, Task
from neural_sparse.teachers.rows import Matrix
from neural_sparse.teachers.weights import loading

if TYPE_CHECKING:
    from sentence_transformers import SparseEncoder


class SparseTeacher(BiEncoderTeacher):
    """Weights over the vocabulary, stored as CSR with float16 values; scored by dot product.

    A folder with nothing but a masked-LM is read as SPLADE: log1p(relu(max over positions of the logits)),
    the same for queries and documents.
    """

    kind = "sparse"

    @cached_property
    def model(self) -> SparseEncoder:
        from sentence_transformers import SparseEncoder

        with loading(self.name):
            model = SparseEncoder(
                str(self.folder),
                device=self.device,
                trust_remote_code=self.trust_remote_code,
                model_kwargs={"use_safetensors": True},
            )
        model.max_seq_length = min(self.max_length, model.max_seq_length or self.max_length)
        return model

    def encode(self, texts: list[str], task: Task) -> Matrix:
        weights = self.model.encode(
            texts,
            prompt=self.prompt(task),
            batch_size=len(texts),
            show_progress_bar=False,
            convert_to_sparse_tensor=False,
            save_to_cpu=True,
            **({"task": task} if self.routed else {}),
        )
        # Rounded to what is stored first, so that values too small for float16 leave no explicit zeros.
        return csr_matrix(weights.numpy().astype(np.float16).astype(np.float32))
