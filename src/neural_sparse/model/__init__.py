"""The encoder: a masked-LM head pooled over positions for documents, a weight table for queries."""

from typing import TYPE_CHECKING

from neural_sparse.lazy import lazy

if TYPE_CHECKING:
    from neural_sparse.model.averaging import average_models
    from neural_sparse.model.encoder import NeuralSparseEncoder
    from neural_sparse.model.encoding import encode_documents
    from neural_sparse.model.exported import ExportedEncoder
    from neural_sparse.model.location import content_hash, model_folder, resolve_model
    from neural_sparse.model.own_words import OwnWords
    from neural_sparse.model.pruning import Pruning, sparsity_stats
    from neural_sparse.model.tokenizer import load_tokenizer

__all__ = [
    "ExportedEncoder",
    "NeuralSparseEncoder",
    "OwnWords",
    "Pruning",
    "average_models",
    "content_hash",
    "encode_documents",
    "load_tokenizer",
    "model_folder",
    "resolve_model",
    "sparsity_stats",
]
__getattr__, __dir__ = lazy(__name__)
