"""From a recipe to a model folder."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerState, set_seed

from neural_sparse.config import Recipe, recipe_to_dict
from neural_sparse.data.training_set import TrainingSet, load_training_set
from neural_sparse.errors import InputError
from neural_sparse.hub.push import check_access, prepare_folder, upload_folder
from neural_sparse.idf import (
    DEFAULT_IDF,
    IdfWeights,
    idf_weights,
    save_idf_weights,
)
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.model.own_words import mean_word_count
from neural_sparse.teachers.builder import build_ensemble
from neural_sparse.teachers.ensemble import PreparedEnsemble
from neural_sparse.teachers.term_targets import prepare_term_targets
from neural_sparse.text.languages import Analysis
from neural_sparse.text.tokens import tokenize
from neural_sparse.training.auto_batch import check_auto_batch, memory_hint, settle_batch
from neural_sparse.training.inputs import check_endpoints, prepare_teachers, query_weights
from neural_sparse.training.refresh import RunNegatives, refresh_during
from neural_sparse.training.run_folder import METRICS_FILE, claim, finish, record
from neural_sparse.training.run_record import INTERRUPTED, TrainingRun
from neural_sparse.training.run_rules import learning_rate, ramp
from neural_sparse.training.setup import build_trainer, dev_evaluator
from neural_sparse.training.start import starting_model
from neural_sparse.training.tokenizer_rules import tokenizer_findings
from neural_sparse.training.trainer import NeuralSparseTrainer, checkpoints
from neural_sparse.work import ranks

logger = logging.getLogger(__name__)

LENGTH_SAMPLE = 2000  # documents whose length is looked at before training


def train(
    recipe: Recipe,
    *,
    data: TrainingSet | None = None,
    teachers: PreparedEnsemble | None = None,
    idf: IdfWeights | None = None,
    overwrite: bool = False,
    resume_anyway: bool = False,
) -> Path:
    """Train a model; a run that was interrupted goes on from its last complete checkpoint.

    Started by torchrun or `accelerate launch`, it trains on all their processes.

    Args:
        recipe: what to do.
        data: examples to use instead of the recipe's files.
        teachers: prepared for exactly these data, instead of the recipe's.
        idf: query weights, instead of those the recipe says.
        overwrite: start anew although `recipe.output` holds another run.
        resume_anyway: go on with that run although its recipe was another.

    Returns:
        The model folder, `recipe.output`/final_model. Beside it: checkpoint-N/, training_config.json,
        metrics.json, idf.json, training_losses.png.

    Raises:
        InputError: the output holds a finished run or one of another recipe; bad data; a model that
            cannot be loaded; a loss that is not finite; documents that have become empty or dense; memory
            that was not enough; an output that cannot be written. Whatever ends a run that has begun, Ctrl-C and
            SIGTERM too, metrics.json and training_losses.png are written, with the reason.
    """
    output = Path(recipe.output)
    ranks.join()
    ranks.check_same(recipe_to_dict(recipe), "recipe")
    check_auto_batch(recipe)
    if idle := ranks.unused_devices():
        logger.warning("%s", idle)
    with ranks.first_rank_first():
        resume_from = None if ranks.rank() else claim(output, recipe, overwrite, resume_anyway)
    resume_from = ranks.from_first_rank(resume_from)
    try:
        return _run(recipe, output, resume_from=resume_from, data=data, teachers=teachers, idf=idf)
    except BaseException as error:
        # Before training began: that it has ended, so that the recipe may be changed.
        if not (ranks.rank() or (output / METRICS_FILE).exists() or checkpoints(output)):
            _record(recipe, TrainerState(), seconds=0.0, cut=0.0, error=error)
        raise


def _run(
    recipe: Recipe,
    output: Path,
    resume_from: Path | None,
    data: TrainingSet | None,
    teachers: PreparedEnsemble | None,
    idf: IdfWeights | None,
) -> Path:
    if recipe.push_to_hub is not None:
        check_access(recipe.push_to_hub)
    evaluator = dev_evaluator(recipe)  # now, for what it lacks should not be found after hours of teachers
    set_seed(recipe.seed)
    if data is None:
        data = load_training_set(recipe.train, recipe.corpus)
    if teachers is None:
        check_endpoints(recipe, data)
    model = starting_model(recipe, data.documents, ranks.device())
    if not ranks.rank():
        for finding in tokenizer_findings(model.tokenizer):
            if finding.verdict != "ok":
                logger.warning("%s: %s; %s", finding.check, finding.found, finding.advice)
    if not recipe.dropout:
        model.drop_nothing()
    if recipe.own_words:
        language = Analysis.of(recipe.language, data.documents).language
        mean_length = _mean_word_count(recipe, model, data, language)
        model.set_own_words(recipe.own_words, mean_length, language)
    if recipe.min_query_weight and model.projection.bias is None:
        raise InputError(
            "min_query_weight takes tokens out of documents by the bias of the output projection, and "
            f"{recipe.init} has none; set min_query_weight=0"
        )
    if recipe.own_words_learning_rate and model.own_words is None:
        raise InputError(
            f"own_words_learning_rate trains the strength of own words, and {recipe.init} counts none; set own_words=2"
        )
    cut = 0.0
    with ranks.first_rank_first():
        if not ranks.rank():
            _warn_of_settings(recipe)
            cut = _truncated_share(model, data)
            save_idf_weights(idf or query_weights(recipe, model, data), output / "idf.json")
    unseen = DEFAULT_IDF if idf is None else idf.default_idf
    weights = idf_weights(output / "idf.json", model.tokenizer, unseen)
    if not recipe.siamese:
        model.set_query_weights(weights)
    negatives = RunNegatives(recipe, data, model)
    data = negatives.start()
    prepare = None
    if teachers is None and recipe.teachers:
        ensemble = build_ensemble(recipe)
        with ranks.first_rank_first():  # encodes; the others find the vectors in the cache
            teachers = prepare_teachers(ensemble, [data])
        if not all(teacher.in_batch for teacher in ensemble.teachers):
            prepare = partial(prepare_teachers, ensemble)
    terms = None
    if recipe.term_targets:
        terms = prepare_term_targets(
            recipe.term_targets,
            recipe.terms_kept,
            documents=data.documents,
            tokenizer=model.tokenizer,
            idf=weights.vector,
            max_length=model.max_length,
            configs=recipe.teachers,
            teachers=teachers,
            trust_remote_code=recipe.trust_remote_code,
            language=Analysis.of(recipe.language, data.documents).language,
        )
    if recipe.auto_batch:
        recipe = negatives.recipe = settle_batch(
            recipe, model, idf=weights, data=data, resumed=resume_from is not None
        )
    if recipe.compile:
        for mlm in model.masked_lms:
            mlm.compile(dynamic=True)
    trainer = build_trainer(
        recipe, model, idf=weights, data=data, teachers=teachers, evaluator=evaluator, terms=terms
    )
    if not ranks.rank():
        _tell_of_sample(recipe, model, trainer)
    if recipe.refresh_negatives_steps:
        refresh_during(trainer, negatives, prepare)
    started = time.perf_counter()
    try:
        with _terminated_as_exception():
            trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
            if not ranks.rank():
                finish(recipe, model, state=trainer.state, seconds=time.perf_counter() - started, cut=cut)
    except BaseException as error:
        said = InputError(_out_of_memory(recipe, error)) if _is_out_of_memory(error) else error
        if not ranks.rank():  # what was logged so far, for the doctor
            _record(recipe, trainer.state, seconds=time.perf_counter() - started, cut=cut, error=said)
        if said is error:
            raise
        raise said from error
    ranks.wait_for_all()
    if recipe.push_to_hub is not None and not ranks.rank():
        _push(output / "final_model", recipe.push_to_hub, recipe.hub_private)
    return output / "final_model"


def _push(folder: Path, repository: str, private: bool) -> None:
    """Upload a finished model with its card.

    Raises:
        InputError: the hub does not take it; the model stays, and the message says how to push it later.
    """
    try:
        with prepare_folder(NeuralSparseEncoder(folder, device="cpu"), repository) as (prepared, _):
            logger.info("the model is at %s", upload_folder(prepared, repository, private))
    except InputError as error:
        raise InputError(
            f"{error}. The model is in {folder}: `neural-sparse push {folder} {repository}`"
        ) from error


@contextmanager
def _terminated_as_exception() -> Iterator[None]:
    """SIGTERM, as schedulers of clusters send it, ends the body as an exception does.

    Not with several ranks: torchrun ends the others with it when one has failed, and they may wait inside a
    library for those that are gone. Nor where somebody else listens to it.
    """
    alone = ranks.world_size() == 1 and threading.current_thread() is threading.main_thread()
    if not alone or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _record(recipe: Recipe, state: TrainerState, seconds: float, cut: float, error: BaseException) -> None:
    try:
        record(recipe, state, seconds=seconds, cut=cut, stopped=_reason(error))
    except (InputError, OSError) as unwritten:  # such as a disk that is full, which has ended the run
        logger.warning("what was logged so far is lost: %s", unwritten)


def _reason(error: BaseException) -> str:
    """What `metrics.json` says of why a run has ended without a model."""
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        return f"{INTERRUPTED} ({'Ctrl-C' if isinstance(error, KeyboardInterrupt) else 'SIGTERM'})"
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


def _is_out_of_memory(error: BaseException) -> bool:
    """A device's memory, or the machine's."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(error)


