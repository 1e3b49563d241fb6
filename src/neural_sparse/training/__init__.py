"""From a recipe to a model (`train.train`): batches of ids, teachers' targets, Transformers' loop underneath."""

from typing import TYPE_CHECKING

from neural_sparse.lazy import lazy

if TYPE_CHECKING:
    from neural_sparse.training.refresh import RunNegatives
    from neural_sparse.training.run_record import TrainingRun, read_training_run
    from neural_sparse.training.run_rules import run_findings
    from neural_sparse.training.setup import build_trainer
    from neural_sparse.training.step import train_step
    from neural_sparse.training.trainer import NeuralSparseTrainer

__all__ = [
    "NeuralSparseTrainer",
    "RunNegatives",
    "TrainingRun",
    "build_trainer",
    "read_training_run",
    "run_findings",
    "train_step",
]
__getattr__, __dir__ = lazy(__name__)
