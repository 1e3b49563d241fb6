"""Pure functions of tensors, and the IDF-aware loss that composes them."""

from typing import TYPE_CHECKING

from neural_sparse.lazy import lazy

if TYPE_CHECKING:
    from neural_sparse.losses.flops import flops_loss, mean_weights, quadratic_ramp, term_loss
    from neural_sparse.losses.idf_aware import IDFAwareLoss, QueryTerms, idf_scores
    from neural_sparse.losses.ranking import info_nce, kl_divergence, margin_mse
    from neural_sparse.losses.vocabulary_sample import VocabularySample, VocabularySampler

__all__ = [
    "IDFAwareLoss",
    "QueryTerms",
    "VocabularySample",
    "VocabularySampler",
    "flops_loss",
    "idf_scores",
    "info_nce",
    "kl_divergence",
    "margin_mse",
    "mean_weights",
    "quadratic_ramp",
    "term_loss",
]
__getattr__, __dir__ = lazy(__name__)
