"""Teachers by their kind and name, as recipes and command lines give them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
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


def build_teacher(
    config: TeacherConfig, precision: str = "float32", trust_remote_code: Collection[str] = ()
) -> Teacher:
    """The teacher that `config` names; nothing is loaded yet. `trust_remote_code`: names whose code may be run."""
    if config.kind == "bm25" or config.name is None:
        return BM25Teacher()
    if config.kind == "precomputed":
        return PrecomputedTeacher(config.name)
    max_length = config.max_length or MAX_LENGTH
    trusted = config.name in trust_remote_code
    if config.kind == "cross-encoder":
        return CrossEncoderTeacher(config.name, max_length=max_length, trust_remote_code=trusted)
    kinds = {"dense": DenseTeacher, "sparse": SparseTeacher}
    return kinds[config.kind](
        config.name, max_length=max_length, precision=precision, trust_remote_code=trusted
    )


def build_ensemble(
    teachers: Sequence[TeacherConfig],
    scale_constant: float,
    cache_dir: str | Path | None,
    bf16: bool | None = None,
    trust_remote_code: Collection[str] = (),
) -> EnsembleTeacher:
    """The ensemble a recipe describes; `bf16` and `trust_remote_code` as in a recipe."""
    precision = precision_of(bf16)
    return EnsembleTeacher(
        teachers=[
            (build_teacher(config, precision, trust_remote_code), config.weight) for config in teachers
        ],
        scale_constant=scale_constant,
        cache_dir=cache_dir,
    )
