"""What is wrong with a machine, an IDF table, a model or a run, and which key to change."""

from neural_sparse.doctor.examine import Examination, examine
from neural_sparse.finding import Finding

__all__ = ["Examination", "Finding", "examine"]
