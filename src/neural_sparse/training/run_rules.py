"""Rules for a run: the training guide's troubleshooting, turned into keys of the recipe.

Where a threshold is said to be measured, it was on runs of the 4.4M start model (150 to 400 steps of 24 to 32 queries).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from neural_sparse.finding import Finding, ok, problem, warning
from neural_sparse.training.run_record import INTERRUPTED, TrainingRun

MANY_TERMS = 300  # per document; SPLADE-v3's vectors of NFCorpus have 275, measured runs 46 to 180
FEW_TERMS = 10  # measured runs of single sentences have 25
EMPTY = 0.5  # as `training.monitor`, which stops there
DENSE = 0.25  # share of the vocabulary, as `training.monitor`
PRETRAINING_LAMBDA = 1e-6  # guide, tuning: pre-training takes 1e-7 to 1e-6, which keeps tokens on purpose
MORE_LAMBDA, LESS_LAMBDA, MORE_STEPS = (
    2.5,
    0.5,
    1.4,
)  # guide, troubleshooting 1 and 2: .02 to .05, to .01; 50K to 70K
LINES = 10  # log lines below which nothing is said of a trend
FLAT = 0.98  # last ranking loss by first, above which it does not fall
SPARSER = 0.8  # last terms by first, below which a loss may stay as it is: the same relevance became cheaper
DEARER = 1.2  # last ranking loss by first, above which sparsity was paid with relevance
EASY = 0.05  # ranking loss; a trial whose loss fell to .04 had negatives that were too easy
MORE_TEMPERATURE = 5.0  # times as much: a first try, not measured
AGREEMENT = 0.4  # top-1 with the teachers; measured 0.60 to 0.83
SATURATED = 0.9  # share of the documents in the 10 longest postings; measured 0.29 to 0.84
ALIKE = (
    5.0  # dimensions used between two log lines by those of one document; measured 21 (36 documents) to 90
)
GRADIENT = 10.0  # last gradient norm by first; measured 0.4 to 1.9
DEV_LOSS = 0.01  # nDCG@10 below the best judgement: a point, which chance alone seldom takes from 200 queries
CUT = 0.3  # share of documents longer than max_length
WARMUP = 0.5  # share of the steps; guide, learning rate: 10 to 20%
MISSED = 0.1  # share by which target_flops may be missed

Rule = Callable[[TrainingRun], Finding | None]


def run_findings(run: TrainingRun) -> list[Finding]:
    """All rules that have something to go by."""
    return [finding for rule in RULES if (finding := rule(run)) is not None]


def state(run: TrainingRun) -> Finding:
    planned = run.recipe["num_steps"]
    if run.stopped is not None and run.stopped.startswith(INTERRUPTED):
        return warning(
            "state",
            f"{run.stopped} at step {run.steps:,} of {planned:,}",
            "the same `neural-sparse train` command goes on from the last checkpoint",
        )
    if run.stopped is not None:
        return problem("state", f"stopped itself at step {run.steps:,} of {planned:,}", run.stopped)
    if run.finished and run.steps < planned:
        return ok("state", f"ended early, after {run.steps:,} of {planned:,} steps")
    if run.finished:
        return ok("state", f"finished, {run.steps:,} steps")
    if not run.steps:
        return warning(
            "state",
            "no checkpoint yet, so there is nothing to judge",
            f"if it is not at work any more, start it again; a smaller save_steps than {_save_steps(run):,} loses less",
        )
    return warning(
        "state",
        f"not finished: {run.steps:,} of {planned:,} steps are saved",
        "if it is not at work any more: the same `neural-sparse train` command goes on from there",
    )


def _save_steps(run: TrainingRun) -> int:
    return run.recipe["eval_steps"] or run.recipe["save_steps"] or max(1, run.recipe["num_steps"] // 10)


def finite(run: TrainingRun) -> Finding | None:
    bad = [row["step"] for row in run.history if not all(map(math.isfinite, row.values()))]
    if not bad:
        return None
    return problem(
        "finite figures",
        f"NaN or infinite from step {bad[0]:,.0f} on",
        f"learning_rate={run.recipe['learning_rate'] / 2:g}, more warmup_steps (now {run.recipe['warmup_steps']:,}), "
        "bf16=false, or max_grad_norm=1",
    )


def learning_rate(run: TrainingRun) -> Finding | None:
    rates = run.values("learning_rate")
    warmup, steps = run.recipe["warmup_steps"], run.recipe["num_steps"]
    if run.recipe["learning_rate"] == 0 or (len(rates) > 1 and rates.max() == 0):
        return problem("learning rate", "0: nothing is learnt", "learning_rate=2e-5 (5e-5 in pre-training)")
    if warmup > WARMUP * steps:
        return warning(
            "learning rate",
            f"still rising in {min(1, warmup / steps):.0%} of the run",
            f"warmup_steps={max(1, round(0.1 * steps))}: a tenth of num_steps",
        )
    return ok(
        "learning rate", f"{run.recipe['learning_rate']:g}, warm-up over {warmup / steps:.0%} of the run"
    )


def ranking_loss(run: TrainingRun) -> Finding | None:
    """Does it fall; if not, did sparsity take it."""
    if len(run.values("ranking")) < LINES or not np.isfinite(run.values("ranking")).all():
        return None
    first, last = run.start("ranking"), run.end("ranking")
    terms = f"{run.start('nonzero_terms'):,.0f} to {run.end('nonzero_terms'):,.0f} terms per document"
    found = f"{first:.3g} to {last:.3g}"
    sparser = run.end("nonzero_terms") < SPARSER * run.start("nonzero_terms")
    rate = run.recipe["learning_rate"]
    if last <= FLAT * first:
        return ok("ranking loss", found)
    if sparser and last <= DEARER * first:
        return ok("ranking loss", f"{found}, while documents went from {terms}")
    if sparser:
        return warning(
            "ranking loss",
            f"{found}, as documents went from {terms}",
            f"sparsity is paid with relevance: {_less_pressure(run)}",
        )
    if last > first / FLAT:
        return warning(
            "ranking loss",
            f"{found}: it rises",
            f"learning_rate={rate / 2:g} (now {rate:g}), or more warmup_steps (now {run.recipe['warmup_steps']:,})",
        )
    return warning(
        "ranking loss",
        f"{found}: it does not fall",
        f"learning_rate={2 * rate:g} (now {rate:g}) or more num_steps; do the teachers fit the data? "
        "`neural-sparse judge-teachers` tells",
    )


def easy(run: TrainingRun) -> Finding | None:
    """A ranking loss that has nothing left to teach, or never had."""
    first, last = run.start("ranking"), run.end("ranking")
    if set(run.recipe["ranking"]) != {"kl"} or not last < EASY:
        return None
    scale, temperature = run.recipe["scale_constant"], run.recipe["temperature"]
    if first < EASY and len(run.history) >= LINES:
        return warning(
            "negatives",
            f"ranking loss {first:.2g} from the start on: there was nothing to learn",
            f"if the start's scores are far apart, temperature={MORE_TEMPERATURE * temperature:g} (now "
            f"{temperature:g}); harder negatives: negatives=[bm25, dense:NAME]; or other teachers "
            "(`neural-sparse judge-teachers`)",
        )
    return warning(
        "negatives",
        f"ranking loss {last:.2g}: student and teachers agree on everything",
        f"the negatives are too easy: negatives=[bm25, dense:NAME], num_hard_negatives="
        f"{2 * max(1, run.recipe['num_hard_negatives'])}, or refresh_negatives_steps="
        f"{max(1, run.recipe['num_steps'] // 4)}; scale_constant (now {scale:g}) may be larger",
    )


def terms(run: TrainingRun) -> Finding | None:
    """Too many and too few terms per document: the guide's troubleshooting 2 and 1."""
    count = run.end("nonzero_terms")
    if math.isnan(count):
        return None
    found = f"{count:,.0f} per document on average"
    weight = run.recipe["lambda_flops"]
    if count < EMPTY:
        return problem(
            "terms",
            f"{count:.2g} per document: they have become empty",
            f"the FLOPS penalty has outweighed everything else: {_less_pressure(run, 0.1)}, a longer flops_ramp_steps "
            f"(now {run.ramp_steps:,}) or learning_rate={run.recipe['learning_rate'] / 2:g}",
        )
    if run.idf and count > DENSE * len(run.idf):
        return problem(
            "terms",
            f"{found} of {len(run.idf):,}: they are dense",
            f"lambda_flops={_more_lambda(weight)} (now {weight:g}); if they were sparse at first, "
            f"learning_rate={run.recipe['learning_rate'] / 2:g}",
        )
    if count < FEW_TERMS:
        return warning("terms", found, f"hardly any are left to match: {_less_pressure(run)}")
    if count <= MANY_TERMS:
        return ok("terms", found)
    if weight <= PRETRAINING_LAMBDA and weight > 0:
        return ok("terms", found, "meant so in pre-training: fine-tuning presses with lambda_flops=0.02")
    if (key := _cost_target(run)) is not None:
        return ok("terms", found, f"as {key} asks for")
    if run.steps < run.ramp_steps:
        return ok("terms", found, f"lambda still grows, until step {run.ramp_steps:,}")
    threshold = run.recipe["l0_threshold"]
    pressed = (
        f", or l0_threshold below {threshold} (0.02 to 0.05 are of log1p)" if threshold is not None else ""
    )
    return warning(
        "terms",
        found,
        f"lambda_flops too small: try {_more_lambda(weight)} (now {weight:g}), or num_steps="
        f"{round(MORE_STEPS * run.recipe['num_steps'])}{pressed}",
    )


