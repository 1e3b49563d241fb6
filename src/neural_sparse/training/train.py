"""From a recipe to a model folder."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SparseEncoderTrainingArguments
from sentence_transformers.util import get_device_name
from transformers import TrainerState, set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from neural_sparse.config import Recipe, TeacherConfig, recipe_to_dict
from neural_sparse.data.training_set import TrainingSet, load_training_set
from neural_sparse.distributed import ranks
from neural_sparse.errors import InputError
from neural_sparse.files import read_json, replacing_folder, write_json
from neural_sparse.idf import IdfWeights, compute_idf_weights, idf_weights, save_idf_weights
from neural_sparse.losses.idf_aware import IDFAwareLoss
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.model.precision import native_bf16
from neural_sparse.teachers import (
    BM25Teacher,
    CrossEncoderTeacher,
    DenseTeacher,
    EnsembleTeacher,
    PrecomputedTeacher,
    SparseTeacher,
)
from neural_sparse.teachers.ensemble import PreparedEnsemble
from neural_sparse.teachers.teacher import Teacher
from neural_sparse.tokens import tokenize
from neural_sparse.training.batches import Collator, Schedule
from neural_sparse.training.plots import plot_losses
from neural_sparse.training.progress import ProgressBar
from neural_sparse.training.refresh import FOLDER as NEGATIVES_FOLDER
from neural_sparse.training.refresh import RunNegatives, refresh_during
from neural_sparse.training.trainer import QUERY_WEIGHTS, NeuralSparseTrainer, checkpoints

logger = logging.getLogger(__name__)

CONFIG_FILE = "training_config.json"
TEACHER_MAX_LENGTH = 512
LENGTH_SAMPLE = 2000  # documents whose length is looked at before training
# Keys that may differ between a run and its resumption: they change no weight.
FREE_KEYS = frozenset({"output", "teacher_cache", "logging_steps", "save_steps", "save_total_limit"})


def train(
    recipe: Recipe,
    *,
    data: TrainingSet | None = None,
    teachers: PreparedEnsemble | None = None,
    overwrite: bool = False,
) -> Path:
    """Train a model; a run that was interrupted goes on from its last complete checkpoint.

    Args:
        recipe: what to do.
        data: examples to use instead of the recipe's files.
        teachers: prepared for exactly these data, instead of the recipe's.
        overwrite: start anew although `recipe.output` holds another run.

    Started by torchrun or `accelerate launch`, it trains on all their processes.

    Returns:
        The model folder, `recipe.output`/final_model. Beside it: checkpoint-N/, training_config.json,
        metrics.json, idf.json, training_losses.png.

    Raises:
        InputError: the output holds a finished run or one of another recipe; bad data; a model that
            cannot be loaded; a loss that is not finite.
    """
    output = Path(recipe.output)
    ranks.join()
    ranks.check_same(recipe_to_dict(recipe), "recipe")
    with ranks.first_rank_first():
        resume_from = None if ranks.rank() else _claim(output, recipe, overwrite)
    resume_from = ranks.from_first_rank(resume_from)
    set_seed(recipe.seed)
    if data is None:
        data = load_training_set(recipe.train, recipe.corpus)
    model = NeuralSparseEncoder(
        recipe.init,
        recipe.max_length,
        activation=recipe.activation,  # type: ignore[arg-type]
        device=ranks.device(),
    )
    with ranks.first_rank_first():
        if not ranks.rank():
            _say_what_is_cut(model, data)
            save_idf_weights(_idf(recipe, model, data), output / "idf.json")
    idf = idf_weights(output / "idf.json", model.tokenizer)
    model.set_query_weights(idf)
    negatives = RunNegatives(recipe, data, model)
    data = negatives.start()
    prepare = None
    if teachers is None and recipe.teachers:
        ensemble = build_ensemble(recipe.teachers, recipe.scale_constant, recipe.teacher_cache, recipe.bf16)
        with ranks.first_rank_first():  # encodes; the others find the vectors in the cache
            teachers = ensemble.prepare(data.queries, data.documents, candidate_pairs(data))
        if not all(teacher.in_batch for teacher in ensemble.teachers):
            prepare = partial(_prepare_again, ensemble)
    if recipe.compile:
        model.mlm.compile(dynamic=True)
    trainer = _trainer(recipe, model, idf, data, teachers)
    if recipe.refresh_negatives_steps:
        refresh_during(trainer, negatives, prepare)
    started = time.perf_counter()
    try:
        trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    except OSError as error:
        raise InputError(
            f"cannot write to {output}: {error.strerror or error}; checkpoints are kept"
        ) from error
    if not ranks.rank():
        _finish(recipe, model, trainer.state, time.perf_counter() - started)
    ranks.wait_for_all()
    return output / "final_model"


def _finish(recipe: Recipe, model: NeuralSparseEncoder, state: TrainerState, seconds: float) -> None:
    """Write what a finished run leaves beside its checkpoints."""
    output = Path(recipe.output)
    history = loss_history(state.log_history)
    model.eval()
    plot_losses(history, output / "training_losses.png")
    metrics = {"steps": state.global_step, "seconds": seconds, "history": history}
    write_json(output / "metrics.json", metrics)
    if recipe.encode_max_length:
        model.set_max_length(recipe.encode_max_length)
    with replacing_folder(output / "final_model") as folder:  # last, for it says that the run is finished
        model.save_pretrained(str(folder))


def _say_what_is_cut(model: NeuralSparseEncoder, data: TrainingSet) -> None:
    """Tell, before the work begins, how many documents are longer than the model is trained on."""
    size = min(LENGTH_SAMPLE, len(data.documents))
    rows = np.random.default_rng(0).choice(len(data.documents), size, replace=False)
    texts = [data.documents[row] for row in rows]
    cut = tokenize(texts, model.tokenizer, model.max_length, special_tokens=True).truncated
    if cut:
        logger.info(
            "%.0f%% of the documents (%d of %d looked at) are longer than max_length=%d tokens and are cut",
            100 * cut / size,
            cut,
            size,
            model.max_length,
        )


def finished_model(recipe: Recipe) -> Path | None:
    """The model of a finished run of just this recipe in its output folder, if there is one."""
    model = Path(recipe.output) / "final_model"
    same = (Path(recipe.output) / CONFIG_FILE).is_file() and not _changes(recipe)
    return model if same and (model / "modules.json").is_file() else None


def _changes(recipe: Recipe) -> str:
    """What differs between a recipe and the one its output folder was made with."""
    before, now = read_json(Path(recipe.output) / CONFIG_FILE), recipe_to_dict(recipe)
    changed = sorted(key for key in now if key not in FREE_KEYS and before.get(key) != _plain(now[key]))
    return "; ".join(f"{key}: {before.get(key)!r} -> {_plain(now[key])!r}" for key in changed)


def _claim(output: Path, recipe: Recipe, overwrite: bool) -> Path | None:
    """Make `output` this run's folder; returns the checkpoint to go on from."""
    config = output / CONFIG_FILE
    if config.is_file() and not overwrite:
        if changed := _changes(recipe):
            raise InputError(
                f"{output} holds a run of another recipe ({changed}); choose another output=, or overwrite it"
            )
        if finished_model(recipe):
            raise InputError(
                f"{output} holds the finished run of this recipe; choose another output=, or overwrite it"
            )
        if saved := checkpoints(output):
            logger.info("going on from %s", saved[-1])
            return saved[-1]
    if overwrite:
        for old in (output / "final_model", output / NEGATIVES_FOLDER, *output.glob("checkpoint-*")):
            shutil.rmtree(old, ignore_errors=True)
    write_json(config, recipe_to_dict(recipe))
    return None


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _idf(recipe: Recipe, model: NeuralSparseEncoder, data: TrainingSet) -> IdfWeights:
    if recipe.idf is None:
        return compute_idf_weights(data.documents, model.tokenizer, show_progress=False)
    return model.idf_table() if recipe.idf == "init" else idf_weights(recipe.idf, model.tokenizer)


