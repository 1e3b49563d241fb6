"""What the runs of a sweep have in common, made once: examples, IDF, hard negatives, prepared teachers."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from neural_sparse.config import Recipe
from neural_sparse.data.training_set import TrainingSet, load_training_set
from neural_sparse.idf import IdfWeights
from neural_sparse.teachers.builder import build_ensemble
from neural_sparse.teachers.ensemble import PreparedEnsemble
from neural_sparse.training.inputs import (
    check_endpoints,
    counted_weights,
    has_fixed_negatives,
    prepare_teachers,
)
from neural_sparse.training.refresh import RunNegatives
from neural_sparse.training.start import starting_tokenizer

T = TypeVar("T")


class Shared:
    """Makes each thing when it is first asked for, and keeps the last of its kind.

    Runs come in the order of the grid, so what few of them differ in is made a few times; teachers' vectors
    are on disk in any case.

    Args:
        folder: where mined negatives are kept.

    Attributes:
        encoded: texts (or pairs) that each teacher encoded.
        made: how many times each thing was made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.encoded: Counter[str] = Counter()
        self.made: Counter[str] = Counter()
        self._kept: dict[str, tuple[str, Any]] = {}

    def data(self, recipe: Recipe) -> TrainingSet:
        """Examples with the hard negatives that a run starts from, where these do not depend on the student."""
        files = _files(recipe)
        data = self._once("data", files, lambda: load_training_set(recipe.train, recipe.corpus))
        if not has_fixed_negatives(recipe):
            return data
        key = _data_key(recipe)
        folder = self.folder / f"negatives-{_digest(key)}"
        mining = RunNegatives(replace(recipe, output=str(folder)), data)

        def mine() -> TrainingSet:
            check_endpoints(recipe, data)
            return mining.start()

        return self._once("negatives", key, mine)

    def teachers(self, recipe: Recipe) -> PreparedEnsemble | None:
        """Teachers for `data(recipe)`; None where there are none, or where the run prepares its own."""
        if not recipe.teachers or not has_fixed_negatives(recipe):
            return None
        key = {
            "teachers": [asdict(teacher) for teacher in recipe.teachers],
            "data": _data_key(recipe),
            "cache": recipe.teacher_cache,
            "trust_remote_code": recipe.trust_remote_code,
        }
        prepared = self._once("teachers", key, lambda: self._prepare(recipe))
        return PreparedEnsemble(prepared.teachers, prepared.weights, recipe.scale_constant)

    def idf(self, recipe: Recipe) -> IdfWeights | None:
        """The table counted over the training documents; None where the recipe names one."""
        if recipe.idf is not None:
            return None
        data = self.data(recipe)

        def count() -> IdfWeights:
            return counted_weights(recipe, data.documents, starting_tokenizer(recipe))

        return self._once(
            "idf", _files(recipe) | {"init": recipe.init, "fold_variants": recipe.fold_variants}, count
        )

    def _prepare(self, recipe: Recipe) -> PreparedEnsemble:
        data = self.data(recipe)
        ensemble = build_ensemble(recipe)
        prepared = prepare_teachers(ensemble, [data])
        self.encoded.update(ensemble.cache.encoded)
        return prepared

    def _once(self, kind: str, key: Any, make: Callable[[], T]) -> T:
        digest = _digest(key)
        if kind not in self._kept or self._kept[kind][0] != digest:
            self._kept.pop(kind, None)  # first, so that two need not fit into memory
            self._kept[kind] = digest, make()
            self.made[kind] += 1
        value: T = self._kept[kind][1]
        return value


def _files(recipe: Recipe) -> dict[str, Any]:
    return {"train": recipe.train, "corpus": recipe.corpus}


def _data_key(recipe: Recipe) -> dict[str, Any]:
    """All that examples and mined negatives depend on."""
    names = ("negatives", "negatives_pool", "negatives_absolute_margin", "negatives_relative_margin")
    return {
        **_files(recipe),
        **{name: getattr(recipe, name) for name in names},
        "any": bool(recipe.num_hard_negatives),
        "bf16": recipe.bf16,
        "margin_teacher": recipe.margin_teacher,
        # Models that mine are built with the settings they have as teachers.
        "teachers": [asdict(replace(teacher, weight=1.0, batch_size=None)) for teacher in recipe.teachers],
    }


def _digest(key: Any) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