def _more_lambda(weight: float) -> str:
    return f"{MORE_LAMBDA * weight:g}" if weight else "0.01"


def _less_pressure(run: TrainingRun, factor: float = LESS_LAMBDA) -> str:
    weight = run.recipe["lambda_flops"]
    if run.recipe["target_flops"] is not None:
        return f"target_flops={2 * run.recipe['target_flops']:g}"
    if wanted := run.recipe["target_p99"]:
        documents = f"{wanted['documents']:g}"
        return f"target_p99={{milliseconds: {2 * wanted['milliseconds']:g}, documents: {documents}}}"
    return f"lambda_flops={factor * weight:g} (now {weight:g})" if weight else "a smaller learning_rate"


def ramp(run: TrainingRun) -> Finding | None:
    steps = run.recipe["num_steps"]
    if run.ramp_steps <= steps or not run.recipe["lambda_flops"]:
        return None
    share = (steps / run.ramp_steps) ** 2
    return warning(
        "ramp",
        f"{run.ramp_steps:,} steps, the run has {steps:,}: lambda ends at {share:.0%} of its weight",
        f"flops_ramp_steps={max(1, steps // 3)}: a third of num_steps",
    )


def agreement(run: TrainingRun) -> Finding | None:
    last = run.end("teacher_agreement")
    if math.isnan(last):
        return None
    found = f"{last:.0%} of the first places"
    if last < AGREEMENT:
        return warning(
            "teachers",
            found,
            f"the student does not follow: more num_steps, learning_rate={2 * run.recipe['learning_rate']:g}, or "
            "teachers that fit the data better (`neural-sparse judge-teachers`); pre-train first (recipe pretrain)",
        )
    return ok("teachers", found)


