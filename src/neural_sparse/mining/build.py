"""Sources of candidates and scorers by name: "bm25", "dense:NAME", "sparse:NAME", "student:FOLDER"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from neural_sparse.data.training_set import TrainingSet
from neural_sparse.errors import InputError
from neural_sparse.mining.sources import (
    CrossEncoderScorer,
    DenseSource,
    Scorer,
    Source,
    SparseSource,
    bm25_source,
)
from neural_sparse.teachers.bi_encoder import BiEncoderTeacher
from neural_sparse.teachers.build import TeacherBuilder
from neural_sparse.teachers.cache import TeacherCache
from neural_sparse.teachers.cross_encoder import CrossEncoderTeacher

SOURCE_KINDS = ("bm25", "dense", "sparse", "student")


def parse_source(text: str, kinds: Sequence[str] = SOURCE_KINDS) -> tuple[str, str | None]:
    """Kind and name of "KIND" or "KIND:NAME".

    Raises:
        InputError: an unknown kind, a missing name.
    """
    kind, _, name = text.partition(":")
    if kind not in kinds:
        raise InputError(f"{text!r}: unknown kind {kind!r}; write {', '.join(map(_example, kinds))}")
    if (kind == "bm25") != (not name):
        raise InputError(f"{text!r}: write {_example(kind)}")
    return kind, name or None


def _example(kind: str) -> str:
    return kind if kind == "bm25" else f"{kind}:{'FOLDER' if kind == 'student' else 'NAME'}"


class Sources:
    """Makes each source once, however often it is named; texts are encoded through the teacher cache.

    Args:
        data: whose queries and documents row numbers count.
        cache: of the teachers' vectors.
        teachers: how a named model becomes a teacher; in float32 and with their defaults if None.
    """

    def __init__(
        self,
        data: TrainingSet,
        cache: TeacherCache,
        teachers: TeacherBuilder | None = None,
    ) -> None:
        self.data = data
        self.cache = cache
        self.teachers = teachers or TeacherBuilder(bf16=False)
        self._made: dict[str, Source] = {}

    def source(self, text: str) -> Source:
        """The source that `text` names.

        Raises:
            InputError: as `parse_source`; a model that cannot be found or loaded; vectors with NaN.
        """
        kind, name = parse_source(text)
        key = text.replace("student:", "sparse:")  # a student is a sparse model like any other
        if key not in self._made:
            self._made[key] = self._bm25() if name is None else self._bi_encoder(kind, name)
        return self._made[key]

    def scorer(self, text: str) -> Scorer:
        """A source, or "cross-encoder:NAME"."""
        kind, name = parse_source(text, (*SOURCE_KINDS, "cross-encoder"))
        if kind != "cross-encoder" or name is None:
            return self.source(text)
        teacher = cast(CrossEncoderTeacher, self.teachers.named("cross-encoder", name))
        return CrossEncoderScorer(teacher, self.data.queries, self.data.documents, self.cache)

    def _bm25(self) -> Source:
        return bm25_source(self.data.queries, self.data.documents)

    def _bi_encoder(self, kind: str, name: str) -> Source:
        teacher = cast(BiEncoderTeacher, self.teachers.named("dense" if kind == "dense" else "sparse", name))
        prepared = teacher.prepare(self.data.queries, self.data.documents, None, self.cache)
        identity = {"query": teacher.identity("query"), "document": teacher.identity("document")}
        if (dense := prepared.dense_documents()) is not None:
            return DenseSource(name, identity, prepared.query_vectors, dense)  # type: ignore[arg-type]
        return SparseSource(name, identity, prepared.query_vectors, prepared.document_vectors())  # type: ignore[arg-type]
