"""Train, judge and ship inference-free neural sparse retrievers."""

from typing import TYPE_CHECKING

from neural_sparse.lazy import lazy

if TYPE_CHECKING:
    from neural_sparse.config import Recipe, TeacherConfig, read_recipe
    from neural_sparse.corpora.collection import Collection
    from neural_sparse.errors import InputError
    from neural_sparse.evaluation.systems import evaluate_model
    from neural_sparse.idf import compute_idf_weights, idf_weights
    from neural_sparse.losses.idf_aware import IDFAwareLoss
    from neural_sparse.model.encoder import NeuralSparseEncoder
    from neural_sparse.search import BM25Index, SparseIndex
    from neural_sparse.teachers.cache import TeacherCache
    from neural_sparse.teachers.ensemble import EnsembleTeacher
    from neural_sparse.training.step import train_step
    from neural_sparse.training.train import train

__all__ = [
    "BM25Index",
    "Collection",
    "EnsembleTeacher",
    "IDFAwareLoss",
    "InputError",
    "NeuralSparseEncoder",
    "Recipe",
    "SparseIndex",
    "TeacherCache",
    "TeacherConfig",
    "compute_idf_weights",
    "evaluate_model",
    "idf_weights",
    "read_recipe",
    "train",
    "train_step",
]
__getattr__, __dir__ = lazy(__name__)
