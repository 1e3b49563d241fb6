"""The folder of a run: whose it is, and what a finished run leaves in it."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerState

from neural_sparse.config import HOW_TEACHERS_ARE_ASKED, Recipe, TeacherConfig, recipe_to_dict
from neural_sparse.data.prepared import MANIFEST, is_prepared
from neural_sparse.errors import InputError
from neural_sparse.io.files import check_output_folder, read_json, replacing_folder, sha256_file, write_json
from neural_sparse.io.urls import Location, Url, location
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.model.location import content_hash
from neural_sparse.report.plots import plot_losses
from neural_sparse.training.dev import KEY
from neural_sparse.training.monitor import ESTIMATED
from neural_sparse.training.refresh import FOLDER as NEGATIVES_FOLDER
from neural_sparse.training.trainer import checkpoints

logger = logging.getLogger(__name__)

DEV_KEYS = (f"eval_{KEY}", "eval_flops", "eval_terms")
CONFIG_FILE = "training_config.json"
INPUTS_FILE = "inputs.json"
METRICS_FILE = "metrics.json"
EARLIER_MODEL = (
    "earlier_model"  # final_model of a finished run that goes on with another recipe, or starts anew
)
# Keys that may differ between a run and its resumption: they change no weight, to the last bit on a device that
# computes the same twice; cache_tokens changes them by rounding and by which elements dropout draws.
FREE_KEYS = frozenset(
    {
        *("output", "teacher_cache", "logging_steps", "save_steps", "save_total_limit", "collapse_guard"),
        *("gradient_checkpointing", "cache_tokens", "push_to_hub", "hub_private"),
    }
)


def claim(output: Path, recipe: Recipe, overwrite: bool, resume_anyway: bool = False) -> Path | None:
    """Make `output` this run's folder; returns the checkpoint to go on from.

    A run that has ended before anything was saved makes way for another recipe: what ended it may be the reason
    for the change.

    Raises:
        InputError: it holds a finished run, or one of another recipe (unless one of the last two is set); the model
            could not be written there.
    """
    config = output / CONFIG_FILE
    check_output_folder(output / "final_model", "modules.json")
    if config.is_file() and not overwrite:
        changed = changes(recipe)
        if changed and not resume_anyway and not _left_nothing(output):
            raise InputError(
                f"{output} holds a run of another recipe or of other data ({changed}); choose another output=, "
                "overwrite it (--overwrite), or go on with what has changed (--resume-anyway)"
            )
        if changed:
            logger.warning("the recipe has changed since the run in %s began: %s", output, changed)
            _set_aside(output)  # or it would pass for the model of the changed recipe, if this is interrupted
            kept = {"batch_size": read_json(config)["batch_size"]} if recipe.auto_batch else {}
            write_json(output / INPUTS_FILE, input_sums(recipe))
            write_json(config, recipe_to_dict(recipe) | kept)
        elif finished_model(recipe):
            raise InputError(
                f"{output} holds the finished run of this recipe; choose another output=, or overwrite it "
                "(--overwrite)"
            )
        (output / METRICS_FILE).unlink(missing_ok=True)  # a run at work has not stopped
        if saved := checkpoints(output):
            logger.info("going on from %s", saved[-1])
            return saved[-1]
    if overwrite:
        _set_aside(output)  # until the new model stands, and after it: days may have gone into it
        for old in (output / NEGATIVES_FOLDER, *output.glob("checkpoint-*")):
            shutil.rmtree(old, ignore_errors=True)
        (output / METRICS_FILE).unlink(missing_ok=True)
    write_json(output / INPUTS_FILE, input_sums(recipe))
    write_json(config, recipe_to_dict(recipe))
    return None


def _set_aside(output: Path) -> None:
    model = output / "final_model"
    if model.exists():
        shutil.rmtree(output / EARLIER_MODEL, ignore_errors=True)
        model.rename(output / EARLIER_MODEL)


def _left_nothing(output: Path) -> bool:
    """Whether a run has ended, as metrics.json says, without a checkpoint or a model."""
    metrics = output / METRICS_FILE
    ended = metrics.is_file() and read_json(metrics).get("stopped") is not None
    return ended and not checkpoints(output) and not (output / "final_model").exists()


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _deciding(teachers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Teachers with all their keys, but for those that change no score."""
    defaults = {field.name: field.default for field in dataclasses.fields(TeacherConfig)}
    return [defaults | teacher | dict.fromkeys(HOW_TEACHERS_ARE_ASKED) for teacher in teachers]


def finished_model(recipe: Recipe) -> Path | None:
    """The model of a finished run of just this recipe in its output folder, if there is one."""
    model = Path(recipe.output) / "final_model"
    same = (Path(recipe.output) / CONFIG_FILE).is_file() and not changes(recipe)
    return model if same and (model / "modules.json").is_file() else None


def changes(recipe: Recipe) -> str:
    """What differs between a recipe, and the files it reads, and those that its output folder was made with."""
    defaults = {
        field.name: _plain(
            field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        )
        for field in dataclasses.fields(Recipe)
    }
    before = defaults | read_json(Path(recipe.output) / CONFIG_FILE)  # an older version knew fewer keys
    now = recipe_to_dict(recipe)
    before["teachers"], now["teachers"] = map(_deciding, (before["teachers"], now["teachers"]))
    free = set(FREE_KEYS)
    if before["auto_batch"] and recipe.auto_batch:
        free.add("batch_size")
    elif before["auto_batch"] and recipe.batch_size == before["batch_size"]:
        free.add("auto_batch")  # the batch it found, now by its number
    changed = sorted(key for key in now if key not in free and before[key] != _plain(now[key]))
    messages = [f"{key}: {before[key]!r} -> {_plain(now[key])!r}" for key in changed]
    if (Path(recipe.output) / INPUTS_FILE).is_file():
        messages += changed_inputs(read_json(Path(recipe.output) / INPUTS_FILE), input_sums(recipe))
    return "; ".join(messages)


