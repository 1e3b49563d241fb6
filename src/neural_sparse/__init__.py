"""Train, judge and ship inference-free neural sparse retrievers."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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

_HOME = {
    "BM25Index": "neural_sparse.search",
    "Collection": "neural_sparse.corpora.collection",
    "EnsembleTeacher": "neural_sparse.teachers.ensemble",
    "IDFAwareLoss": "neural_sparse.losses.idf_aware",
    "InputError": "neural_sparse.errors",
    "NeuralSparseEncoder": "neural_sparse.model.encoder",
    "Recipe": "neural_sparse.config",
    "SparseIndex": "neural_sparse.search",
    "TeacherCache": "neural_sparse.teachers.cache",
    "TeacherConfig": "neural_sparse.config",
    "compute_idf_weights": "neural_sparse.idf",
    "evaluate_model": "neural_sparse.evaluation.systems",
    "idf_weights": "neural_sparse.idf",
    "read_recipe": "neural_sparse.config",
    "train": "neural_sparse.training.train",
    "train_step": "neural_sparse.training.step",
}

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


def __getattr__(name: str) -> Any:
    # Nothing heavy is imported until it is used: `neural-sparse --help` must not wait for torch.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