def saturation(run: TrainingRun) -> Finding | None:
    last = run.end("saturation")
    if math.isnan(last):
        return None
    found = f"{last:.0%} of the documents hold each of the 10 most frequent terms"
    if last > SATURATED:
        return warning(
            "frequent terms",
            found,
            "a query that holds one reads the whole index: frequency_weighted_flops=true, or "
            f"lambda_flops={_more_lambda(run.recipe['lambda_flops'])} (now {run.recipe['lambda_flops']:g})",
        )
    return ok("frequent terms", found)


def dimensions(run: TrainingRun) -> Finding | None:
    """Do documents differ at all."""
    dead, count = run.end("dead_dimensions"), run.end("nonzero_terms")
    documents = run.recipe["logging_steps"] * run.recipe["batch_size"]
    if math.isnan(dead) or not run.idf or count < FEW_TERMS or documents < 2 * ALIKE:
        return None
    used = (1 - dead) * len(run.idf)
    found = f"{used:,.0f} of {len(run.idf):,} in use between two log lines"
    if used < ALIKE * count:
        return warning(
            "dimensions",
            f"{found}, {count:,.0f} of them in each document",
            "all documents look alike: learning_rate="
            f"{run.recipe['learning_rate'] / 2:g}, ranking={{kl: 1, info_nce: 0.1}}, or another init",
        )
    return ok("dimensions", found)


