"""The trained candidate: teachers judged on the training part, weights by measurement, steps by the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from neural_sparse.adapt.candidates import usual_bm25
from neural_sparse.adapt.settings import USUAL_LENGTH, AdaptSettings
from neural_sparse.config import Recipe, TeacherConfig
from neural_sparse.corpora.collection import Collection
from neural_sparse.data.training_set import TrainingSet
from neural_sparse.evaluation.cost import flops_metric
from neural_sparse.idf import IdfWeights
from neural_sparse.mining.filters import hard_negatives
from neural_sparse.teachers.bi_encoder import PreparedVectors
from neural_sparse.teachers.builder import TeacherBuilder, build_ensemble
from neural_sparse.teachers.cache import TeacherCache
from neural_sparse.teachers.ensemble import PreparedEnsemble
from neural_sparse.teachers.quality import TeacherQuality, best_documents, judge_teachers
from neural_sparse.training.run_folder import finished_model
from neural_sparse.training.train import train

JUDGING_QUERIES = 300  # of the training part, that teachers are judged by
LEAST_WEIGHT = 0.05
SPARE = 0.9  # of the most FLOPS that the model is trained for: other queries cost more
SAMPLE = 2000
# Times the strength of own words, with which the student's scores grow. Without it they are so much further apart than
# the teachers' that training first shrinks every document (docs/training.md).
TEMPERATURE = 4.0
TRAINING_LENGTH = 128  # tokens: a step on more takes too long, and texts are encoded whole later


def recipe_for(
    settings: AdaptSettings,
    output: Path,
    teachers: Sequence[TeacherConfig],
    steps: int,
    own_words: float = 2.0,
    target_flops: float | None = None,
    target_p99: Mapping[str, float] | None = None,
    max_seconds: float | None = None,
) -> Recipe:
    """What is trained with, for this machine and these documents; docs/training.md says how its values were found."""
    length = settings.max_length or USUAL_LENGTH
    return Recipe(
        init=settings.init,
        train=(str(output / "data" / "documents.jsonl"),),
        output=str(output / "training"),
        teacher_cache=str(settings.teacher_cache or output / "work" / "teachers"),
        teachers=tuple(teachers),
        scale_constant=20.0,
        temperature=TEMPERATURE * max(1.0, own_words),
        ranking={"kl": 1.0, "info_nce": 1.0},
        lambda_flops=0.003,
        target_flops=target_flops,
        target_p99=target_p99 or {},
        frequency_weighted_flops=True,
        vocabulary_sample=3000,
        own_words=own_words,
        own_words_learning_rate=5e-3,
        train_query_weights=True,
        query_learning_rate=0.02,
        min_query_weight=0.9,
        num_steps=steps,
        max_seconds=max_seconds,
        batch_size=64,
        num_hard_negatives=1,
        negatives_pool=20,
        learning_rate=settings.learning_rate,
        warmup_steps=steps // 10,
        max_length=min(TRAINING_LENGTH, length),
        encode_max_length=length,
        save_steps=max(1, steps // 10),
        save_total_limit=1,
        seed=settings.seed,
        language=settings.language,
    )


def judged_teachers(
    settings: AdaptSettings, training: TrainingSet, pairs: int, cache: Path
) -> tuple[list[TeacherConfig], TeacherQuality | None]:
    """Teachers with the weights that order the training part's candidates best, if they hold on the other half of the
    queries; those that get none are left out.

    Args:
        pairs: so many of the first examples are the corpus's own.
    """
    if len(settings.teachers) == 1:
        return list(settings.teachers), None
    rows = np.random.default_rng(settings.seed).permutation(pairs)[:JUDGING_QUERIES].tolist()
    collection = Collection(
        "training part",
        [str(row) for row in range(len(training.documents))],
        texts=list(training.documents),
        queries={f"q{row}": training.queries[row] for row in rows},
        qrels={f"q{row}": {str(document): 1 for document in training.relevant[row]} for row in rows},
    )
    builder = TeacherBuilder(settings.teachers, language=settings.language)
    quality = judge_teachers(
        [builder.teacher(one) for one in settings.teachers],
        [one.weight for one in settings.teachers],
        collection=collection,
        cache=TeacherCache(cache),
        language=settings.language,
    )
    weights = [one.weight for one in settings.teachers]
    if quality.best.held_back > quality.ensemble.held_back:
        weights = list(quality.best_weights)
    chosen = [
        replace(one, weight=weight)
        for one, weight in zip(settings.teachers, weights, strict=True)
        if weight >= LEAST_WEIGHT * sum(weights)
    ]
    return chosen, quality


def bm25_flops(training: TrainingSet, language: str) -> float:
    """Evaluation FLOPS of the usual BM25 on the training part: a sample of its queries."""
    documents = list(training.documents)
    index = usual_bm25(documents, [str(row) for row in range(len(documents))], language)
    rows = np.random.default_rng(0).permutation(len(training))[:SAMPLE].tolist()
    return flops_metric(
        index.encode_queries([training.queries[row] for row in rows]), index.document_weights()
    )


def trained_model(recipe: Recipe, training: TrainingSet, idf: IdfWeights) -> Path:
    """Train, or go on, or give the model that is there."""
    if (model := finished_model(recipe)) is not None:
        return model
    prepared = build_ensemble(recipe).prepare(training.queries, training.documents)
    training.negatives = _negatives(training, prepared, recipe.negatives_pool)
    return train(recipe, data=training, teachers=prepared, idf=idf)


def _negatives(training: TrainingSet, prepared: PreparedEnsemble, pool: int) -> list[np.ndarray]:
    depth = min(pool + max(map(len, training.relevant)), len(training.documents))
    rankings = [
        best_documents(teacher, depth, len(training))
        for teacher in prepared.teachers
        if isinstance(teacher, PreparedVectors)
    ]
    return hard_negatives(rankings, training.relevant, pool)


def teachers_told(chosen: Sequence[TeacherConfig], quality: TeacherQuality | None) -> list[str]:
    """What was measured of the teachers, in words."""
    names = ", ".join(f"{one.name or one.kind} {one.weight:.2f}" for one in chosen)
    if quality is None:
        return [f"One teacher: {names}."]
    alone = ", ".join(f"{one.name} {one.all_queries:.3f}" for one in quality.teachers)
    return [
        f"nDCG@10 of re-ranking BM25's candidates for {quality.queries} training queries: BM25's order "
        f"{quality.first_stage.all_queries:.3f}, {alone}, ensemble as given {quality.ensemble.all_queries:.3f}; at the "
        f"weights chosen on one half, {quality.best.held_back:.3f} on the other, where those given reach "
        f"{quality.ensemble.held_back:.3f}. Taught by: {names}.",
        *quality.warnings,
    ]
