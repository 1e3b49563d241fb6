"""What encodes the queries of an encoded collection: a table of weights, or the query encoder of a siamese model."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from neural_sparse.config import QueryEncoder
from neural_sparse.errors import InputError
from neural_sparse.idf import idf_weights, save_idf_weights
from neural_sparse.text.tokens import TokenizerFile, encode_queries

if TYPE_CHECKING:
    from neural_sparse.model.encoder import NeuralSparseEncoder
    from neural_sparse.model.exported import ExportedEncoder

TABLE, TRANSFORMER = "idf.json", "query_encoder"


class QueryTable:
    """Weights of the tokens that a query holds.

    Attributes:
        weights: float32 [vocabulary], 0 for special tokens.
    """

    kind: QueryEncoder = "inference-free"

    def __init__(self, folder: Path, tokenizer: TokenizerFile) -> None:
        self.weights: np.ndarray = idf_weights(folder / TABLE, tokenizer).vector
        self.tokenizer = tokenizer

    def encode(self, texts: Sequence[str], count_repeats: bool) -> sp.csr_matrix:
        return encode_queries(texts, self.tokenizer, self.weights, count_repeats)


class QueryTransformer:
    """A masked LM in the folder query_encoder/, loaded when the first query comes, with torch.

    Args:
        digest: of what the documents were encoded beside, as `NeuralSparseEncoder.queries_digest`.
    """

    def __init__(self, folder: Path, kind: QueryEncoder, digest: str) -> None:
        self.kind = kind
        self.folder = folder / TRANSFORMER
        self.digest = digest
        self._lock = threading.Lock()  # a transformer takes all cores itself

    @property
    def weights(self) -> np.ndarray:
        raise InputError(
            f"{self.folder.parent} has no table of query weights: its queries go through a transformer (query_encoder: "
            f"{self.kind}). `search` and `serve` take it; what looks queries up needs documents of a model that was "
            "trained with query_encoder=inference-free"
        )

    def encode(self, texts: Sequence[str], count_repeats: bool) -> sp.csr_matrix:
        """
        Raises:
            InputError: repeated tokens are to be counted; the folder has another model by now.
        """
        if count_repeats:
            raise InputError(
                "--count-repeats counts a query's repeated tokens as often as a table has them looked up, and the "
                f"queries of {self.folder.parent} go through a transformer; leave it out"
            )
        with self._lock:
            return self._model.encode_documents(texts)

    @cached_property
    def _model(self) -> NeuralSparseEncoder:
        from neural_sparse.model.encoder import NeuralSparseEncoder

        model = NeuralSparseEncoder(self.folder)
        if model.documents_digest != self.digest:
            raise InputError(
                f"{self.folder} is not the one that the collection was encoded with; open the collection again, or "
                "encode the corpus again"
            )
        return model


def write_query_side(folder: Path, model: NeuralSparseEncoder | ExportedEncoder) -> QueryEncoder:
    """Write what the queries of a model need beside its tokenizer; the kind of it."""
    kind: QueryEncoder = getattr(model, "query_encoder", "inference-free")
    if kind == "inference-free":
        save_idf_weights(model.idf_table(), folder / TABLE)
    else:
        model.save_query_encoder(folder / TRANSFORMER)  # type: ignore[union-attr]  # an export has none
    return kind
