"""Inverse document frequency: the query side of the retriever, from a list of texts or from millions."""

from neural_sparse.idf.counting import (
    DocumentCounter,
    DocumentFrequencies,
    document_frequencies,
    kept_frequencies,
    merge,
)
from neural_sparse.idf.refreshed import MovedToken, MovedTokens, moved_tokens, refreshed_weights
from neural_sparse.idf.weights import (
    DEFAULT_IDF,
    IdfWeights,
    adapt_weights,
    compute_idf_weights,
    idf_from_counts,
    idf_weights,
    save_idf_weights,
    weights_of,
    without_common,
)

__all__ = [
    "DEFAULT_IDF",
    "DocumentCounter",
    "DocumentFrequencies",
    "IdfWeights",
    "MovedToken",
    "MovedTokens",
    "adapt_weights",
    "compute_idf_weights",
    "document_frequencies",
    "idf_from_counts",
    "idf_weights",
    "kept_frequencies",
    "merge",
    "moved_tokens",
    "refreshed_weights",
    "save_idf_weights",
    "weights_of",
    "without_common",
]
