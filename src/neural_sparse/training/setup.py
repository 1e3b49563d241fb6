"""The trainer a recipe describes."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import torch
from sentence_transformers import SparseEncoderTrainingArguments
from transformers import EarlyStoppingCallback, TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from neural_sparse.config import Recipe
from neural_sparse.corpora.names import load_collection
from neural_sparse.data.training_set import TrainingSet
from neural_sparse.errors import InputError
from neural_sparse.idf import IdfWeights
from neural_sparse.losses.idf_aware import IDFAwareLoss
from neural_sparse.losses.vocabulary_sample import VocabularySampler, most_frequent_first
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.model.precision import wanted_bf16
from neural_sparse.teachers.ensemble import PreparedEnsemble
from neural_sparse.training.batches import Collator, Schedule, TermTargets
from neural_sparse.training.cost_target import CostTarget, query_share
from neural_sparse.training.dev import KEY, DevEvaluator, MeanEvaluator, sample
from neural_sparse.training.latency_target import latency_target
from neural_sparse.training.low_rank import LowRank
from neural_sparse.training.monitor import ProgressBar
from neural_sparse.training.time_limit import TimeLimit
from neural_sparse.training.trainer import OWN_WORDS, QUERY_WEIGHTS, NeuralSparseTrainer
from neural_sparse.work import ranks

# By transformers' names; "fused" is one kernel for all weights, on processors too.
OPTIMIZERS = {"adamw": "adamw_torch", "adamw_fused": "adamw_torch_fused", "adamw_8bit": "adamw_bnb_8bit"}
SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


def check_packages(recipe: Recipe) -> None:
    """
    Raises:
        InputError: a package is missing that a key of the recipe needs.
    """
    needed = {f"report_to={package}": package for package in recipe.report_to}
    if recipe.optimizer == "adamw_8bit":
        needed["optimizer=adamw_8bit"] = "bitsandbytes"
    if recipe.lora_rank is not None:
        needed["lora_rank"] = "peft"  # the extra lora
    for key, package in needed.items():
        if importlib.util.find_spec(package) is None:
            raise InputError(f"{key} needs the package {package}: pip install {package}")


def dev_evaluator(recipe: Recipe) -> DevEvaluator | MeanEvaluator | None:
    """What judges the student while it trains.

    Raises:
        InputError: no such collection or judgements; a package that a key of the recipe needs is missing.
    """
    check_packages(recipe)
    if recipe.dev is None:
        return None
    evaluators = []
    for name in (recipe.dev, *recipe.dev_also):
        collection = load_collection(name, recipe.dev_split)
        chosen = sample(collection, recipe.dev_queries, recipe.dev_documents, recipe.seed)
        evaluators.append(DevEvaluator(chosen, recipe.bf16, recipe.min_query_weight))
    return MeanEvaluator(evaluators) if len(evaluators) > 1 else evaluators[0]


class OneDeviceArguments(SparseEncoderTrainingArguments):
    """Of several visible GPUs a process uses one.

    With more the trainer would wrap the model in DataParallel, which cuts tensors into equal pieces along their first
    dimension: packed documents and their offsets as well.
    """

    @property
    def n_gpu(self) -> int:
        return min(super().n_gpu, 1)


def vocabulary_sampler(recipe: Recipe, idf: IdfWeights) -> VocabularySampler | None:
    """What draws the tokens that each step looks at; None if it looks at all."""
    size = recipe.vocabulary_sample
    if not 0 < size < len(idf.vector):
        return None
    order = most_frequent_first(torch.from_numpy(idf.vector), idf.default_idf)
    return VocabularySampler(order, size // 2, size - size // 2, recipe.seed)


def build_trainer(
    recipe: Recipe,
    model: NeuralSparseEncoder,
    idf: IdfWeights,
    data: TrainingSet,
    teachers: PreparedEnsemble | None,
    evaluator: DevEvaluator | MeanEvaluator | None,
    terms: TermTargets | None = None,
) -> NeuralSparseTrainer:
    ramp = recipe.flops_ramp_steps if recipe.flops_ramp_steps is not None else recipe.num_steps // 3
    if not recipe.siamese:
        model.query_weights.requires_grad_(recipe.train_query_weights)
    adapter = None
    if recipe.lora_rank is not None:
        alpha = recipe.lora_alpha or 2.0 * recipe.lora_rank
        adapter = LowRank(model, recipe.lora_rank, alpha, recipe.lora_targets, seed=recipe.seed)
    if model.own_words is not None:
        model.own_words.strength.requires_grad_(recipe.own_words_learning_rate > 0)
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
        temperature=recipe.temperature,
        term_weight=recipe.term_weight,
        micro_batches=recipe.gradient_accumulation_steps,
        lambda_query_flops=recipe.lambda_query_flops,
    )
    if "tensorboard" in recipe.report_to:
        os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(Path(recipe.output) / "tensorboard"))
    save_steps = recipe.eval_steps or recipe.save_steps or max(1, recipe.num_steps // 10)
    sampler = vocabulary_sampler(recipe, idf)
    callbacks: list[TrainerCallback] = [ProgressBar(estimated=sampler is not None)]
    if recipe.early_stopping is not None:
        callbacks.append(EarlyStoppingCallback(recipe.early_stopping))
    own_rates = {QUERY_WEIGHTS: recipe.query_learning_rate} if recipe.train_query_weights else {}
    if model.own_words is not None and recipe.own_words_learning_rate:
        own_rates[OWN_WORDS] = recipe.own_words_learning_rate
    args = OneDeviceArguments(
        output_dir=recipe.output,
        max_steps=recipe.num_steps,
        per_device_train_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        learning_rate=recipe.learning_rate,
        learning_rate_mapping=own_rates,
        weight_decay=recipe.weight_decay,
        warmup_steps=recipe.warmup_steps,
        max_grad_norm=recipe.max_grad_norm,
        lr_scheduler_type=SCHEDULES[recipe.schedule],
        optim=OPTIMIZERS[recipe.optimizer],
        bf16=wanted_bf16(recipe.bf16, model.device),
        use_cpu=model.device.type == "cpu",
        seed=recipe.seed,
        save_strategy="steps",
        save_steps=save_steps,
        save_total_limit=recipe.save_total_limit,
        logging_steps=min(recipe.logging_steps, recipe.num_steps),
        report_to=list(recipe.report_to) or "none",
        eval_strategy="no" if evaluator is None else "steps",
        eval_steps=save_steps,
        # With a cost to meet the last model is the one that meets it.
        load_best_model_at_end=evaluator is not None and recipe.cost_target is None,
        metric_for_best_model=f"eval_{KEY}",
        greater_is_better=True,
        disable_tqdm=True,
        logging_nan_inf_filter=False,  # it would wait for the device at each step; such a loss ends the run
        ddp_timeout=int(ranks.WAIT.total_seconds()),
    )
    if recipe.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    model.cache_tokens = recipe.cache_tokens
    per_step = recipe.batch_size * recipe.gradient_accumulation_steps
    schedule = Schedule(
        data,
        recipe.num_steps * per_step,
        num_negatives=recipe.num_hard_negatives,
        seed=recipe.seed,
        batch_size=recipe.batch_size,
    )
    asked = teachers if loss.needs_teacher else None
    collator = Collator(
        data,
        model.tokenizer,
        max_length=model.max_length,
        teachers=asked,
        terms=terms,
        pack=model.packed,
        in_batch=recipe.in_batch_negatives,
        siamese=recipe.siamese,
    )
    cost: CostTarget | None = None
    if recipe.target_flops is not None:
        share = query_share(data.queries, model)
        cost = CostTarget(
            loss,
            share,
            recipe.target_flops,
            recipe.num_steps,
            query_weights=model.query_weights,
            min_query_weight=recipe.min_query_weight,
        )
    elif recipe.target_p99:
        cost = latency_target(recipe, model, loss, data)
    trainer = NeuralSparseTrainer(
        model=model,
        args=args,
        loss=loss,
        schedule=schedule,
        collator=collator,
        cost=cost,
        collapse_guard=recipe.collapse_guard,
        sampler=sampler,
        ema_decay=recipe.ema_decay,
        adapter=adapter,
        callbacks=callbacks,
        evaluator=evaluator,
    )
    if recipe.max_seconds is not None:
        limit = TimeLimit(recipe.max_seconds, recipe.num_steps, folder=Path(recipe.output), cost=cost)
        trainer.add_callback(limit)
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    return trainer