def gradients(run: TrainingRun) -> Finding | None:
    norms = run.values("grad_norm")
    if len(norms) < LINES or not np.isfinite(norms).all():
        return None
    first, last = run.start("grad_norm"), run.end("grad_norm")
    found = f"norm {first:.3g} to {last:.3g}"
    if last > GRADIENT * first:
        return warning(
            "gradients",
            f"{found}: it grows",
            f"learning_rate={run.recipe['learning_rate'] / 2:g}, max_grad_norm=1 (now {run.recipe['max_grad_norm']:g})",
        )
    return ok("gradients", found)


def dev(run: TrainingRun) -> Finding | None:
    if len(run.dev) < 2:
        return None
    best = max(run.dev, key=lambda row: row["ndcg10"])
    last = run.dev[-1]
    steps = [f"{row['ndcg10']:.3f} at step {row['step']:,.0f}" for row in (best, last)]
    found = f"nDCG@10 {', '.join(steps)}"
    if last["ndcg10"] >= best["ndcg10"] - DEV_LOSS:
        return ok("dev collection", found)
    kept = (
        f"the last one is the model, for {_cost_target(run)}" if _cost_target(run) else "the best one is kept"
    )
    if run.recipe["early_stopping"] is not None:
        return ok("dev collection", f"{found}; {kept}")
    stop = "" if _cost_target(run) else "early_stopping=3, "
    return warning(
        "dev collection",
        f"{found}: it falls ({kept})",
        f"{stop}num_steps={best['step']:.0f}, learning_rate={run.recipe['learning_rate'] / 2:g}, or "
        f"{_less_pressure(run)}",
    )


def truncation(run: TrainingRun) -> Finding | None:
    if run.cut is None:
        return None
    length = run.recipe["max_length"]
    found = f"{run.cut:.0%} of the documents are longer than max_length={length}"
    if run.cut > CUT:
        return warning(
            "truncation",
            found,
            f"max_length={2 * length} (with half the batch_size), encode_max_length={2 * length} for the finished "
            "model alone, or shorter passages",
        )
    return ok("truncation", found)


def _cost_target(run: TrainingRun) -> str | None:
    """The key that lambda was controlled for."""
    return (
        "target_p99" if run.recipe["target_p99"] else "target_flops" if run.recipe["target_flops"] else None
    )


def target(run: TrainingRun) -> Finding | None:
    key = _cost_target(run)
    if key == "target_p99":
        wanted, reached = run.recipe["target_p99"]["milliseconds"], run.end("estimated_p99_ms")
    else:
        wanted, reached = run.recipe["target_flops"], run.end("estimated_flops")
    if key is None or math.isnan(reached):
        return None
    found = f"{reached:.2f} of {wanted:g} wanted"
    if run.finished and abs(reached - wanted) > MISSED * wanted:
        return warning(
            key,
            found,
            f"num_steps={round(MORE_STEPS * run.recipe['num_steps'])}, or a lambda_flops nearer to what the run ended "
            f"with ({run.end('lambda'):.2g}, began at {run.recipe['lambda_flops']:g})",
        )
    return ok(key, found)


RULES: tuple[Rule, ...] = (
    state, finite, learning_rate, ranking_loss, easy, terms, ramp, agreement, saturation, dimensions, gradients, dev,
    truncation, target,
)  # fmt: skip
