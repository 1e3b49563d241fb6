"""Teachers by their kind and name, as recipes and command lines give them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from neural_sparse.config import TeacherConfig
from neural_sparse.model.precision import native_bf16
from neural_sparse.teachers.bm25 import BM25Teacher
from neural_sparse.teachers.cross_encoder import CrossEncoderTeacher
from neural_sparse.teachers.dense import DenseTeacher
from neural_sparse.teachers.ensemble import EnsembleTeacher
from neural_sparse.teachers.precomputed import PrecomputedTeacher
from neural_sparse.teachers.sparse import SparseTeacher
from neural_sparse.teachers.teacher import Teacher

MAX_LENGTH = 512  # tokens


def precision_of(bf16: bool | None) -> str:
    """A teacher's precision: that of a recipe's `bf16`, where None means what the device multiplies quickest."""
    if bf16 is None:
        from sentence_transformers.util import get_device_name

        bf16 = native_bf16(get_device_name())
    return "bfloat16" if bf16 else "float32"


def build_teacher(config: TeacherConfig, precision: str = "float32") -> Teacher:
    """The teacher that `config` names; nothing is loaded yet."""
    if config.kind == "bm25" or config.name is None:
        return BM25Teacher()
    if config.kind == "precomputed":
        return PrecomputedTeacher(config.name)
    max_length = config.max_length or MAX_LENGTH
    if config.kind == "cross-encoder":
        return CrossEncoderTeacher(config.name, max_length=max_length)
    kinds = {"dense": DenseTeacher, "sparse": SparseTeacher}
    return kinds[config.kind](config.name, max_length=max_length, precision=precision)


def build_ensemble(
    teachers: Sequence[TeacherConfig],
    scale_constant: float,
    cache_dir: str | Path | None,
    bf16: bool | None = None,
) -> EnsembleTeacher:
    """The ensemble a recipe describes; `bf16` as in a recipe."""
    precision = precision_of(bf16)
    return EnsembleTeacher(
        teachers=[(build_teacher(config, precision), config.weight) for config in teachers],
        scale_constant=scale_constant,
        cache_dir=cache_dir,
    )
