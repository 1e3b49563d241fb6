"""A sentence-transformers SparseEncoder, inference-free or siamese, behind the interface evaluation needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_matrix

from neural_sparse.errors import refuse_one_string

if TYPE_CHECKING:
    from sentence_transformers import SparseEncoder


class PlainEncoder:
    """Documents through `encode_document`, queries through `encode_query`, both as csr_matrix float32."""

    def __init__(self, model: SparseEncoder, batch_size: int = 32) -> None:
        self.model = model
        self.batch_size = batch_size

    @property
    def tokenizer(self) -> Any:
        return self.model.tokenizer

    @property
    def vocab_size(self) -> int:
        return int(self.model.get_embedding_dimension() or len(self.tokenizer))

    def encode_documents(self, texts: Sequence[str], *, show_progress: bool = False) -> csr_matrix:
        return self._encode(self.model.encode_document, texts, show_progress)

    def encode_queries(self, texts: Sequence[str]) -> csr_matrix:
        return self._encode(self.model.encode_query, texts, False)

    def _encode(self, encode: Any, texts: Sequence[str], show_progress: bool) -> csr_matrix:
        refuse_one_string(texts)
        if not texts:
            return csr_matrix(np.zeros((0, self.vocab_size), dtype=np.float32))
        vectors = encode(
            list(texts),
            batch_size=self.batch_size,
            show_progress_bar=show_progress,
            convert_to_sparse_tensor=True,
            save_to_cpu=True,
        ).coalesce()
        places = vectors.indices().numpy()
        weights = vectors.values().float().numpy()
        shape = (len(texts), int(vectors.shape[1]))
        matrix = csr_matrix((weights, (places[0], places[1])), shape=shape)
        matrix.eliminate_zeros()
        matrix.sort_indices()
        return matrix