def _prepare_again(ensemble: EnsembleTeacher, sets: Sequence[TrainingSet]) -> PreparedEnsemble:
    """Teachers that know the pairs of several data sets, which differ in their negatives alone."""
    pairs = np.concatenate([candidate_pairs(one) for one in sets])
    return ensemble.prepare(sets[0].queries, sets[0].documents, pairs)


def candidate_pairs(data: TrainingSet) -> np.ndarray:
    """int64 [pairs, 2]: (example, document row) of every positive and hard negative."""
    lengths = [1 + len(negatives) for negatives in data.negatives]
    examples = np.repeat(np.arange(len(data)), lengths)
    rows = [
        np.concatenate(([positive], rest))
        for positive, rest in zip(data.positives, data.negatives, strict=True)
    ]
    return np.column_stack((examples, np.concatenate(rows)))


def build_ensemble(
    teachers: Sequence[TeacherConfig],
    scale_constant: float,
    cache_dir: str | Path | None,
    bf16: bool | None = None,
) -> EnsembleTeacher:
    """The ensemble a recipe describes; `bf16` as in a recipe."""
    if bf16 is None:
        bf16 = native_bf16(get_device_name())
    precision = "bfloat16" if bf16 else "float32"
    return EnsembleTeacher(
        teachers=[(_teacher(config, precision), config.weight) for config in teachers],
        scale_constant=scale_constant,
        cache_dir=cache_dir,
    )


