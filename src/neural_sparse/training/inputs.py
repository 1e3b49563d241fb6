"""From a recipe to what a run reads: query weights, teachers, term targets, for `train`, `teach` and `sweep` alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neural_sparse.config import ENDPOINTS, Recipe
from neural_sparse.data.prepared import PreparedSet, is_prepared
from neural_sparse.data.training_set import TrainingSet
from neural_sparse.errors import InputError
from neural_sparse.idf import IdfWeights, idf_weights, kept_frequencies, weights_of
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.teachers.builder import TeacherBuilder
from neural_sparse.teachers.cache import TeacherCache
from neural_sparse.teachers.endpoint import EndpointTeacher, RerankTeacher
from neural_sparse.teachers.ensemble import EnsembleTeacher, PreparedEnsemble
from neural_sparse.text.ragged import RowLists

IDF_FOLDER = "idf"  # in the teacher cache


def query_weights(recipe: Recipe, model: NeuralSparseEncoder, data: TrainingSet) -> IdfWeights:
    """The query side that `idf` of a recipe asks for.

    Raises:
        InputError: it names something that is neither a table nor prepared data.
    """
    if recipe.idf is None:
        return counted_weights(recipe, data.documents, model.tokenizer)
    if recipe.idf == "init":
        return model.idf_table()
    if is_prepared(Path(recipe.idf)):
        return counted_weights(recipe, PreparedSet.load(recipe.idf).documents, model.tokenizer)
    if not Path(recipe.idf).is_file():
        raise InputError(
            f"idf: {recipe.idf} is neither a table {{token: weight}} (`neural-sparse idf` makes one) nor a folder of "
            "`neural-sparse data prepare`; idf=null counts the training documents"
        )
    return idf_weights(recipe.idf, model.tokenizer)


def counted_weights(recipe: Recipe, documents: Sequence[str], tokenizer: Any) -> IdfWeights:
    """IDF of documents, which are counted once for all runs that share a teacher cache, and their resumptions."""
    folder = Path(recipe.teacher_cache).expanduser() / IDF_FOLDER
    return weights_of(kept_frequencies(documents, tokenizer, folder), tokenizer)


def check_endpoints(recipe: Recipe, data: TrainingSet) -> None:
    """What would end the work of teachers, and of sources of negatives, behind endpoints: before all other work.

    Raises:
        InputError: a key's variable is not set and the cache lacks texts; a text beyond a limit that must not be cut.
    """
    builder = TeacherBuilder.of(recipe)
    asked = [builder.teacher(config) for config in recipe.teachers if config.kind in ENDPOINTS]
    sources = (source.partition(":") for source in recipe.negatives)
    asked += [builder.named(kind, name) for kind, _, name in sources if kind in ENDPOINTS]  # type: ignore[arg-type]
    cache = TeacherCache(recipe.teacher_cache)
    for teacher in asked:
        assert isinstance(teacher, EndpointTeacher | RerankTeacher)
        teacher.check(data.queries, data.documents, candidate_pairs(data), cache)


def prepare_teachers(ensemble: EnsembleTeacher, sets: Sequence[TrainingSet]) -> PreparedEnsemble:
    """Teachers that know every text, and every candidate pair, of data sets that differ in their negatives alone."""
    pairs = np.concatenate([candidate_pairs(one) for one in sets])
    return ensemble.prepare(sets[0].queries, sets[0].documents, pairs)


def has_fixed_negatives(recipe: Recipe) -> bool:
    """Whether a run's negatives are known before it starts: they do not depend on the student."""
    return recipe.refresh_negatives_steps is None and "student" not in recipe.negatives


def candidate_pairs(data: TrainingSet) -> np.ndarray:
    """int64 [pairs, 2]: (example, document row) of every positive and hard negative."""
    candidates = RowLists.of(data.negatives).after(data.positives)
    return np.column_stack((candidates.examples, candidates.flat))
