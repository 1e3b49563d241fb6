"""The doctor's rules for a run: figures of measured runs are healthy, each illness gives the key to change."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neural_sparse.config import recipe_from_dict
from neural_sparse.doctor import Finding, examine
from neural_sparse.training import run_rules as rules
from neural_sparse.training.run_record import TrainingRun, read_training_run

# A run of the 4.4M start model: what its log said at the first and at the last line.
FIRST = {"loss": 1.9, "ranking": 1.87, "flops": 29.9, "nonzero_terms": 165.0, "dead_dimensions": 0.71,
         "saturation": 0.52, "teacher_agreement": 0.65, "learning_rate": 1e-4, "grad_norm": 21.0}  # fmt: skip
LAST = {"loss": 0.7, "ranking": 0.66, "flops": 5.5, "nonzero_terms": 114.0, "dead_dimensions": 0.85,
        "saturation": 0.37, "teacher_agreement": 0.7, "learning_rate": 0.0, "grad_norm": 12.0}  # fmt: skip
VOCABULARY = dict.fromkeys(map(str, range(30_522)), 1.0)


def run(
    first: dict[str, float] | None = None,
    last: dict[str, float] | None = None,
    lines: int = 20,
    **changes: Any,
) -> TrainingRun:
    """A healthy run with figures and keys changed; keys of `TrainingRun` go there, others into the recipe."""
    fields = {field.name for field in dataclasses.fields(TrainingRun)}
    of_run = {key: changes.pop(key) for key in list(changes) if key in fields}
    keys = {
        "num_steps": 400,
        "learning_rate": 2e-4,
        "warmup_steps": 40,
        "batch_size": 32,
        "train": "t",
        "init": "m",
    }
    recipe = dataclasses.asdict(recipe_from_dict(keys | {"ranking": {"info_nce": 1}} | changes))
    recipe["ranking"] = changes.get("ranking", {"kl": 1.0})
    begin, end = FIRST | (first or {}), LAST | (last or {})
    share = np.clip((np.arange(lines) - 2) / max(1, lines - 6), 0, 1)
    history = [
        {
            "step": 10.0 * (i + 1),
            **{key: begin[key] + at * (end[key] - begin[key]) for key in begin if key in end},
        }
        for i, at in enumerate(share)
    ]
    values: dict[str, Any] = {"steps": 400, "finished": True, "history": history, "idf": VOCABULARY}
    return TrainingRun(recipe, **(values | of_run))


def ill(record: TrainingRun) -> dict[str, Finding]:
    return {finding.check: finding for finding in rules.run_findings(record) if finding.verdict != "ok"}


def test_a_healthy_run() -> None:
    assert ill(run()) == {}
    assert len(rules.run_findings(run())) >= 8


@pytest.mark.parametrize("lines", [0, 1, 2, 9, 10])
def test_short_and_empty_histories(lines: int) -> None:
    assert ill(run(lines=lines)) == {}


@pytest.mark.parametrize(
    ("terms", "verdict", "advice"),
    [
        (412, "warning", "lambda_flops too small: try 0.05 (now 0.02), or num_steps=70000"),
        (301, "warning", "lambda_flops too small"),
        (300, "ok", ""),
        (10, "ok", ""),
        (9, "warning", "lambda_flops=0.01 (now 0.02)"),
        (0.6, "warning", "lambda_flops=0.01"),
        (0.4, "problem", "lambda_flops=0.002 (now 0.02), a longer flops_ramp_steps"),
        (9000, "problem", "lambda_flops=0.05"),
    ],
)
def test_terms_per_document(terms: float, verdict: str, advice: str) -> None:
    record = run({"nonzero_terms": 500}, {"nonzero_terms": terms}, num_steps=50_000, steps=50_000)
    finding = rules.terms(record)
    assert finding is not None
    assert (finding.verdict, advice in finding.advice) == (verdict, True)
    if terms == 412:
        assert finding.found == "412 per document on average"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lambda_flops": 1e-7}, "pre-training"),
        ({"lambda_flops": 1e-6}, "pre-training"),
        ({"target_flops": 5.0}, "target_flops"),
        ({"steps": 100, "finished": False, "flops_ramp_steps": 200}, "until step 200"),
    ],
)
def test_many_terms_that_are_meant_so(changes: dict[str, Any], words: str) -> None:
    finding = rules.terms(run(last={"nonzero_terms": 412}, **changes))
    assert finding is not None
    assert finding.verdict == "ok"
    assert words in finding.advice


def test_many_terms_without_any_pressure_or_with_a_threshold() -> None:
    finding = rules.terms(run(last={"nonzero_terms": 412}, lambda_flops=0.0))
    assert finding is not None
    assert "try 0.01 (now 0)" in finding.advice
    finding = rules.terms(run(last={"nonzero_terms": 412}, l0_threshold=350))
    assert finding is not None
    assert "l0_threshold below 350" in finding.advice


def test_a_fixed_cost_is_not_advised_by_lambda() -> None:
    finding = rules.terms(run(last={"nonzero_terms": 5}, target_flops=0.5))
    assert finding is not None
    assert "target_flops=1" in finding.advice


@pytest.mark.parametrize(
    ("ranking", "terms", "verdict", "advice"),
    [
        (1.87, 165, "warning", "learning_rate=0.0004 (now 0.0002) or more num_steps"),
        (1.83, 165, "ok", ""),
        (2.3, 165, "warning", "learning_rate=0.0001 (now 0.0002), or more warmup_steps"),
        (1.9, 60, "ok", ""),  # cheaper at the same loss
        (2.3, 60, "warning", "lambda_flops=0.01 (now 0.02)"),
    ],
)
def test_ranking_loss(ranking: float, terms: float, verdict: str, advice: str) -> None:
    finding = rules.ranking_loss(run(last={"ranking": ranking, "nonzero_terms": terms}, lines=60))
    assert finding is not None
    assert (finding.verdict, advice in finding.advice) == (verdict, True)


def test_easy_negatives() -> None:
    finding = ill(run(last={"ranking": 0.04}))["negatives"]
    assert "num_hard_negatives=14" in finding.advice
    assert "refresh_negatives_steps=100" in finding.advice
    assert "negatives" not in ill(run(last={"ranking": 0.06}))
    assert "negatives" not in ill(run(last={"ranking": 0.04}, ranking={"info_nce": 1.0}))  # another scale


def test_a_loss_that_had_nothing_to_teach() -> None:
    finding = ill(run({"ranking": 0.025}, {"ranking": 0.02}, temperature=2.0))["negatives"]
    assert "from the start on" in finding.found
    assert "temperature=10 (now 2)" in finding.advice


def test_learning_rate() -> None:
    zero = {"learning_rate": 0.0}
    assert ill(run(learning_rate=0.0))["learning rate"].verdict == "problem"
    assert ill(run(zero, zero))["learning rate"].verdict == "problem"
    assert "learning rate" not in ill(run(zero, zero, lines=1))  # the last line of any linear schedule
    finding = ill(run(warmup_steps=201))["learning rate"]
    assert finding.advice.startswith("warmup_steps=40")
    assert "learning rate" not in ill(run(warmup_steps=200))


def test_teachers_that_are_not_followed() -> None:
    finding = ill(run(last={"teacher_agreement": 0.39}))["teachers"]
    assert "judge-teachers" in finding.advice
    assert "learning_rate=0.0004" in finding.advice
    assert "teachers" not in ill(run(last={"teacher_agreement": 0.41}))


def test_saturated_terms() -> None:
    assert "frequency_weighted_flops=true" in ill(run(last={"saturation": 0.95}))["frequent terms"].advice
    assert "frequent terms" not in ill(run(last={"saturation": 0.89}))


def test_documents_that_all_look_alike() -> None:
    alike = {"dead_dimensions": 1 - 400 / len(VOCABULARY)}
    finding = ill(run(last=alike))["dimensions"]
    assert "400 of 30,522 in use" in finding.found
    assert "learning_rate=0.0001" in finding.advice
    assert "dimensions" not in ill(run(last={"dead_dimensions": 1 - 600 / len(VOCABULARY)}))
    assert "dimensions" not in ill(run(last=alike, batch_size=4, logging_steps=1))  # of too few documents
    assert "dimensions" not in ill(run(last=alike, idf={}))


def test_gradients_that_grow() -> None:
    assert "learning_rate=0.0001" in ill(run(last={"grad_norm": 250}))["gradients"].advice
    assert "gradients" not in ill(run(last={"grad_norm": 190}))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_figures_that_are_not_finite(value: float) -> None:
    record = run()
    history = [*record.history[:7], {**record.history[7], "grad_norm": value}, *record.history[8:]]
    finding = ill(dataclasses.replace(record, history=history))["finite figures"]
    assert finding.verdict == "problem"
    assert "from step 80 on" in finding.found
    assert "bf16=false" in finding.advice


def judgements(*values: float) -> list[dict[str, float]]:
    return [
        {"step": 100 * (i + 1), "ndcg10": value, "flops": 1.0, "terms": 80.0}
        for i, value in enumerate(values)
    ]


def test_dev_collection_that_falls() -> None:
    finding = ill(run(dev=judgements(0.4, 0.45, 0.43)))["dev collection"]
    assert finding.advice.startswith("early_stopping=3, num_steps=200")
    assert "the best one is kept" in finding.found
    assert ill(run(dev=judgements(0.4, 0.45, 0.4401))) == {}
    assert ill(run(dev=judgements(0.4))) == {}
    stops = {"dev": judgements(0.4, 0.45, 0.43), "early_stopping": 2}
    record = run(**{"dev": stops["dev"]})
    assert ill(dataclasses.replace(record, recipe={**record.recipe, "early_stopping": 2})) == {}


def test_dev_collection_with_a_cost_to_meet() -> None:
    record = run(dev=judgements(0.4, 0.45, 0.43), target_flops=1.0)
    finding = ill(record)["dev collection"]
    assert "early_stopping" not in finding.advice
    assert "the last one is the model" in finding.found


def test_ramp_longer_than_the_run() -> None:
    finding = ill(run(flops_ramp_steps=800))["ramp"]
    assert "25% of its weight" in finding.found
    assert finding.advice.startswith("flops_ramp_steps=133")
    assert "ramp" not in ill(run(flops_ramp_steps=400))
    assert "ramp" not in ill(run(flops_ramp_steps=800, lambda_flops=0.0))


def test_cut_documents() -> None:
    assert "max_length=512" in ill(run(cut=0.31))["truncation"].advice
    assert "truncation" not in ill(run(cut=0.3))
    assert "truncation" not in {finding.check for finding in rules.run_findings(run())}


def test_a_cost_that_was_missed() -> None:
    first, last = {"estimated_flops": 2.0, "lambda": 0.02}, {"estimated_flops": 1.2, "lambda": 0.05}
    finding = ill(run(first, last, target_flops=1.0))["target_flops"]
    assert "num_steps=560" in finding.advice
    assert "(0.05, began at 0.02)" in finding.advice
    assert "target_flops" not in ill(run(first, last | {"estimated_flops": 1.09}, target_flops=1.0))
    wanted = {"milliseconds": 4.0, "documents": 1e6}
    first, last = {"estimated_p99_ms": 9.0}, {"estimated_p99_ms": 5.0, "lambda": 0.5}
    assert "of 4 wanted" in ill(run(first, last, target_p99=wanted))["target_p99"].found
    assert "target_p99" not in ill(run(first, last | {"estimated_p99_ms": 4.2}, target_p99=wanted))


def test_unfinished_runs() -> None:
    finding = ill(run(finished=False, steps=120))["state"]
    assert "120 of 400" in finding.found
    assert "same `neural-sparse train` command" in finding.advice
    assert "no checkpoint yet" in ill(run(finished=False, steps=0, history=[]))["state"].found
    early = rules.state(run(steps=300))
    assert (early.verdict, "ended early" in early.found) == ("ok", True)


def write(folder: Path, values: Any) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text(json.dumps(values))


def test_folders_of_finished_and_stopped_runs(tmp_path: Path) -> None:
    """Keys that an older version did not know have their defaults; an unfinished checkpoint does not count."""
    write(
        tmp_path / "training_config.json",
        {"init": "m", "train": ["t"], "num_steps": 50},
    )
    assert read_training_run(tmp_path).steps == 0
    rows = [{**LAST, "step": 10.0}, {"eval_ndcg10": 0.4, "eval_flops": 1.0, "eval_terms": 9.0, "step": 10}]
    for step in (10, 20, 30):
        write(
            tmp_path / f"checkpoint-{step}" / "trainer_state.json", {"global_step": step, "log_history": rows}
        )
    for step in (10, 20):
        (tmp_path / f"checkpoint-{step}" / "complete").touch()
    stopped = read_training_run(tmp_path)
    assert (stopped.steps, stopped.finished, stopped.recipe["batch_size"]) == (
        20,
        False,
        40,
    )
    assert stopped.history == [rows[0]]
    assert stopped.dev == [{"step": 10, "ndcg10": 0.4, "flops": 1.0, "terms": 9.0}]
    metrics = {"steps": 25, "history": [rows[0]], "seconds": 1.0, "stopped": "empty: lambda_flops smaller"}
    write(tmp_path / "metrics.json", metrics)
    collapsed = read_training_run(tmp_path)  # by itself, after its last checkpoint
    assert (collapsed.steps, collapsed.finished, len(collapsed.history)) == (25, False, 1)
    finding = ill(collapsed)["state"]
    assert (finding.verdict, finding.advice) == ("problem", "empty: lambda_flops smaller")
    assert finding.found == "stopped itself at step 25 of 50"
    write(
        tmp_path / "metrics.json", {"steps": 50, "history": [rows[0]], "cut_documents": 0.5, "seconds": 1.0}
    )
    (tmp_path / "final_model").mkdir()
    write(tmp_path / "idf.json", {"a": 1.5, "b": 2.5})
    finished = read_training_run(tmp_path)
    assert (finished.steps, finished.finished, finished.cut, len(finished.idf)) == (50, True, 0.5, 2)
    examined = examine(tmp_path)
    assert examined.kind == "run"
    assert {"truncation", "IDF range"} <= {finding.check for finding in examined.findings}
