"""Sparse teachers: SPLADE-like models, siamese or inference-free."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from scipy.sparse import csr_matrix
from sentence_transformers import SparseEncoder

from neural_sparse.errors import InputError
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.teachers.bi_encoder import BiEncoderTeacher, Task
from neural_sparse.teachers.loading import computing_in, loading, read_config
from neural_sparse.teachers.rows import Matrix
from neural_sparse.teachers.token_batches import by_count

if TYPE_CHECKING:
    from sentence_transformers import SparseEncoder

    from neural_sparse.model.encoder import NeuralSparseEncoder


class SparseTeacher(BiEncoderTeacher):
    """Weights over the vocabulary, stored as CSR with float16 values; scored by dot product.

    Siamese models encode queries as they encode documents, inference-free ones look their weights up. A
    folder with nothing but a masked LM is read as a siamese SPLADE.
    """

    kind = "sparse"
    default_batch_size = 256
    default_tokens: ClassVar[Mapping[str, int]] = {"cpu": 4096, "cuda": 65_536}

    def batches(self, texts: list[str], task: Task) -> list[slice]:
        if self._fast is not None and self.routed and task == "query":  # looked up: no model runs
            return by_count(self.default_batch_size, texts)
        return super().batches(texts, task)

    def encode(self, texts: list[str], task: Task) -> Matrix:
        if self._fast is not None:
            prompted = [self.prompt(task) + text for text in texts]
            looked_up = self.routed and task == "query"
            bf16 = self.precision == "bfloat16"
            vectors = (
                self._fast.encode_queries(prompted)
                if looked_up
                else self._fast.encode_documents(prompted, tokens_per_batch=self.batch_tokens, bf16=bf16)
            )
        else:
            vectors = self._encode_plainly(texts, task)
        # Rounded to what is stored, so that values too small for float16 leave no explicit zeros.
        vectors.data = vectors.data.astype(np.float16).astype(np.float32)
        vectors.eliminate_zeros()
        return vectors

    @property
    def model(self) -> NeuralSparseEncoder | SparseEncoder:
        return self._plain if self._fast is None else self._fast

    @cached_property
    def _fast(self) -> NeuralSparseEncoder | None:
        """The model behind the fused head, or None for architectures that it does not cover."""
        if self._query_side_is_a_model():
            return None
        modules = read_config(self.folder, "modules.json")
        try:
            with loading(self.name):
                model = NeuralSparseEncoder(
                    str(self.folder),
                    max_length=None if modules else self.max_length,
                    device=self.device,
                    trust_remote_code=self.trust_remote_code,
                )
        except InputError:
            # Anything else would be turned into a sparse encoder with random weights.
            if not any("sparse" in str(module["type"]).lower() for module in modules):
                raise
            return None
        model.transformer.max_seq_length = min(self.max_length, model.max_length)
        return model

    def _query_side_is_a_model(self) -> bool:
        types = read_config(self.folder, "router_config.json").get("types", {})
        return any(
            module.startswith("query_") and not str(kind).endswith("SparseStaticEmbedding")
            for module, kind in types.items()
        )

    @cached_property
    def _plain(self) -> SparseEncoder:
        return self._load(SparseEncoder)

    def _encode_plainly(self, texts: list[str], task: Task) -> csr_matrix:
        route: dict[str, Any] = {"task": task} if self.routed else {}
        with computing_in(self.precision, self._plain.device):
            weights = self._plain.encode(
                texts,
                prompt=self.prompt(task),
                batch_size=min(32, self.batch_size),  # its head holds logits of all tokens
                show_progress_bar=False,
                convert_to_tensor=True,
                convert_to_sparse_tensor=False,
                save_to_cpu=True,
                **route,
            )
        weights[:, self._plain.tokenizer.all_special_ids] = 0  # as the fast way has it
        return csr_matrix(weights.float().numpy())