def finish(
    recipe: Recipe, model: NeuralSparseEncoder, state: TrainerState, seconds: float, cut: float
) -> None:
    """Write what a finished run leaves beside its checkpoints.

    Args:
        cut: share of the training documents that are longer than the model was trained on.
    """
    output = Path(recipe.output)
    model.eval()
    record(recipe, state, seconds, cut)
    if recipe.min_query_weight:
        _leave_out_light_tokens(model, recipe.min_query_weight)
    if recipe.encode_max_length:
        model.set_max_length(recipe.encode_max_length)
    with replacing_folder(output / "final_model") as folder:  # last, for it says that the run is finished
        model.save_pretrained(str(folder))


def _leave_out_light_tokens(model: NeuralSparseEncoder, least: float) -> None:
    weights = model.query_weights.detach().float().cpu().numpy()
    light = np.flatnonzero(weights < least)
    model.silence(light)
    special = set(model.tokenizer.all_special_ids)
    tokens = [token for token in light[np.argsort(-weights[light])].tolist() if token not in special]
    logger.info(
        "left out of both sides, for they weigh less than min_query_weight=%g in queries: %d tokens%s",
        least,
        len(tokens),
        f", the heaviest {' '.join(model.tokenizer.convert_ids_to_tokens(tokens[:8]))}" if tokens else "",
    )


def record(
    recipe: Recipe, state: TrainerState, seconds: float, cut: float, stopped: str | None = None
) -> None:
    """Write metrics.json and training_losses.png: what was logged so far.

    Args:
        cut: as `finish`.
        stopped: why a run has ended without a model.
    """
    output = Path(recipe.output)
    history = [
        {key: value for key, value in row.items() if math.isfinite(value)}
        for row in loss_history(state.log_history)
    ]
    metrics: dict[str, Any] = {
        "steps": state.global_step,
        "seconds": seconds,
        "cut_documents": cut,
        "history": history,
    }
    if recipe.vocabulary_sample:
        metrics["estimated"] = [key for key in ESTIMATED if any(key in row for row in history)]
    if stopped is not None:
        metrics["stopped"] = stopped
    if recipe.dev is not None:
        metrics["dev"] = dev_history(state.log_history)
        best = f"checkpoint-{state.global_step}" if recipe.cost_target else state.best_model_checkpoint
        if best is not None:  # a run may be stopped before its first judgement
            metrics["best_step"] = int(Path(best).name.removeprefix("checkpoint-"))
    if any("loss" in row for row in history):  # a run that ends before its first log line has none
        plot_losses(history, output / "training_losses.png", metrics.get("dev", ()))
    write_json(output / METRICS_FILE, metrics)


def dev_history(log_history: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """The judgements of a run on its dev collection: step, nDCG@10, FLOPS, terms per document."""
    return [
        {"step": row["step"], **{key.removeprefix("eval_"): row[key] for key in row if _is_of_dev(key)}}
        for row in log_history
        if f"eval_{KEY}" in row
    ]


def _is_of_dev(key: str) -> bool:
    return key in DEV_KEYS or key.startswith(f"eval_{KEY}_")


def loss_history(log_history: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """The logged steps of a run: step, loss, its components, sparsity, learning rate."""
    keys = (
        *("loss", "ranking", "flops", "terms", "nonzero_terms", "dead_dimensions", "saturation"),
        *("query_flops", "nonzero_query_terms", "teacher_agreement", "learning_rate", "grad_norm"),
        *("lambda", "estimated_flops", "estimated_p99_ms"),
    )
    return [
        {"step": row["step"], **{key: float(row[key]) for key in keys if key in row}}
        for row in log_history
        if "ranking" in row
    ]


def input_sums(recipe: Recipe) -> dict[str, str]:
    """{"key: name": sha256} of the files that decide a run; names that are no files here are left out.

    Of a prepared folder that of its manifest, which holds the sums of its files; of a start model that is a folder,
    its weights, tokenizer and configuration.
    """
    named: list[tuple[str, Any]] = [("train", one) for one in recipe.train]
    named += [("corpus", recipe.corpus), ("idf", recipe.idf), ("dev", recipe.dev)]
    named += [("dev_also", one) for one in recipe.dev_also]
    named += [("teachers", one.name) for one in recipe.teachers if one.kind == "precomputed"]
    sums = {}
    for key, name in named:
        if name is not None and (found := _sum(location(str(name)))) is not None:
            sums[f"{key}: {name}"] = found
    if Path(recipe.init).is_dir():
        sums[f"init: {recipe.init}"] = content_hash(Path(recipe.init))
    return sums


def changed_inputs(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """A word for each input that is there both times and is not the same."""
    return [f"the data of {name} have changed" for name in now if before.get(name, now[name]) != now[name]]


def _sum(place: Location) -> str | None:
    sums = [f"{file} {sha256_file(file)}".removeprefix(str(place)) for file in _files(place)]
    return hashlib.sha256("\n".join(sums).encode()).hexdigest() if sums else None


def _files(place: Location) -> Iterator[Location]:
    if place.is_file():
        yield place
        return
    if not place.is_dir():
        return
    if isinstance(place, Path) and is_prepared(place):
        yield place / MANIFEST
        return
    parts: list[Location] = [place / "corpus.jsonl", place / "queries.jsonl"]
    if isinstance(place, Url):
        parts.append(place / "qrels" / "train.tsv")  # type: ignore[arg-type]
    else:
        parts += sorted((place / "qrels").glob("*.tsv"))
    yield from (part for part in parts if part.is_file())