def _out_of_memory(recipe: Recipe, error: BaseException) -> str:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"out of memory ({reason.rstrip('.')}). {memory_hint(recipe)}"


def _warn_of_settings(recipe: Recipe) -> None:
    """The doctor's rules that need nothing but a recipe, before hours are spent on it."""
    for rule in (learning_rate, ramp):
        finding = rule(TrainingRun(recipe_to_dict(recipe), 0, False, ()))
        if finding is not None and finding.verdict != "ok":
            logger.warning("%s: %s; better %s", finding.check, finding.found, finding.advice)


def _tell_of_sample(recipe: Recipe, model: NeuralSparseEncoder, trainer: NeuralSparseTrainer) -> None:
    if trainer.vocabulary is not None:
        logger.info(
            "each step looks at %d of %d tokens of the vocabulary and those of its queries: FLOPS, terms per document "
            "and distances to term targets (marked ~) are estimates, ranking is exact",
            recipe.vocabulary_sample,
            model.vocab_size,
        )
    elif recipe.vocabulary_sample:
        logger.info(
            "vocabulary_sample=%d is no less than the vocabulary (%d): each step looks at all of it",
            recipe.vocabulary_sample,
            model.vocab_size,
        )


def _truncated_share(model: NeuralSparseEncoder, data: TrainingSet) -> float:
    """Tell, before the work begins, which share of the documents is longer than the model is trained on."""
    texts = _sample(data)
    size = len(texts)
    cut = tokenize(texts, model.tokenizer, model.max_length, special_tokens=True).truncated
    if cut:
        logger.info(
            "%.0f%% of the documents (%d of %d looked at) are longer than max_length=%d tokens and are cut",
            100 * cut / size,
            cut,
            size,
            model.max_length,
        )
    return cut / size


def _mean_word_count(recipe: Recipe, model: NeuralSparseEncoder, data: TrainingSet, language: str) -> float:
    """As the finished model will see the documents."""
    texts = _sample(data)
    tokens = tokenize(
        texts, model.tokenizer, recipe.encode_max_length or model.max_length, special_tokens=True
    )
    return mean_word_count(tokens.ids, len(texts), model.tokenizer, language)


def _sample(data: TrainingSet) -> list[str]:
    size = min(LENGTH_SAMPLE, len(data.documents))
    rows = np.random.default_rng(0).choice(len(data.documents), size, replace=False)
    return [data.documents[row] for row in rows]