def _teacher(config: TeacherConfig, precision: str) -> Teacher:
    if config.kind == "bm25" or config.name is None:
        return BM25Teacher()
    if config.kind == "precomputed":
        return PrecomputedTeacher(config.name)
    max_length = config.max_length or TEACHER_MAX_LENGTH
    if config.kind == "cross-encoder":
        return CrossEncoderTeacher(config.name, max_length=max_length)
    kinds = {"dense": DenseTeacher, "sparse": SparseTeacher}
    return kinds[config.kind](config.name, max_length=max_length, precision=precision)


def _trainer(
    recipe: Recipe,
    model: NeuralSparseEncoder,
    idf: IdfWeights,
    data: TrainingSet,
    teachers: PreparedEnsemble | None,
) -> NeuralSparseTrainer:
    ramp = recipe.flops_ramp_steps if recipe.flops_ramp_steps is not None else recipe.num_steps // 3
    model.query_weights.requires_grad_(recipe.train_query_weights)
    loss = IDFAwareLoss(
        idf,
        model.vocab_size,
        recipe.lambda_flops,
        device=model.device,
        ranking=recipe.ranking,
        ramp_steps=ramp,
        l0_threshold=recipe.l0_threshold,
        frequency_weighted_flops=recipe.frequency_weighted_flops,
        idf_in_matching=recipe.idf_in_matching,
    )
    bf16 = recipe.bf16
    if bf16 is None:
        bf16 = native_bf16(model.device)
    args = SparseEncoderTrainingArguments(
        output_dir=recipe.output,
        max_steps=recipe.num_steps,
        per_device_train_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        learning_rate=recipe.learning_rate,
        learning_rate_mapping={QUERY_WEIGHTS: recipe.query_learning_rate}
        if recipe.train_query_weights
        else {},
        weight_decay=recipe.weight_decay,
        warmup_steps=recipe.warmup_steps,
        max_grad_norm=recipe.max_grad_norm,
        lr_scheduler_type="linear",
        bf16=bf16,
        use_cpu=model.device.type == "cpu",
        seed=recipe.seed,
        save_strategy="steps",
        save_steps=recipe.save_steps or max(1, recipe.num_steps // 10),
        save_total_limit=recipe.save_total_limit,
        logging_steps=min(recipe.logging_steps, recipe.num_steps),
        report_to="none",
        disable_tqdm=True,
        ddp_timeout=int(ranks.WAIT.total_seconds()),
    )
    if recipe.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    model.cache_tokens = recipe.cache_tokens
    per_step = recipe.batch_size * recipe.gradient_accumulation_steps
    schedule = Schedule(
        data, recipe.num_steps * per_step, recipe.num_hard_negatives, recipe.seed, recipe.batch_size
    )
    collator = Collator(data, model.tokenizer, model.max_length, teachers if loss.needs_teacher else None)
    trainer = NeuralSparseTrainer(
        model=model, args=args, loss=loss, schedule=schedule, collator=collator, callbacks=[ProgressBar()]
    )
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    return trainer


def loss_history(log_history: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """The logged steps of a run: step, loss, its components, sparsity, learning rate."""
    keys = ("loss", "ranking", "flops", "nonzero_terms", "teacher_agreement", "learning_rate", "grad_norm")
    return [
        {"step": row["step"], **{key: float(row[key]) for key in keys if key in row}}
        for row in log_history
        if "ranking" in row
    ]
