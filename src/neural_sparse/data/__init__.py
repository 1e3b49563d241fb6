"""Training data: sources made one prepared folder (`prepare.prepare`), and folders and files made examples."""

from typing import TYPE_CHECKING

from neural_sparse.lazy import lazy

if TYPE_CHECKING:
    from neural_sparse.data.cleaning import Cleaning
    from neural_sparse.data.prepare import PrepareOptions
    from neural_sparse.data.prepared import PreparedSet, is_prepared
    from neural_sparse.data.registry import public_sets
    from neural_sparse.data.training_set import TrainingSet, load_training_set

__all__ = [
    "Cleaning",
    "PrepareOptions",
    "PreparedSet",
    "TrainingSet",
    "is_prepared",
    "load_training_set",
    "public_sets",
]
__getattr__, __dir__ = lazy(__name__)
